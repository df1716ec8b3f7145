"""LitServe with one API server and one worker: `serve.py BUNDLE`."""

from __future__ import annotations

import sys
from typing import Any

import litserve
from model import Model, free_port

BUNDLE = sys.argv[1]


class Scoring(litserve.LitAPI):
    """The graph as an API."""

    def setup(self, device: str) -> None:
        self.graph = Model(BUNDLE)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe makes the annotation a query
        return request["rows"]

    def predict(self, x: Any) -> list[float]:
        return self.graph.probabilities(x)

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        return {"probabilities": output}


if __name__ == "__main__":
    port = free_port()
    print(f"http://127.0.0.1:{port}", flush=True)
    server = litserve.LitServer(Scoring(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=port, num_api_servers=1, log_level="error", access_log=False, generate_client_file=False
    )
