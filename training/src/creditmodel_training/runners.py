"""The two ways to run a model, behind one face: the PyTorch network, and its ONNX graph under ONNX Runtime on the CPU.

ModelError                   a model file cannot be compared
├── ModelUnreadable          not a file that can be loaded (or not one that is safe to load)
├── ModelRefused             the model does not take these rows
└── ModelMismatch            two models that cannot be compared with one another
"""

from __future__ import annotations

import contextlib
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from creditmodel_training import model
from creditmodel_training.errors import ModelFileError
from creditmodel_training.model import CreditNetwork
from creditmodel_training.model.own import OUTPUTS

__all__ = [
    "FloatArray",
    "ModelError",
    "ModelMismatch",
    "ModelRefused",
    "ModelUnreadable",
    "OnnxRunner",
    "Runner",
    "TorchRunner",
    "load_runner",
    "pinned_threads",
    "run_in_batches",
]

FloatArray = NDArray[np.float32]
Outputs = dict[str, FloatArray]

_ORT_ERRORS = tuple(
    error for error in vars(ort_errors).values() if isinstance(error, type) and issubclass(error, Exception)
)
_PLACE = re.compile(r"/\S+:\d+ .*?\) (?=[A-Z])")
"""Where in its own sources ONNX Runtime failed: a file, a line and a signature, longer than the message after it."""

_TORCH_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)


class ModelError(Exception):
    """A model file cannot be compared. `reason` is the CamelCase constant that a measurement repeats."""

    reason = "ModelError"


class ModelUnreadable(ModelError):
    """Not a file that can be loaded, or not one that is safe to load."""

    reason = "ModelUnreadable"


class ModelRefused(ModelError):
    """The model does not take these rows."""

    reason = "ModelRefused"


class ModelMismatch(ModelError):
    """Two models that cannot be compared with one another."""

    reason = "ModelMismatch"


class Runner(Protocol):
    """A loaded model. `features` is the width of its input, None where the model does not say."""

    @property
    def name(self) -> str: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    @property
    def features(self) -> int | None: ...

    def run(self, rows_bf: FloatArray) -> Outputs:
        """Score rows (batch × features, NaN is missing). Raises ModelRefused."""
        ...

    def prepared(self, rows_bf: FloatArray) -> Callable[[], object]:
        """A call that scores these rows and does nothing else, for timing; to be made under torch.inference_mode()."""
        ...


class OnnxRunner:
    """An ONNX graph with one float32 input, under ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.name = "onnx"
        self._session = _session(path, threads)
        self.input, self.features = _single_input(path, self._session)
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, rows_bf: FloatArray) -> Outputs:
        """Score rows, see Runner."""
        try:
            values = self._session.run(None, {self.input: rows_bf})
        except _ORT_ERRORS as e:
            raise ModelRefused(f"the ONNX graph fails on {_shape(rows_bf)}: {_first_line(e)}") from e
        return dict(zip(self.outputs, values, strict=True))

    def prepared(self, rows_bf: FloatArray) -> Callable[[], object]:
        """A timed call, see Runner."""
        return partial(self._session.run, None, {self.input: rows_bf})


class TorchRunner:
    """A PyTorch module that returns the tensors named in OUTPUTS, in evaluation mode."""

    def __init__(self, module: torch.nn.Module, features: int | None = None) -> None:
        self.name = "pytorch"
        self._module = module.eval()
        self.outputs: tuple[str, ...] = OUTPUTS
        self.features = features

    def run(self, rows_bf: FloatArray) -> Outputs:
        """Score rows, see Runner."""
        try:
            with torch.inference_mode():
                values = self._module(torch.from_numpy(rows_bf))
        except _TORCH_ERRORS as e:
            raise ModelRefused(f"the PyTorch model fails on {_shape(rows_bf)}: {_first_line(e)}") from e
        return {name: value.numpy() for name, value in zip(OUTPUTS, values, strict=True)}

    def prepared(self, rows_bf: FloatArray) -> Callable[[], object]:
        """A timed call, see Runner; converts nothing between tensors and arrays, which favours PyTorch."""
        return partial(self._module, torch.from_numpy(rows_bf))


def load_runner(path: Path, threads: int = 1) -> Runner:
    """Load a model file, whichever of the two kinds its bytes are. Raises ModelUnreadable."""
    if not path.is_file():
        raise ModelUnreadable(f"{path} is no file")
    if not zipfile.is_zipfile(path):
        return OnnxRunner(path, threads)
    _refuse_programs(path)
    network = _network(path)
    return TorchRunner(network, network.features)


def run_in_batches(runner: Runner, rows_bf: FloatArray, sizes: Iterator[int]) -> Outputs:
    """Score all rows in consecutive batches of these sizes. Raises ModelRefused."""
    parts: list[Outputs] = []
    start = 0
    while start < len(rows_bf):
        stop = start + next(sizes)
        parts.append(runner.run(np.ascontiguousarray(rows_bf[start:stop])))
        _check_rows(runner, parts[-1], min(stop, len(rows_bf)) - start)
        start = stop
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextlib.contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Hold PyTorch to this many threads; ONNX Runtime is given its number with each session."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as e:
        raise ModelUnreadable(f"{path.name} is no ONNX graph that ONNX Runtime can load: {_first_line(e)}") from e


def _single_input(path: Path, session: Any) -> tuple[str, int | None]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        found = ", ".join(f"{i.name}: {i.type}{i.shape}" for i in inputs) or "none"
        raise ModelUnreadable(f"{path.name} needs one input, float32 of shape [batch, features]; it has {found}")
    batch, features = inputs[0].shape
    if isinstance(batch, int):
        raise ModelUnreadable(f"{path.name} takes batches of {batch} only; export it with a dynamic batch dimension")
    return inputs[0].name, features if isinstance(features, int) else None


def _refuse_programs(path: Path) -> None:
    """Name the other kinds of PyTorch file, which would run code from the file or unpickle it."""
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    if "archive_format" in names or "serialized_exported_program.json" in names:
        kind = "a torch.export program, and loading one unpickles Python objects"
    elif any(name.startswith("code/") for name in names):
        kind = "a TorchScript program"
    else:
        return
    raise ModelUnreadable(f"{path.name} is {kind}; write model.pt with creditmodel_training.model.save")


def _network(path: Path) -> CreditNetwork:
    try:
        return model.load(path)
    except ModelFileError as e:
        raise ModelUnreadable(_first_line(e)) from e


def _check_rows(runner: Runner, outputs: Outputs, rows: int) -> None:
    for name, value in outputs.items():
        if value.shape[:1] != (rows,):
            raise ModelRefused(f"{runner.name}: output {name} has shape {list(value.shape)} for {rows} rows")


def _shape(rows_bf: FloatArray) -> str:
    return f"{len(rows_bf)} rows of {math.prod(rows_bf.shape[1:])} features"


def _first_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).strip().splitlines()[0]
    return _PLACE.sub("", line)[:300]
