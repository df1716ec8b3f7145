"""MLServer with a runtime of a dozen lines, in one process, without metrics and access log: `serve.py BUNDLE`."""

from __future__ import annotations

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings, types
from mlserver.codecs import NumpyCodec
from model import Model, free_port


class Scoring(MLModel):
    """The graph as a runtime."""

    async def load(self) -> bool:
        self.graph = Model(sys.argv[1])
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        found = self.graph.probabilities(NumpyCodec.decode_input(payload.inputs[0]))
        output = types.ResponseOutput(name="probability", shape=[len(found)], datatype="FP32", data=found)
        return types.InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    port = free_port()
    settings = Settings(
        host="127.0.0.1", http_port=port, grpc_port=free_port(), parallel_workers=0, debug=False, metrics_endpoint=None
    )
    print(f"http://127.0.0.1:{port}", flush=True)
    await MLServer(settings).start([ModelSettings(name="scoring", implementation=Scoring)])


asyncio.run(main())
