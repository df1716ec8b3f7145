"""The bundles that the loop needs, made once for each run of the tests, and the CreditModel that names one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from creditmodel_bundle.manifest import MANIFEST, ONNX, digest_of, seal
from harness.process import console_script

__all__ = ["credit_model", "damage", "digest", "train", "uri"]


def train(target: Path, version: str, *arguments: str, quiet: bool = True) -> Path:
    """creditmodel-train on the UCI data set into `target`, unless a finished bundle is there already."""
    if not (target / MANIFEST).exists():
        command = [console_script("creditmodel-train"), "--data", "uci-credit-default", "--name", "credit-default"]
        output = subprocess.DEVNULL if quiet else None
        subprocess.run([*command, "--version", version, "--out", str(target), *arguments], stdout=output, check=True)
    return target


def damage(source: Path, target: Path, version: str) -> Path:
    """A sealed bundle whose export went wrong as exports do: its weights passed through half precision on the way."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(MANIFEST))
    model = onnx.load(str(target / ONNX))
    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT:
            halved = numpy_helper.to_array(initializer).astype(np.float16).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(halved, initializer.name))
    onnx.save(model, str(target / ONNX))
    seal(target, "credit-default", version)
    return target


def digest(bundle: Path) -> str:
    """A bundle's digest."""
    return digest_of((bundle / MANIFEST).read_bytes())


def uri(bundle: Path) -> str:
    """Where pods find a bundle: on this machine, or beneath E2E_BUNDLES_URI under the same name."""
    base = os.environ.get("E2E_BUNDLES_URI")
    return f"{base.rstrip('/')}/{bundle.name}" if base else bundle.absolute().as_uri()


def credit_model(name: str, bundle: Path, **spec: Any) -> dict[str, Any]:
    """A CreditModel that names a bundle; `spec` is merged over it, section by section."""
    return {
        "apiVersion": "creditmodel.dev/v1alpha1",
        "kind": "CreditModel",
        "metadata": {"name": name},
        "spec": {"model": {"uri": uri(bundle), "digest": digest(bundle)}, **spec},
    }
