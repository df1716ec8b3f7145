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
import pyarrow.parquet as pq
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
    "logged_rows",
    "publish",
    "train",
    "uri",
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
    subprocess.run([*command, *(("--rows", str(rows)) if rows else ())], stdout=subprocess.DEVNULL, check=True)
    found: list[dict[str, Any]] = json.loads(target.read_text())["applicants"]
    return found


def damage(source: Path, target: Path, version: str) -> Path:
    """A sealed bundle whose export went wrong as exports do: its weights passed through half precision on the way."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(MANIFEST))
    model = onnx.load(str(target / ONNX))
    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT:
            halved = numpy_helper.to_array(initializer).astype(np.float16).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(halved, initializer.name))
    onnx.save(model, str(target / ONNX))
    seal(target, MODEL, version)
    return target


def corrupt(source: Path, target: Path) -> Path:
    """A copy of a bundle with one flipped bit in its graph."""
    shutil.copytree(source, target)
    content = bytearray((target / ONNX).read_bytes())
    content[len(content) // 2] ^= 1
    (target / ONNX).write_bytes(content)
    return target


def logged_rows(log: str) -> int:
    """Rows that a scoring log holds by now."""
    files, root = filesystem(log)
    parts = files.glob(f"{root}/date=*/revision=*/*.parquet")
    return sum(pq.read_metadata(files.open(part)).num_rows for part in parts)


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
