"""The bundles that the loop needs, made once for each run of the tests, and the CreditModel that names one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from onnx import numpy_helper

from creditmodel_bundle.manifest import MANIFEST, ONNX, digest_of, seal
from creditmodel_bundle.storage import filesystem, write_bytes
from harness.kubectl import Kubectl
from harness.process import console_script

__all__ = [
    "applicants",
    "children",
    "corrupt",
    "credit_model",
    "damage",
    "digest",
    "is_logged",
    "labelled",
    "publish",
    "sign",
    "train",
    "uri",
    "write_outcomes",
]

MODEL = "credit-default"


def train(target: Path, version: str, data: str, *arguments: str, quiet: bool = True) -> Path:
    """creditmodel-train on a data set into `target`, unless a finished bundle is there already."""
    if not (target / MANIFEST).exists():
        command = [console_script("creditmodel-train"), "--data", data, "--name", MODEL, "--version", version]
        output = subprocess.DEVNULL if quiet else None
        subprocess.run([*command, "--out", str(target), *arguments], stdout=output, stderr=output, check=True)
    return target


def applicants(data: str, target: Path, rows: int | None = None) -> list[dict[str, Any]]:
    """Applicants of a data set whom no model has learned from, as POST /v1/score takes them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [console_script("creditmodel-data"), "export", data, "--out", str(target)]
    command += ["--rows", str(rows)] if rows else []
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    found: list[dict[str, Any]] = json.loads(target.read_text())["applicants"]
    return found


def labelled(data: str, target: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Applicants of a data set whom no model has learned from, and what became of them: 1 for a default."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [console_script("creditmodel-data"), "export", data, "--labels", "--out", str(target)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    found: list[dict[str, Any]] = json.loads(target.read_text())["applicants"]
    return found, [applicant.pop("_label") for applicant in found]


def write_outcomes(place: str, keys: list[tuple[str, int]], labels: list[int]) -> None:
    """A table of outcomes: what became of each row of each request."""
    requests, rows = zip(*keys, strict=True)
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"_request_id": requests, "_row": rows, "_label": labels}), buffer)
    write_bytes(f"{place}/part-0.parquet", buffer.getvalue().to_pybytes())


def damage(source: Path, target: Path, version: str) -> Path:
    """A sealed bundle whose export went wrong as exports do: its weights passed through bfloat16 on the way."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(MANIFEST))
    model = onnx.load(str(target / ONNX))
    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT:
            rounded = _bfloat16(numpy_helper.to_array(initializer))
            initializer.CopyFrom(numpy_helper.from_array(rounded, initializer.name))
    onnx.save(model, str(target / ONNX))
    seal(target, MODEL, version)
    return target


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values with the upper 16 of their 32 bits, rounded; NaN and infinities stay what they are."""
    rounded = ((values.view(np.uint32) + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(values), rounded, values).astype(np.float32)


def corrupt(source: Path, target: Path) -> Path:
    """A copy of a bundle with one flipped bit in its graph."""
    shutil.copytree(source, target)
    content = bytearray((target / ONNX).read_bytes())
    content[len(content) // 2] ^= 1
    (target / ONNX).write_bytes(content)
    return target


def sign(bundle: Path, key: Path) -> None:
    """Sign a bundle where pods find it."""
    subprocess.run(
        [console_script("creditmodel-bundle"), "sign", uri(bundle), "--key", str(key)],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def is_logged(log: str, request_id: str) -> bool:
    """Whether a scoring log holds a request by now, and so every earlier one that the same pod answered."""
    files, root = filesystem(log)
    return any(
        pc.any(pc.equal(pq.read_table(files.open(part), columns=["_request_id"])["_request_id"], request_id)).as_py()
        for part in files.glob(f"{root}/date=*/revision=*/*.parquet")
    )


def digest(bundle: Path) -> str:
    """A bundle's digest."""
    return digest_of((bundle / MANIFEST).read_bytes())


def publish(bundle: Path) -> Path:
    """Copy a bundle beneath E2E_BUNDLES_URI, where that is set."""
    if os.environ.get("E2E_BUNDLES_URI"):
        for file in bundle.iterdir():
            write_bytes(f"{uri(bundle)}/{file.name}", file.read_bytes())
    return bundle


def uri(bundle: Path) -> str:
    """Where pods find a bundle: on this machine, or beneath E2E_BUNDLES_URI under the same name."""
    base = os.environ.get("E2E_BUNDLES_URI")
    return f"{base.rstrip('/')}/{bundle.name}" if base else bundle.absolute().as_uri()


def children(kubectl: Kubectl, name: str) -> list[str]:
    """What is left of a CreditModel's children and their pods."""
    kinds = "jobs,cronjobs,deployments,replicasets,horizontalpodautoscalers,poddisruptionbudgets,services,pods"
    found = kubectl("get", kinds, "--selector", f"app.kubernetes.io/instance={name}", "--output", "name")
    return found.split()


def credit_model(name: str, bundle: Path, **spec: Any) -> dict[str, Any]:
    """A CreditModel that names a bundle; `spec` is merged over it, section by section."""
    return {
        "apiVersion": "creditmodel.dev/v1alpha1",
        "kind": "CreditModel",
        "metadata": {"name": name},
        "spec": {"model": {"uri": uri(bundle), "digest": digest(bundle)}, **spec},
    }
