"""The servers that a user would pick instead: installed each in an environment of its own, asked each in its own form.

They get the bundle's graph and nothing else: no contract, no reasons, no scoring log.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[2] / ".benchmarks" / "peers"
INSTALL_SECONDS = 900


SILENCE = ("BENTOML_DO_NOT_TRACK=True", "RAY_USAGE_STATS_ENABLED=0", "RAY_AUTH_MODE=disabled")
"""Nobody is told about the run, and nothing is written to the home directory."""


class PeerUnavailable(Exception):
    """This peer cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A server to compare with: where it answers, what it is asked, and where its answer has the probability."""

    name: str
    folder: str
    path: str
    ready: str
    body: Callable[[list[float]], object]
    probability: Callable[[Any], float]

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ENVIRONMENTS / self.folder / "bin" / "python"

    def command(self, bundle: Path) -> list[str]:
        """What starts it."""
        program = HERE / "peers" / self.folder / "serve.py"
        return ["env", f"PYTHONPATH={HERE / 'peers'}", *SILENCE, str(self.python), str(program), str(bundle.resolve())]


def _tensor(row: list[float]) -> object:
    return {"inputs": [{"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}


def _rows(row: list[float]) -> object:
    return {"rows": [row]}


def _of_tensor(answer: Any) -> float:
    return float(answer["outputs"][0]["data"][0])


def _of_list(answer: Any) -> float:
    return float((answer["probabilities"] if isinstance(answer, dict) else answer)[0])


INFER = "/v2/models/scoring/infer"
PEERS = (
    Peer("MLServer", "mlserver", INFER, "/v2/health/ready", _tensor, _of_tensor),
    Peer("KServe", "kserve", INFER, "/v2/models/scoring/ready", _tensor, _of_tensor),
    Peer("BentoML", "bentoml", "/score", "/readyz", _rows, _of_list),
    Peer("LitServe", "litserve", "/predict", "/health", _rows, _of_list),
    Peer("Ray Serve", "ray_serve", "/", "/-/healthz", _rows, _of_list),
)


def install(peer: Peer) -> None:
    """Make the peer's environment, unless it is there. Raises PeerUnavailable."""
    requirements = HERE / "peers" / peer.folder / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    directory = ENVIRONMENTS / peer.folder
    marker = directory / ".ready"
    if marker.exists() and marker.read_text() == wanted:
        return
    print(f"Installing {peer.name} in an environment of its own", file=sys.stderr)
    directory.parent.mkdir(parents=True, exist_ok=True)
    _run(peer, [sys.executable, "-m", "venv", "--clear", str(directory)])
    _run(peer, [str(peer.python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
    marker.write_text(wanted)


def _run(peer: Peer, command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as e:
        errors = [line for line in e.stderr.splitlines() if line.startswith("ERROR")] or ["it failed"]
        raise PeerUnavailable(f"{peer.name} cannot be installed: {errors[0][:200]}") from e
    except subprocess.TimeoutExpired as e:
        raise PeerUnavailable(f"{peer.name} could not be installed in {INSTALL_SECONDS} s") from e


def ask(url: str, body: bytes) -> Any:
    """One answer."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def check(peer: Peer, url: str, body: bytes, expected: float) -> None:
    """See to it that the peer gives the same probability. Raises PeerUnavailable."""
    try:
        found = peer.probability(ask(url, body))
    except (urllib.error.URLError, OSError, LookupError, TypeError, ValueError) as e:
        raise PeerUnavailable(f"{peer.name} gave no probability: {e!r}"[:300]) from e
    if abs(found - expected) > 1e-6:
        raise PeerUnavailable(f"{peer.name} gave the probability {found}, not {expected}")
