"""What every peer serves: the bundle's graph by ONNX Runtime with one thread, as the scoring server calls it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


class Model:
    """One graph; rows of numbers in, probabilities out."""

    def __init__(self, bundle: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(Path(bundle) / "model.onnx")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def probabilities(self, rows: Any) -> list[float]:
        """Probability of default of each row."""
        given = {"features": np.asarray(rows, np.float32)}
        found: list[float] = self._session.run(["probability"], given)[0].tolist()
        return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
