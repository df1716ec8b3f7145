"""Real servers on free loopback ports."""

from __future__ import annotations

import http.client
import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 120
Row = dict[str, Any]


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass
class Server:
    """A server process and its address."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def connect(self) -> http.client.HTTPConnection:
        """A connection of one's own."""
        return http.client.HTTPConnection(*self.address, timeout=DEADLINE_SECONDS)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own. Header names have underscores for hyphens."""
        connection = self.connect()
        try:
            return ask(connection, method, path, body, **headers)
        finally:
            connection.close()

    def score(self, *applicants: Row, **more: Any) -> Answer:
        """Score applicants."""
        body = json.dumps({"applicants": list(applicants), **more}).encode()
        return self.request("POST", "/v1/score", body, content_type="application/json")

    def wait_ready(self) -> None:
        """Wait until the server wants requests."""
        eventually(lambda: self.request("GET", "/healthz/ready").status == 200)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the server and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    """One request on a connection."""
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def eventually(condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for a condition; an error in it counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def sample() -> dict[str, Any]:
    """What the module that writes the sample bundle defines."""
    return runpy.run_path(str(ROOT / "tests/bench/serving/sample_bundle.py"))


@pytest.fixture(scope="session")
def bundle(sample: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample bundle's directory."""
    directory = tmp_path_factory.mktemp("bundle")
    sample["write"](directory)
    return directory


@pytest.fixture(scope="session")
def applicants(sample: dict[str, Any]) -> Callable[..., list[Row]]:
    """Makes applicants that the contract accepts."""
    made: Callable[..., list[Row]] = sample["applicants"]
    return made


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers; they end with the session."""
    running: list[Server] = []

    def run(bundle: Path | str, *arguments: str) -> Server:
        log = tmp_path_factory.mktemp("server") / "stderr"
        uri = bundle.as_uri() if isinstance(bundle, Path) else bundle
        command = [str(Path(sys.executable).with_name("creditmodel-serve")), "--bundle", uri, "--port", "0", *arguments]
        with log.open("w") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), log.read_text()
        server = Server(process, url, log)
        running.append(server)
        return server

    yield run
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(DEADLINE_SECONDS)
        if server.process.stdout is not None:
            server.process.stdout.close()


@pytest.fixture(scope="session")
def server(start: Callable[..., Server], bundle: Path) -> Server:
    """A server that several tests share."""
    made = start(
        bundle, "--revision", "sample-r1", "--max-rows", "500", "--max-body-bytes", "1000000", "--drain-seconds", "0"
    )
    made.wait_ready()
    return made
