"""A closed-loop load of applicants: several clients, each sending its next request when the last is answered.

Clients keep their connections, as real ones do, and follow `Connection: close`. Whatever is not a 200 is a failure, and
so is a connection that breaks: nothing is sent twice.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Load", "load", "score"]


@dataclass
class Load:
    """What a load has seen so far."""

    answered: Counter[str] = field(default_factory=Counter)
    """Answers by the digest that gave them."""
    failures: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests sent and answered, failed ones included."""
        return sum(self.answered.values()) + len(self.failures)

    def quantile_ms(self, q: float) -> float:
        """Latency quantile in milliseconds."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def score(endpoint: str, applicants: Sequence[Mapping[str, Any]], timeout: float = 60) -> dict[str, Any]:
    """POST /v1/score once, on a connection of its own. Raises ValueError for an answer other than 200."""
    connection = _connect(endpoint, timeout)
    try:
        status, answer = _post(connection, applicants)
    finally:
        connection.close()
    if status != 200:
        raise ValueError(f"{status}: {answer}")
    return answer


@contextmanager
def load(
    endpoint: str, applicants: Sequence[Mapping[str, Any]], clients: int = 4, pause: float = 0.002
) -> Iterator[Load]:
    """Send applicants until the block ends."""
    seen, stop = Load(), threading.Event()
    threads = [
        threading.Thread(target=_client, args=(endpoint, applicants[i:] or applicants, pause, seen, stop), daemon=True)
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)


def _client(
    endpoint: str, applicants: Sequence[Mapping[str, Any]], pause: float, seen: Load, stop: threading.Event
) -> None:
    connection = _connect(endpoint, timeout=60)
    for applicant in itertools.cycle(applicants):
        if stop.is_set():
            break
        started = time.perf_counter()
        try:
            status, answer = _post(connection, [applicant])
        except (OSError, http.client.HTTPException) as e:
            seen.failures.append(f"{type(e).__name__}: {e}")
            connection.close()
            continue
        if status == 200:
            seen.answered[answer["model"]["digest"]] += 1
            seen.latencies_ms.append(1000 * (time.perf_counter() - started))
        else:
            seen.failures.append(f"{status}: {answer}")
        stop.wait(pause)
    connection.close()


def _connect(endpoint: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(endpoint)
    return http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)


def _post(
    connection: http.client.HTTPConnection, applicants: Sequence[Mapping[str, Any]]
) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"applicants": list(applicants)})
    connection.request("POST", "/v1/score", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read() or b"{}")
