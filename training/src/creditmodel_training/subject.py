"""What parity and benchmark are about: the two models of a bundle, or any two files."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.errors import BundleInvalid
from creditmodel_bundle.manifest import CONTRACT, ONNX, PYTORCH, REFERENCE
from creditmodel_bundle.storage import fetch
from creditmodel_training.model.own import INPUT, OUTPUTS
from creditmodel_training.runners import ModelMismatch, OnnxRunner, Runner, load_runner

__all__ = ["Subject", "feature_count", "opened_bundle", "opened_files"]


@dataclass(frozen=True)
class Subject:
    """Two model files and what is known of them. `digest` is that of the bundle they come from."""

    pytorch: Path
    onnx: Path
    contract: Contract | None = None
    reference: Path | None = None
    digest: str | None = None

    def runners(self, threads: int = 1) -> tuple[Runner, Runner]:
        """Load both. Raises ModelUnreadable, and ModelMismatch when one of them is not the contract's width, or the
        graph of a bundle is none that the server would take."""
        pair = load_runner(self.pytorch, threads), load_runner(self.onnx, threads)
        if self.digest is not None:
            _check_servable(pair[1])
        feature_count(self.contract, pair)
        return pair


@contextlib.contextmanager
def opened_bundle(uri: str, digest: str | None) -> Iterator[Subject]:
    """Fetch and verify a bundle for as long as the context lasts. Raises BundleError."""
    with tempfile.TemporaryDirectory(prefix="creditmodel-") as directory:
        bundle = fetch(uri, Path(directory), digest)
        yield Subject(
            pytorch=bundle.path(PYTORCH),
            onnx=bundle.path(ONNX),
            contract=Contract.read(bundle.path(CONTRACT)),
            reference=bundle.path(REFERENCE),
            digest=bundle.digest,
        )


@contextlib.contextmanager
def opened_files(pytorch: Path, onnx: Path, contract: Path | None, reference: Path | None) -> Iterator[Subject]:
    """Take files as they are. Raises BundleInvalid for a contract that cannot be read, or a reference without one."""
    if reference is not None and contract is None:
        raise BundleInvalid("--reference needs --contract, which says what its columns mean to the model")
    if contract is not None and not contract.is_file():
        raise BundleInvalid(f"{contract} is no file")
    yield Subject(pytorch, onnx, Contract.read(contract) if contract else None, reference)


def _check_servable(onnx: Runner) -> None:
    if not isinstance(onnx, OnnxRunner):
        raise ModelMismatch(f"{ONNX} is a PyTorch file")
    if onnx.input != INPUT:
        raise ModelMismatch(f"the graph's input is called {onnx.input!r}; the server gives it {INPUT!r}")
    if absent := [name for name in OUTPUTS if name not in onnx.outputs]:
        raise ModelMismatch(f"the graph gives {', '.join(onnx.outputs)}, and not {', '.join(absent)}")


def feature_count(contract: Contract | None, runners: tuple[Runner, Runner]) -> int:
    """The number of features that the contract and both models agree on. Raises ModelMismatch."""
    widths = {f"the {runner.name} model": runner.features for runner in runners if runner.features is not None}
    if contract is not None:
        widths["the contract"] = len(contract.features)
    if len(set(widths.values())) > 1:
        raise ModelMismatch("; ".join(f"{who} takes {width} features" for who, width in widths.items()))
    if not widths:
        raise ModelMismatch("neither model says how many features it takes; give --contract")
    return next(iter(widths.values()))
