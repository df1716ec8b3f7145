"""The scoring log: every decision with its inputs, as Parquet parts.

The event loop copies rows into a page of memory and goes on. A thread of its own turns full pages into Arrow columns,
and closes a part every few seconds: written whole, so that no reader meets half a part. Pages are bounded. While the
sink is slow or dead they fill up, and then rows are dropped and counted; no request ever waits.

That thread takes what the event loop leaves of the processor. Where that is too little, pages pile up, and a second
thread with a share of its own takes them until few are left: a thread may lower its priority, but not raise it again.
The second one also closes parts, as a sink must not wait for a processor in full use. One of them works at a time.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import random
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.errors import BundleError
from creditmodel_bundle.storage import write_bytes
from creditmodel_inference.memory import give_back_memory
from creditmodel_inference.pages import Page, Record, Span
from creditmodel_inference.turns import PATIENT_NICE, URGENT_NICE, step_back
from creditmodel_inference.window import FeatureWindow

if TYPE_CHECKING:
    from creditmodel_inference.answers import Identity
    from creditmodel_inference.parts import Layout, PartBuilder
    from creditmodel_inference.settings import LogSettings

__all__ = ["ScoringLog", "prepare_writing"]

logger = logging.getLogger(__name__)

MAX_PAGES = 64
"""Pages that may wait for the writer: 65,536 rows, which take 18 MB where a model has 23 features."""

URGENT_PAGES = 4
CALM_PAGES = 1
"""Waiting pages above which the urgent writer takes over, and down to which it writes."""

SPARE_PAGES = URGENT_PAGES + 2
"""Empty pages that are kept for the next rows until it is time to close parts: as many as bulk fills at once."""

BEHIND_PAGES = URGENT_PAGES
"""Pages above which bulk waits: more of them would only lie in memory (5 MB at 12 pages, in no less time a request)."""

MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024
"""Encoded parts kept while the sink fails; beyond that the oldest is given up, and its rows are counted as dropped."""

_DAY = 86_400_000_000
"""Microseconds."""

CLOSE_SECONDS = 15.0
"""How long a stopping server waits for the sink."""


@dataclass(frozen=True, slots=True)
class _Flush:
    """Asks the writer to close its parts; `last` ends it."""

    last: bool = False


@dataclass(slots=True)
class _Part:
    uri: str
    content: memoryview
    rows: int


def prepare_writing() -> None:
    """Import what the writer needs: during the first requests it would hold them up for tenths of a second."""
    # Arrow reads it when it is imported. Its own allocator keeps 20 MB more than the C library's.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    importlib.import_module("creditmodel_inference.parts")


class ScoringLog:
    """The log of one served model. `add` and `add_error` are for the event loop's thread."""

    def __init__(self, settings: LogSettings, contract: Contract, identity: Identity) -> None:
        self._settings = settings
        self._contract = contract
        self._identity = identity
        self.window = FeatureWindow(contract)
        self._page = Page(len(contract.features))
        self._spare: deque[Page] = deque(maxlen=SPARE_PAGES)
        self._queue: queue.SimpleQueue[Page | _Flush] = queue.SimpleQueue()
        self._waiting_pages = 0
        self._flush_waits = False
        self._at_sink = self._closing = self._ended = False
        self._added = self._dropped = self._abandoned = self._written = self._failures = 0
        self._lock = threading.Lock()
        self._instance = f"{socket.gethostname()[:40]}-{os.getpid()}"
        self._chain = secrets.token_hex(8)
        self._sequence = 0
        self._head = "0" * 64
        self._unwritten: list[_Part] = []
        self._layout: Layout | None = None
        self._builders: dict[str, PartBuilder] = {}
        self._flushing: _Flush | None = None
        self._writing = threading.Lock()
        self._calm, self._called = threading.Event(), threading.Event()
        self._calm.set()
        self._patient = threading.Thread(target=self._write_patiently, name="scoring-log", daemon=True)
        self._urgent = threading.Thread(target=self._write_urgently, name="scoring-log-2", daemon=True)

    def start(self) -> None:
        """Start the writers."""
        self._patient.start()
        self._urgent.start()

    def statistics(self) -> tuple[int, int, int, int]:
        """Rows that wait, rows written, rows dropped, failed attempts to write a part."""
        waiting = self._added - self._written - self._abandoned
        return waiting, self._written, self._dropped + self._abandoned, self._failures

    @property
    def is_behind(self) -> bool:
        """Whether pages pile up that the writer could take if it had the time. A slow sink is no such reason."""
        return self._waiting_pages > BEHIND_PAGES and not self._at_sink

    def add(self, features: NDArray[np.float64], records: Sequence[Record]) -> None:
        """Log rows: encoded features [n, F], n records in the same order."""
        if self._settings.sample_rate < 1.0:
            kept = self._sample(records)
            features, records = features[kept], [records[i] for i in kept]
        self._append(features, records)

    def draw(self) -> bool:
        """Whether a request is in the sample."""
        return random.random() < self._settings.sample_rate  # noqa: S311 - a sample, not a secret

    def add_span(self, features: NDArray[np.float64], span: Span) -> None:
        """Log consecutive rows of one request, encoded features [n, F]. Whoever calls has drawn the request."""
        self._append(features, span)

    def add_error(self, request_id: str, latency_us: int, error: str) -> None:
        """Log a request that was answered with a problem."""
        nothing = np.full((1, len(self._contract.features)), np.nan)
        self._append(nothing, [Record(request_id, 0, latency_us, error=error)])

    def flush(self) -> None:
        """Have everything so far written as parts, without waiting for it."""
        self._hand_over()
        if not self._flush_waits:
            # While the sink is slow one request is enough: they must not queue up in front of the last one.
            self._flush_waits = True
            self._queue.put(_Flush())

    def close(self) -> None:
        """Write everything, wait for it at most CLOSE_SECONDS, and end the writer."""
        self._hand_over()
        self._closing = True
        self._queue.put(_Flush(last=True))
        self._call_for_help()
        self._urgent.join(CLOSE_SECONDS)
        left = self.statistics()[0]
        if self._urgent.is_alive() or left:
            logger.error("the scoring log's sink took too long or failed: %d rows are lost", left)

    def _sample(self, records: Sequence[Record]) -> list[int]:
        """Rows of the requests that are drawn: all of a request's rows, or none."""
        drawn = {request_id: self.draw() for request_id in dict.fromkeys(record.request_id for record in records)}
        return [i for i, record in enumerate(records) if drawn[record.request_id]]

    def _append(self, features: NDArray[np.float64], told: Sequence[Record] | Span) -> None:
        now = time.time_ns() // 1000
        total, done = len(features), 0
        while done < total:
            if not self._page.room and not self._hand_over():
                self._dropped += total - done
                return
            rows = slice(done, done + min(self._page.room, total - done))
            part = told.take(rows) if isinstance(told, Span) else told[rows]
            self._page.add(features[rows], part, now)
            self._added += rows.stop - done
            done = rows.stop

    def _hand_over(self) -> bool:
        """Give the page to the writer and begin another; False while too many wait."""
        if not self._page.used:
            return True
        with self._lock:
            if self._waiting_pages >= MAX_PAGES:
                return False
            self._waiting_pages += 1
        self._queue.put(self._page)
        if self._waiting_pages > URGENT_PAGES:
            self._call_for_help()
        self._page = self._empty_page()
        return True

    def _empty_page(self) -> Page:
        try:
            return self._spare.pop()
        except IndexError:
            return Page(len(self._contract.features))

    # The writers' threads.

    def _write_patiently(self) -> None:
        step_back(PATIENT_NICE)
        while True:
            self._calm.wait()
            with self._writing:
                if self._ended:
                    return
                self._take(self._queue.get())
                if self._is_due:
                    self._call_for_help()

    def _write_urgently(self) -> None:
        step_back(URGENT_NICE)
        while not self._ended:
            self._called.wait()
            self._called.clear()
            with self._writing:
                self._close_what_is_due()
                while self._waiting_pages > CALM_PAGES or (self._closing and not self._ended):
                    self._take(self._queue.get())
                    self._close_what_is_due()
                self._calm.set()  # before the other one may write, whose call would be lost

    def _call_for_help(self) -> None:
        if self._calm.is_set():
            self._calm.clear()
            self._called.set()

    def _take(self, item: Page | _Flush) -> None:
        if isinstance(item, _Flush):
            self._flushing = item
            return
        try:
            self._add_page(item)
        except Exception:  # the log must outlive one bad page
            logger.exception("a page of the scoring log could not be encoded")
            self._abandoned += item.used
        with self._lock:
            self._waiting_pages -= 1
        item.clear()
        self._spare.append(item)

    @property
    def _is_due(self) -> bool:
        """Whether parts are to be closed."""
        full = any(builder.rows >= self._settings.rows for builder in self._builders.values())
        return full or self._flushing is not None

    def _close_what_is_due(self) -> None:
        if not self._is_due:
            return
        flush, self._flushing = self._flushing, None
        if flush is not None:
            self._flush_waits = False
        has_written = bool(self._builders)
        self._close_parts()
        if flush is not None:
            self.window.measure()  # no more often than that, as a part may be full after a second
            self._spare.clear()
            if has_written:
                give_back_memory()
        if flush is not None and flush.last:
            self._ended = True
            # Whoever keeps this line elsewhere can tell later that the chain's end was not cut off.
            anchor = f"{self._chain}:{self._sequence}:{self._head}"
            logger.info("the scoring log's chain ends", extra={"fields": {"anchor": anchor}})

    def _add_page(self, page: Page) -> None:
        rows = page.rows
        scored = ~np.isnan(rows.facts["probability"])
        self.window.add(rows.features if scored.all() else rows.features[scored])
        times = rows.facts["time"]
        first, last = int(times.min()) // _DAY, int(times.max()) // _DAY
        days = [first] if first == last else np.unique(times // _DAY).tolist()
        for day in days:
            self._builder(day).add(rows if first == last else rows.take(np.flatnonzero(times // _DAY == day)))

    def _builder(self, day: int) -> PartBuilder:
        """What collects the rows of a day, counted from 1970."""
        from creditmodel_inference.parts import Layout, PartBuilder

        date = datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()
        if date not in self._builders:
            self._layout = self._layout or Layout(self._contract, self._identity)
            self._builders[date] = PartBuilder(self._layout)
        return self._builders[date]

    def _close_parts(self) -> None:
        for date, builder in self._builders.items():
            self._sequence += 1
            content, self._head = builder.finish(self._chain, self._sequence, self._head)
            self._unwritten.append(_Part(self._part_uri(date), content, builder.rows))
        self._builders.clear()
        while sum(len(part.content) for part in self._unwritten) > MAX_UNWRITTEN_BYTES:
            self._abandoned += self._unwritten.pop(0).rows
        self._at_sink = True
        while self._unwritten and self._write(self._unwritten[0]):
            self._unwritten.pop(0)
        self._at_sink = False

    def _part_uri(self, date: str) -> str:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        name = f"part-{stamp}-{self._instance}-{self._sequence:06d}.parquet"
        return f"{self._settings.uri.rstrip('/')}/date={date}/revision={self._identity.revision}/{name}"

    def _write(self, part: _Part) -> bool:
        try:
            write_bytes(part.uri, part.content)
        except (BundleError, OSError) as e:
            self._failures += 1
            logger.warning("the scoring log cannot write %s: %s", part.uri, e)
            return False
        self._written += part.rows
        return True
