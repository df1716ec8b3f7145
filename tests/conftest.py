"""Fixtures that several suites share: an API server, and a namespace of one's own in it."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import random
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from creditmodel_sandbox.client import load_kubeconfig

JSON = dict[str, Any]
if not os.environ.get("KUBECONFIG"):  # then all that tests speak to is on this machine, whatever proxy the user has set
    os.environ.update(no_proxy="*", NO_PROXY="*")


class Answer(NamedTuple):
    """What the server said."""

    code: int
    body: Any
    warnings: list[str]


_KEPT: dict[tuple[str, ssl.SSLContext | None], http.client.HTTPConnection] = {}
"""Connections of the main thread, by URL and credentials: a TLS handshake costs both sides more than a request."""


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, data: bytes | None, sent: Mapping[str, str]
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, path, data, dict(sent))
    response = connection.getresponse()
    return response, response.read()


@dataclass
class ApiServer:
    """A running API server, and a way to talk to it that knows nothing but HTTP."""

    kubeconfig: Path
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        given = load_kubeconfig(self.kubeconfig)
        self.url = given.server
        self.tls = given.ssl if isinstance(given.ssl, ssl.SSLContext) else None
        if authorization := given.authorization():
            self.headers["Authorization"] = authorization

    def connect(self) -> http.client.HTTPConnection:
        """A connection of one's own, for watches and for closing it early."""
        address = urlsplit(self.url)
        if self.tls is None:
            return http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        return http.client.HTTPSConnection(address.hostname or "", address.port, context=self.tls, timeout=30)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; the body of the answer is decoded if it is JSON.

        A write has a connection of its own. Tests that wait read often, on one that is kept.
        """
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {**self.headers, "Accept": "application/json", "Content-Type": content_type, **(headers or {})}
        if method == "GET" and threading.current_thread() is threading.main_thread():
            response, text = self._read(path, data, sent)
        else:
            connection = self.connect()
            try:
                response, text = _exchange(connection, method, path, data, sent)
            finally:
                connection.close()
        is_json = "json" in response.headers.get("Content-Type", "")
        warnings = response.headers.get_all("Warning") or []
        return Answer(response.status, json.loads(text) if is_json else text.decode(), warnings)

    def _read(self, path: str, data: bytes | None, sent: Mapping[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        """A GET on the connection that is kept for this server, or a new one where that has been closed meanwhile."""
        key = (self.url, self.tls)
        kept = _KEPT.pop(key, None)
        if kept is not None:
            with contextlib.suppress(http.client.HTTPException, OSError):
                answer = _exchange(kept, "GET", path, data, sent)
                _KEPT[key] = kept
                return answer
            kept.close()
        connection = self.connect()
        try:
            answer = _exchange(connection, "GET", path, data, sent)
        except BaseException:
            connection.close()
            raise
        _KEPT[key] = connection
        return answer

    def get(self, path: str) -> Any:
        """The body of a GET that must succeed."""
        return self._succeed(self.request("GET", path))

    def post(self, path: str, body: Any) -> Any:
        """The body of a POST that must succeed."""
        return self._succeed(self.request("POST", path, body))

    def put(self, path: str, body: Any) -> Any:
        """The body of a PUT that must succeed."""
        return self._succeed(self.request("PUT", path, body))

    def delete(self, path: str, body: Any = None) -> Any:
        """The body of a DELETE that must succeed."""
        return self._succeed(self.request("DELETE", path, body))

    def patch(self, path: str, body: Any, kind: str = "merge-patch+json") -> Any:
        """The body of a PATCH that must succeed."""
        return self._succeed(self.request("PATCH", path, body, f"application/{kind}"))

    def apply(self, path: str, body: JSON, manager: str, force: bool = False, query: str = "") -> Answer:
        """Server-side apply; the answer may be a conflict."""
        full = f"{path}?fieldManager={manager}&force={str(force).lower()}{query}"
        return self.request("PATCH", full, body, "application/apply-patch+yaml")

    def make_namespace(self, name: str) -> None:
        """A namespace with the account that its pods need, which a controller may have made.

        Where there is none, pods mount no token, for that takes the certificate that a controller publishes.
        """
        self.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account: JSON = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        account["automountServiceAccountToken"] = False
        assert self.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account).code in (201, 409)

    def _succeed(self, answer: Answer) -> Any:
        assert answer.code < 400, answer.body
        return answer.body


@dataclass
class Row:
    """One line of a matrix: what was done to the system, and what came of it. Printed when all tests are over."""

    table: str
    case: str
    done: str = ""
    verdict: str = ""


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Callable[..., Row]:
    """Begins this test's line of a matrix; its `done` and `verdict` may be filled in as the test goes on."""

    def begin(table: str, case: str, done: str = "") -> Row:
        line = Row(table, case, done)
        request.node.user_properties.append(("matrix", line.__dict__))
        return line

    return begin


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the lines, table by table; reports carry them from the workers of a parallel run."""
    reports = [r for found in terminalreporter.stats.values() for r in found if getattr(r, "when", None) == "call"]
    rows = [(value, r) for r in reports for name, value in r.user_properties if name == "matrix"]
    for table in sorted({row["table"] for row, _ in rows}):
        terminalreporter.section(table)
        for line, report in sorted((pair for pair in rows if pair[0]["table"] == table), key=lambda p: p[1].nodeid):
            ok = "ok" if report.passed else "FAILED"
            terminalreporter.write_line(f"{line['case']:<58} | {line['done']} | {line['verdict']} | {ok}")


@pytest.fixture(scope="session")
def loopback_range() -> Callable[[], str]:
    """Gives ranges of loopback addresses, each once, and to no other process of a parallel run of the tests."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ranges = list(ipaddress.IPv4Network("127.128.0.0/10").subnets(new_prefix=20))[worker::workers]
    random.shuffle(ranges)  # another run of the tests on this machine begins elsewhere
    return lambda: str(ranges.pop())


@pytest.fixture(scope="session", autouse=True)
def kept_connections() -> Iterator[None]:
    """They are closed in the end."""
    yield
    for connection in _KEPT.values():
        connection.close()
    _KEPT.clear()


@pytest.fixture(scope="session")
def start_apiserver(
    tmp_path_factory: pytest.TempPathFactory, loopback_range: Callable[[], str]
) -> Iterator[Callable[..., ApiServer]]:
    """Starts API servers on free ports; `state` continues an earlier one's. They end with the session."""
    running: list[subprocess.Popen[str]] = []
    services: dict[Path, str] = {}

    def start(*arguments: str, state: Path | None = None) -> ApiServer:
        directory = state or tmp_path_factory.mktemp("apiserver")
        kubeconfig = directory / "kubeconfig"
        if directory not in services:
            services[directory] = loopback_range()
        options = ["--state-dir", str(directory), "--kubeconfig", str(kubeconfig)]
        options += ["--service-cidr", services[directory], *arguments]
        command = [sys.executable, "-m", "creditmodel_sandbox.cli", "apiserver", *options]
        with (directory / "log").open("a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("https://"), (directory / "log").read_text()
        server = ApiServer(kubeconfig)
        server.process = process  # type: ignore[attr-defined]  # only for tests that end it themselves
        return server

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def apiserver(start_apiserver: Callable[..., ApiServer]) -> ApiServer:
    """An API server of the sandbox without controllers and node."""
    return start_apiserver()


@pytest.fixture(scope="session")
def given_cluster() -> ApiServer | None:
    """The cluster of KUBECONFIG, for suites that run on any cluster; None where it names none."""
    given = os.environ.get("KUBECONFIG")
    return ApiServer(Path(given).absolute()) if given else None


@pytest.fixture
def namespace(apiserver: ApiServer) -> Iterator[str]:
    """The name of a new namespace, deleted afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    apiserver.make_namespace(name)
    yield name
    apiserver.request("DELETE", f"/api/v1/namespaces/{name}")


# Not of the session: conformance has another `apiserver`, and a worker may run its modules beside others.
@pytest.fixture(scope="module")
def kubectl(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs kubectl on the API server; its standard output. `fails=True` expects an error and gives its text."""
    binary = Path(sys.executable).parent / "kubectl"
    home = tmp_path_factory.mktemp("home")  # kubectl keeps a cache there

    def run(
        *arguments: str, stdin: str | None = None, fails: bool = False, env: Mapping[str, str] | None = None
    ) -> str:
        done = subprocess.run(
            [str(binary), "--kubeconfig", str(apiserver.kubeconfig), *arguments],
            input=stdin, capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})},
        )  # fmt: skip
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    return run
