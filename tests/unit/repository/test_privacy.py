"""What runs a lender's models tells nobody of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["creditmodel_inference.blocks", "creditmodel_training.runners"])
def test_onnx_runtime_keeps_no_device_id(module: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    program = f"import {module}; import onnxruntime; onnxruntime.get_available_providers()"
    environment["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
