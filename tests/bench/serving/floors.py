"""The two floors that the scoring server is measured against.

`python floors.py constant` is uvicorn answering a constant of an answer's size: what HTTP alone costs.
`python floors.py ort BUNDLE` is ONNX Runtime called in a loop on the same rows: what the model alone costs.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWER = b"x" * 700


async def constant(scope: Any, receive: Any, send: Any) -> None:
    """Read the request, answer the constant."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def serve_constant() -> None:
    """Serve it on a free port, and print the address."""
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setblocking(False)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        constant, loop="uvloop", http="httptools", lifespan="off", log_config=None, access_log=False
    )
    uvicorn.Server(config).run([listener])


def loop_ort(bundle: Path) -> dict[str, float]:
    """Calls a second with one row, and seconds for 10,000 rows: the model alone, and with parsing their JSON."""
    import msgspec
    import numpy as np
    import onnxruntime as ort

    from creditmodel_bundle.contract import Contract
    from creditmodel_bundle.encoder import Encoder

    contract = Contract.read(bundle / "contract.json")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])
    golden = json.loads((bundle / "golden.json").read_bytes())["rows"]
    applicants = [row["features"] for row in golden]
    encoder = Encoder(contract)
    encoded = np.array([encoder.encode(row) for row in applicants], np.float32)
    one = encoded[:1]
    many = np.resize(encoded, (10_000, encoded.shape[1]))
    body = json.dumps({"applicants": [applicants[i % len(applicants)] for i in range(10_000)]}).encode()
    outputs = ["log_odds", "probability", "contributions"]
    return {
        "calls_per_s": 1 / _median(lambda: session.run(outputs, {"features": one}), 5_000),
        "batch_10000_s": _median(lambda: session.run(outputs, {"features": many}), 15),
        "parse_10000_s": _median(lambda: msgspec.json.decode(body), 15),
    }


def _median(action: Callable[[], object], times: int) -> float:
    action()
    durations = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        durations.append(time.perf_counter() - begun)
    return statistics.median(durations)


if __name__ == "__main__":
    if sys.argv[1] == "constant":
        serve_constant()
    else:
        print(json.dumps(loop_ort(Path(sys.argv[2]))))
