"""Compare two runners over rows, in every shape of batch: the differences, and what they change for an applicant."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.reasons import DECIMALS, top_reasons
from creditmodel_training.parity.envelope import Envelope, Point
from creditmodel_training.parity.rows import Rows
from creditmodel_training.runners import FloatArray, ModelMismatch, Runner, run_in_batches

__all__ = ["Comparison", "OutputDifference", "Tolerance", "WorstRow", "compare", "shared_outputs"]

BATCH = 1024
ODD_SIZES = (1, 2, 3, 5, 7, 13, 31, 33, 127)
ALONE_ROWS = 40_000
"""At most this many rows are also scored one at a time; a call takes about 20 µs."""

TINY = 1e-6
"""Of smaller numbers a relative difference says nothing: a probability of 1e-40 has two digits in float32."""

Outputs = dict[str, FloatArray]


@dataclass(frozen=True)
class Tolerance:
    """An element breaches when |pytorch − onnx| > atol + rtol·|pytorch|."""

    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass(frozen=True)
class OutputDifference:
    """The largest differences of one output over its finite elements; relative to |pytorch|, where that is not tiny."""

    name: str
    max_abs: float
    max_rel: float


@dataclass(frozen=True)
class WorstRow:
    """A row that comes near the tolerance or breaches it; `excess` above 0 is a breach."""

    label: str
    output: str
    pytorch: float
    onnx: float
    excess: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """All that was measured. Counts are of rows; a row counts once, whatever batch it differed in.

    `batch_dependent` rows have other bits when the second model scores them alone than in a batch; `alone` were tried.
    """

    rows: int
    outputs: tuple[OutputDifference, ...]
    envelope: tuple[Point, ...]
    outside: int
    decision_flips: int
    reason_diffs: int
    not_finite: int
    alone: int
    batch_dependent: int
    worst: tuple[WorstRow, ...]

    @property
    def max_abs_diff(self) -> float:
        """The largest absolute difference over every output."""
        return max(output.max_abs for output in self.outputs)

    @property
    def max_rel_diff(self) -> float:
        """The largest relative difference of the probability (of every output, where there is no probability).

        Log-odds and contributions cross zero, where a relative difference says nothing.
        """
        return max(
            [output.max_rel for output in self.outputs if output.name == "probability"]
            or [output.max_rel for output in self.outputs]
        )


@dataclass
class _Tally:
    """What accumulates over the batch shapes, by row."""

    excess: NDArray[np.float64]
    at: list[tuple[str, float, float]]
    flipped: NDArray[np.bool_]
    reasons: NDArray[np.bool_]
    not_finite: NDArray[np.bool_]
    envelope: Envelope = field(default_factory=Envelope)
    largest: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def over(cls, rows: int) -> _Tally:
        false = np.zeros(rows, np.bool_)
        return cls(np.full(rows, -np.inf), [("", 0.0, 0.0)] * rows, false, false.copy(), false.copy())


def compare(
    pytorch: Runner,
    onnx: Runner,
    rows: Rows,
    contract: Contract | None = None,
    tolerance: Tolerance | None = None,
    seed: int = 0,
    worst: int = 5,
) -> Comparison:
    """Score every row with both and compare. Raises ModelMismatch when they share no output, ModelRefused."""
    names = shared_outputs(pytorch, onnx)
    expected = run_in_batches(pytorch, rows.values, itertools.repeat(BATCH))
    together = run_in_batches(onnx, rows.values, itertools.repeat(BATCH))
    tally = _Tally.over(len(rows))
    limits = tolerance or Tolerance()
    _count(tally, expected, together, np.arange(len(rows)), names, contract, limits)
    dependent = 0
    alone = _sample(len(rows), seed)
    for taken, sizes in _other_batches(len(rows), alone, seed):
        actual = run_in_batches(onnx, rows.values[taken], sizes)
        _count(tally, {n: expected[n][taken] for n in names}, actual, taken, names, contract, limits)
        if taken is alone:
            dependent = int(_bits_differ(actual, {n: together[n][taken] for n in names}, names).sum())
    return _summary(tally, rows, len(alone), dependent, worst)


def shared_outputs(pytorch: Runner, onnx: Runner) -> tuple[str, ...]:
    """Names of the outputs that both have, in the first's order. Raises ModelMismatch when there are none."""
    names = tuple(name for name in pytorch.outputs if name in onnx.outputs)
    if not names:
        raise ModelMismatch(
            f"no output has the same name on both sides: {', '.join(pytorch.outputs)} against "
            f"{', '.join(onnx.outputs)}; name the graph's outputs as the network's when exporting"
        )
    return names


def _sample(rows: int, seed: int) -> NDArray[np.intp]:
    """Rows to score alone: all of them, or a seeded sample."""
    if rows <= ALONE_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, ALONE_ROWS, replace=False))


def _other_batches(rows: int, alone: NDArray[np.intp], seed: int) -> Iterator[tuple[NDArray[np.intp], Iterator[int]]]:
    """The other shapes of batch: alone, in odd sizes, and among other neighbours."""
    yield alone, itertools.repeat(1)
    yield np.arange(rows), itertools.cycle(ODD_SIZES)
    yield np.random.default_rng(seed).permutation(rows), itertools.repeat(BATCH)


def _count(
    tally: _Tally,
    expected: Outputs,
    actual: Outputs,
    taken: NDArray[np.intp],
    names: tuple[str, ...],
    contract: Contract | None,
    tolerance: Tolerance,
) -> None:
    """Add one run; `taken` are the indices of its rows."""
    for name in names:
        _count_output(tally, name, expected[name], actual[name], taken, tolerance)
    if contract is not None and "probability" in names:
        tally.flipped[taken] |= _decisions(contract, expected) != _decisions(contract, actual)
    if contract is not None and "contributions" in names:
        tally.reasons[taken] |= _reasons_differ(expected["contributions"], actual["contributions"])


def _count_output(
    tally: _Tally, name: str, expected: FloatArray, actual: FloatArray, taken: NDArray[np.intp], tolerance: Tolerance
) -> None:
    if expected.shape != actual.shape:
        raise ModelMismatch(
            f"output {name} has shape {list(expected.shape[1:])} a row in PyTorch, {list(actual.shape[1:])} in ONNX"
        )
    a = expected.reshape(len(taken), -1).astype(np.float64)
    b = actual.reshape(len(taken), -1).astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    tally.not_finite[taken] |= ~finite.all(axis=1)
    reference = np.where(finite, np.abs(a), 0.0)
    difference = np.where(finite, np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0)), 0.0)
    tally.envelope.add(reference, difference)
    _enlarge(tally, name, reference, difference)
    excess = np.where(finite, difference - (tolerance.atol + tolerance.rtol * reference), np.inf)
    at = excess.argmax(axis=1)
    worst = excess[np.arange(len(taken)), at]
    for i in np.flatnonzero(worst > tally.excess[taken]):
        tally.at[taken[i]] = (name, float(a[i, at[i]]), float(b[i, at[i]]))
    tally.excess[taken] = np.maximum(tally.excess[taken], worst)


def _enlarge(tally: _Tally, name: str, reference: NDArray[np.float64], difference: NDArray[np.float64]) -> None:
    most, most_relative = tally.largest.get(name, (0.0, 0.0))
    relative = np.divide(difference, reference, out=np.zeros_like(difference), where=reference > TINY)
    tally.largest[name] = (
        max(most, float(difference.max(initial=0.0))),
        max(most_relative, float(relative.max(initial=0.0))),
    )


def _decisions(contract: Contract, outputs: Outputs) -> NDArray[np.intp]:
    """Index of each row's cut-off, as Contract.cutoff finds it."""
    bounds = np.array([cutoff.min_probability for cutoff in contract.cutoffs])
    return np.searchsorted(bounds, outputs["probability"].reshape(-1).astype(np.float64), side="right")


def _reasons_differ(expected_bf: FloatArray, actual_bf: FloatArray) -> NDArray[np.bool_]:
    """Rows whose reasons differ. The shared rule is slow; it is asked only where rounded contributions differ."""
    differ = np.zeros(len(expected_bf), np.bool_)
    for row in np.flatnonzero(_rounding_differs(expected_bf, actual_bf).any(axis=1)):
        both_finite = np.isfinite(expected_bf[row]).all() and np.isfinite(actual_bf[row]).all()
        differ[row] = not both_finite or top_reasons(expected_bf[row].tolist()) != top_reasons(actual_bf[row].tolist())
    return differ


def _rounding_differs(expected: FloatArray, actual: FloatArray) -> NDArray[np.bool_]:
    """Elements that differ once rounded to DECIMALS; exact, as a float32 times 10,000 is exact in float64."""
    a, b = (np.rint(values.astype(np.float64) * 10**DECIMALS) for values in (expected, actual))
    differs: NDArray[np.bool_] = a != b
    return differs


def _bits_differ(first: Outputs, second: Outputs, names: tuple[str, ...]) -> NDArray[np.bool_]:
    differ = np.zeros(len(first[names[0]]), np.bool_)
    for name in names:
        bits = first[name].view(np.uint32) != second[name].view(np.uint32)
        differ |= bits.reshape(len(differ), -1).any(axis=1)
    return differ


def _summary(tally: _Tally, rows: Rows, alone: int, dependent: int, worst: int) -> Comparison:
    order = np.argsort(-tally.excess, kind="stable")[:worst]
    return Comparison(
        rows=len(rows),
        outputs=tuple(OutputDifference(name, *most) for name, most in tally.largest.items()),
        envelope=tuple(tally.envelope.points()),
        outside=int((tally.excess > 0).sum()),
        decision_flips=int(tally.flipped.sum()),
        reason_diffs=int(tally.reasons.sum()),
        not_finite=int(tally.not_finite.sum()),
        alone=alone,
        batch_dependent=dependent,
        worst=tuple(_worst(tally, rows, int(row)) for row in order),
    )


def _worst(tally: _Tally, rows: Rows, row: int) -> WorstRow:
    output, pytorch, onnx = tally.at[row]
    values = tuple(float(value) for value in rows.values[row])
    return WorstRow(rows.labels[row], output, pytorch, onnx, float(tally.excess[row]), values)
