"""A scoring server of the repository's own environment, and what it says of a few applicants itself."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[4]
BIN = ROOT / ".venv" / "bin"
ROWS = 7

ENCODE = """
import json, runpy, sys
from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder
module = runpy.run_path(sys.argv[1])
contract = module["contract"]()
rows = module["applicants"](int(sys.argv[2]), seed=4)
print(json.dumps({"applicants": rows, "encoded": [Encoder(contract).encode(row) for row in rows]}))
"""


class Served(NamedTuple):
    """A server's address, applicants in the graph's numbers, and what /v1/score says of them."""

    url: str
    features: NDArray[np.float32]
    results: list[dict[str, Any]]

    def column(self, name: str) -> NDArray[Any]:
        """One figure of every applicant."""
        return np.array([result[name] for result in self.results])


def python(*arguments: str | Path) -> str:
    """What a program of the repository's environment prints."""
    command = [str(BIN / "python"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def post(url: str, document: object) -> Any:
    body = json.dumps(document).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz/ready", timeout=5):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("bundle")
    sample = ROOT / "tests/bench/serving/sample_bundle.py"
    python(sample, directory)
    made = json.loads(python("-c", ENCODE, sample, str(ROWS)))
    command = [str(BIN / "creditmodel-serve"), "--bundle", directory.as_uri(), "--port", "0", "--drain-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        wait_ready(url)
        results = post(f"{url}/v1/score", {"applicants": made["applicants"]})["results"]
        yield Served(url, np.array(made["encoded"], np.float32), results)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
