"""ONNX Runtime over blocks of fixed shape, so that a row's score never depends on its company.

Kernels choose their code path by the shape of what they are given, and some by where a row begins in memory: the last
bits of a row scored alone differ from those of the same row in a batch, or at another place in it. So every call has
one of a few fixed shapes, filled up with rows that nobody asked for, and rows stand only at places that give the same
bits. Which shapes and places those are is measured when the model is loaded, on this machine, with this model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from creditmodel_inference.errors import Refusal

__all__ = ["Blocks", "Outputs"]

SHAPES = (8, 16, 32, 64, 128, 256)
"""Rows per call, unasked ones included. The first shape's first row defines a model's bits."""

STRIDES = (1, 2, 4, 8)
"""Distances between used rows. A sum over rows of odd width, say, is aligned alike only at every eighth row."""

_PLACE = re.compile(r"/\S+:\d+ .*?\) (?=[A-Z])")
"""Where in its own sources ONNX Runtime failed: a file, a line and a signature, longer than the message after it."""

PROBE_ROWS = 512
"""Rows with which shapes and places are compared."""

Floats = NDArray[np.float32]


class Outputs(NamedTuple):
    """What the graph says of n rows: log-odds [n], probability [n], contributions [n, F]."""

    log_odds: Floats
    probability: Floats
    contributions: Floats


class _Block:
    """One fixed shape with its arrays bound once: a call copies no tensor and allocates none.

    `inputs` and `outputs` are views of the rows in use, `rows` of them.
    """

    def __init__(self, session: ort.InferenceSession, shape: int, stride: int, width: int) -> None:
        inputs = np.zeros((shape, width), np.float32)
        outputs = Outputs(
            np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty((shape, width), np.float32)
        )
        binding = session.io_binding()
        _bind(binding.bind_input, "features", inputs)
        for name, array in zip(Outputs._fields, outputs, strict=True):
            _bind(binding.bind_output, name, array)
        self._binding = binding
        self._session = session
        self.rows = shape // stride
        self.inputs = inputs[::stride]
        self.outputs = Outputs(*(array[::stride] for array in outputs))

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)


class Blocks:
    """A model behind fixed shapes. Not for use from several threads at once."""

    def __init__(self, model: Path, width: int) -> None:
        """Load `model`, whose input has `width` columns. Raises Refusal if its graph is not of the bundle's form."""
        self._session = _session(model)
        _check_interface(self._session, width)
        self._width = width
        self._blocks = _consistent_blocks(self._session, width)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows that a call can score, smallest first."""
        return tuple(block.rows for block in self._blocks)

    @property
    def capacity(self) -> int:
        """Rows that one call can score at most."""
        return self._blocks[-1].rows

    def run_small(self, rows: NDArray[np.float64], count: int) -> Outputs:
        """Score the first `count` rows, at most `capacity`. The answer is overwritten by the next call."""
        for block in self._blocks:
            if count <= block.rows:
                block.inputs[:count] = rows[:count]
                block.run()
                return block.outputs
        raise ValueError(f"{count} rows in one call of at most {self.capacity}")

    def run(self, rows: NDArray[np.float64]) -> Outputs:
        """Score any number of rows, shape [n, F]. The answer is the caller's."""
        return _joined(list(self.chunks(rows)), self._width)

    def chunks(self, rows: NDArray[np.float64]) -> Iterator[Outputs]:
        """Score rows block by block, so that a caller can turn to others in between. Each answer is the caller's."""
        for start in range(0, len(rows), self.capacity):
            count = min(self.capacity, len(rows) - start)
            outputs = self.run_small(rows[start : start + count], count)
            yield Outputs(*(array[:count].copy() for array in outputs))


def _consistent_blocks(session: ort.InferenceSession, width: int) -> list[_Block]:
    """Blocks that all give the same bits, at the smallest distance between rows for which there are several.

    A graph that is consistent at no distance is called with one row at a time: slower, and as exact.
    """
    probe = _probe(width)
    for stride in STRIDES:
        first = _Block(session, SHAPES[0], stride, width)
        alone = _Block(session, SHAPES[0], SHAPES[0], width)
        expected = _run_in_order(alone, probe, np.arange(len(probe)))
        order = np.array(random.Random(7).sample(range(len(probe)), len(probe)))  # noqa: S311
        if not _same_bits(_run_in_order(first, probe, order), expected):
            continue
        others = [_Block(session, shape, stride, width) for shape in SHAPES[1:]]
        return [first, *(block for block in others if _same_bits(_run_in_order(block, probe, order), expected))]
    return [_Block(session, 1, 1, width)]


def _bind(bind: Any, name: str, array: Floats) -> None:
    bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


def _session(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as e:
        raise Refusal("GraphUnusable", f"ONNX Runtime cannot load {model.name}: {_first_line(e)}") from e


def _first_line(error: Exception) -> str:
    return _PLACE.sub("", (str(error).splitlines() or [type(error).__name__])[0])[:300]


def _check_interface(session: ort.InferenceSession, width: int) -> None:
    inputs = {node.name: (node.type, node.shape[1:]) for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if inputs != {"features": ("tensor(float)", [width])}:
        raise Refusal("GraphUnusable", f"the graph takes {inputs}, not float32 'features' with {width} columns")
    if missing := set(Outputs._fields) - outputs:
        raise Refusal("GraphUnusable", f"the graph does not give {', '.join(sorted(missing))}")


def _probe(width: int) -> NDArray[np.float64]:
    """Rows over many magnitudes, signs and missing values: what any contract might let through."""
    draw = random.Random(20_260_101)  # noqa: S311 - NumPy's generators would stay in memory for this alone
    scales = np.array(draw.choices([10.0**power for power in range(-3, 7)], k=PROBE_ROWS * width))
    rows: NDArray[np.float64] = np.array([draw.gauss(0.0, 1.0) for _ in scales]) * scales
    whole = np.array(draw.choices([True, False], k=len(rows)))
    rows[whole] = np.rint(rows[whole])
    rows[draw.choices(range(len(rows)), k=len(rows) // 20)] = np.nan
    return rows.reshape(PROBE_ROWS, width)


def _run_in_order(block: _Block, probe: NDArray[np.float64], order: NDArray[np.intp]) -> Outputs:
    """The probe through one block in the given order, put back into its own."""
    parts = []
    for start in range(0, len(probe), block.rows):
        block.inputs[:] = probe[order[start : start + block.rows]]
        block.run()
        parts.append(Outputs(*(array.copy() for array in block.outputs)))
    shuffled = _joined(parts, probe.shape[1])
    return Outputs(*(array[np.argsort(order)] for array in shuffled))


def _same_bits(left: Outputs, right: Outputs) -> bool:
    return all(np.array_equal(a.view(np.int32), b.view(np.int32)) for a, b in zip(left, right, strict=True))


def _joined(parts: list[Outputs], width: int) -> Outputs:
    if not parts:
        return Outputs(np.empty(0, np.float32), np.empty(0, np.float32), np.empty((0, width), np.float32))
    return Outputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
