"""What the serving process loads: it must start fast and stay small."""

from __future__ import annotations

import subprocess
import sys


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after a statement."""
    script = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_a_server_starts_without_what_it_does_not_serve_with() -> None:
    loaded = loaded_by("import creditmodel_inference.server")
    assert not loaded & {"torch", "pandas", "pyarrow", "evidently", "prometheus_client", "onnx", "scipy", "sklearn"}


def test_help_needs_neither_numpy_nor_the_framework() -> None:
    assert not loaded_by("import creditmodel_inference.cli") & {
        "numpy",
        "fastapi",
        "onnxruntime",
        "uvicorn",
        "pydantic",
    }
