"""KServe's Python server with one worker, without access log: `serve.py BUNDLE`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from kserve import InferOutput, InferResponse, ModelServer
from kserve import Model as Served
from model import Model, free_port


class Scoring(Served):
    """The graph as a predictor."""

    def __init__(self) -> None:
        super().__init__("scoring")
        self.graph = Model(sys.argv[1])
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> InferResponse:
        found = self.graph.probabilities(payload.inputs[0].as_numpy())
        output = InferOutput("probability", [len(found)], "FP32", data=found)
        return InferResponse(payload.id or "none", "scoring", [output])


port = free_port()
print(f"http://127.0.0.1:{port}", flush=True)
server = ModelServer(http_port=port, enable_grpc=False, workers=1, enable_latency_logging=False)
for name in ("kserve.trace", "uvicorn.access"):  # three lines a request
    logging.getLogger(name).setLevel(logging.WARNING)
server.start([Scoring()])
