"""BentoML with one worker, without tracing, metrics and access log: `serve.py BUNDLE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
from model import Model, free_port


@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    monitoring={"enabled": False},
)
class Scoring:
    """The graph as a service."""

    def __init__(self) -> None:
        self.graph = Model(os.environ["BUNDLE"])

    @bentoml.api
    async def score(self, rows: list[list[float]]) -> list[float]:
        """Probabilities of default."""
        return self.graph.probabilities(rows)


if __name__ == "__main__":
    port = free_port()
    os.environ["BUNDLE"] = sys.argv[1]
    print(f"http://127.0.0.1:{port}", flush=True)
    command = [
        "serve",
        "serve:Scoring",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--working-dir",
        str(Path(__file__).parent),
    ]
    os.execv(Path(sys.executable).with_name("bentoml"), ["bentoml", *command])
