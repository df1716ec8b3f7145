"""A sealed bundle on disk, and a web server that misbehaves on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from creditmodel_bundle import storage
from creditmodel_bundle.bins import freeze_numbers
from creditmodel_bundle.contract import Bins, Contract, Cutoff, Feature, Reason
from creditmodel_bundle.documents import Evaluation, Golden, GoldenRow, Holdout
from creditmodel_bundle.manifest import seal


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not sleep."""
    monkeypatch.setattr(storage, "BACKOFF_SECONDS", 0.0)


@dataclass(frozen=True)
class Sealed:
    """A bundle on disk."""

    directory: Path
    digest: str

    def change(self, **fields: object) -> str:
        """Change fields of the manifest itself; returns the new digest."""
        path = self.directory / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return reseal(self.directory)

    def entries(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads((self.directory / "manifest.json").read_text())["files"]
        return found


def reseal(directory: Path) -> str:
    """The digest of a directory's manifest as it lies there."""
    from creditmodel_bundle.manifest import digest_of

    return digest_of((directory / "manifest.json").read_bytes())


def documents() -> dict[str, str]:
    amount = Feature(name="amount", dtype="number", minimum=0, reason=Reason(code="A", text="Amount"))
    contract = Contract(
        name="toy",
        version="1",
        features=[amount],
        baseline_log_odds=0,
        cutoffs=[Cutoff(decision="approve", min_probability=0)],
        bins=Bins(rows=2, features={"amount": freeze_numbers([1.0, 2.0])}, score=freeze_numbers([0.0])),
    )
    evaluation = Evaluation(
        holdout=Holdout(rows=10, bad_rate=0.2, sha256="0" * 64),
        auc=0.7, ks=0.3, gini=0.4, brier=0.15, calibration=[],
    )  # fmt: skip
    row = GoldenRow(features={"amount": 1.0}, probability=0.5, log_odds=0, points=500, decision="approve", reasons=[])
    return {
        "contract.json": contract.model_dump_json(),
        "evaluation.json": evaluation.model_dump_json(),
        "golden.json": Golden(rows=[row]).model_dump_json(),
    }


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    """A bundle whose models are bytes of no meaning, two megabytes in all."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    for name, text in documents().items():
        (directory / name).write_text(text)
    for name, size in (("model.onnx", 1_500_000), ("model.pt", 500_000), ("reference.parquet", 3)):
        (directory / name).write_bytes((bytes(range(251)) * (size // 251 + 1))[:size])
    return Sealed(directory, seal(directory, "toy", "1.0", datetime(2026, 1, 1, tzinfo=UTC)))


Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class Web:
    """A web server over the bundle. `behave` replaces the answer to a path; `seen` are the requests."""

    url: str
    behave: dict[str, Behaviour] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def count(self, path: str) -> int:
        return sum(1 for _, seen, _ in self.seen if seen == path)


def answer(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """A plain, complete answer."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def web(sealed: Sealed) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.seen.append((self.command, self.path, dict(self.headers)))
            path = sealed.directory / self.path.rpartition("/")[2]
            body = path.read_bytes() if path.is_file() else b""
            behave = served.behave.get(self.path)
            try:
                if behave is not None:
                    behave(self, body)
                else:
                    answer(self, body, 200 if path.is_file() else 404)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Web(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            served.stop.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def respond() -> Callable[..., None]:
    """A plain, complete answer of a handler."""
    return answer
