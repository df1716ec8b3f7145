"""The rows that parity is measured on: the reference sample, and rows where a graph and a network like to part ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from creditmodel_bundle.bins import NumberBins
from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract, Feature
from creditmodel_bundle.encoder import UNSEEN, Encoder
from creditmodel_training.runners import FloatArray

__all__ = [
    "ReferenceUnreadable",
    "Rows",
    "cutoff_rows",
    "edge_rows",
    "example_row",
    "fuzz_rows",
    "random_rows",
    "reference_rows",
]

FUZZ_ROWS = 2048
CUTOFF_MARGINS = (1e-3, 1e-4, 1e-5)
"""How far from a cut-off rows are placed, on either side. A graph that is right to 1e-6 never flips one of them."""

_CUTOFF_PAIRS = 6
_BISECTIONS = 48
_EXTREMES = (0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1.0, -1.0, 1e30, -1e30, FLOAT32_LIMIT, -FLOAT32_LIMIT)
"""Zeros of both signs, the smallest subnormal and normal numbers, and all that float32 holds."""


class ReferenceUnreadable(Exception):
    """The reference table is no Parquet file with the contract's columns."""

    reason = "ReferenceUnreadable"


@dataclass(frozen=True)
class Rows:
    """Rows as the graph takes them, float32 batch × features, each with a label that says where it comes from."""

    values: FloatArray
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """All rows of several sets, in order."""
        return Rows(np.concatenate([p.values for p in parts]), tuple(label for p in parts for label in p.labels))


def reference_rows(path: Path, contract: Contract, limit: int | None, seed: int) -> Rows:
    """Encode the reference sample, or `limit` rows of it drawn with `seed`. Raises ReferenceUnreadable."""
    columns = [feature.name for feature in contract.features]
    table = _table(path, columns)
    if table.num_rows == 0:
        raise ReferenceUnreadable(f"{path.name} has no rows")
    taken = np.arange(table.num_rows)
    if limit is not None and limit < table.num_rows:
        taken = np.sort(np.random.default_rng(seed).choice(table.num_rows, limit, replace=False))
        table = table.take(taken)
    encoder = Encoder(contract)
    encoded = [encoder.encode_column(name, table.column(name).to_pylist()) for name in columns]
    return Rows(_float32(np.array(encoded).T), tuple(f"reference row {index}" for index in taken))


def _table(path: Path, columns: list[str]) -> pa.Table:
    try:
        if absent := [name for name in columns if name not in pq.read_schema(path).names]:
            raise ReferenceUnreadable(f"{path.name} has no column {', '.join(absent)}")
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as e:
        raise ReferenceUnreadable(f"{path.name} is no Parquet file: {str(e).splitlines()[0]}") from e


def edge_rows(contract: Contract, base: FloatArray) -> Rows:
    """One row for each value worth trying of each feature, the rest as in `base`; then rows of such values only."""
    rows: list[FloatArray] = []
    labels: list[str] = []
    for column, feature in enumerate(contract.features):
        for label, value in _edge_values(contract, feature):
            row = base.copy()
            row[column] = value
            rows.append(row)
            labels.append(f"{feature.name} {label}")
    for label, row in _uniform_rows(contract):
        rows.append(row)
        labels.append(label)
    return Rows(np.stack(rows), tuple(labels))


def fuzz_rows(contract: Contract, base: FloatArray, count: int = FUZZ_ROWS, seed: int = 0) -> Rows:
    """Rows that mix, at random, values within the range, far beyond it, edge values, missing ones and real ones."""
    rng = np.random.default_rng(seed)
    columns = [_fuzz_column(contract, feature, base[:, i], count, rng) for i, feature in enumerate(contract.features)]
    return Rows(_float32(np.stack(columns, axis=1)), tuple(f"fuzz row {index}" for index in range(count)))


def example_row(contract: Contract) -> FloatArray:
    """One row made of the contract's examples; where a feature has none, of its lowest value."""
    encoder = Encoder(contract)
    return _row(
        _lowest(f) if f.example is None else encoder.encode_column(f.name, [f.example])[0] for f in contract.features
    )


def random_rows(features: int, count: int, seed: int) -> Rows:
    """Rows for a model of which no contract is known: normal numbers at several scales, zeros and ones."""
    rng = np.random.default_rng(seed)
    scales = rng.choice([1e-3, 1.0, 1.0, 10.0, 1e3], size=(count, 1))
    values = rng.standard_normal((count, features)) * scales
    values[0], values[1 % count] = 0.0, 1.0
    return Rows(_float32(values), tuple(f"random row {index}" for index in range(count)))


def cutoff_rows(
    contract: Contract, reference: FloatArray, probability_of: Callable[[FloatArray], FloatArray], seed: int
) -> Rows:
    """Rows right beside each cut-off: found by bisection between real rows on either side of it."""
    rng = np.random.default_rng(seed)
    pd = probability_of(reference).astype(np.float64)
    smooth = np.array([feature.dtype != "category" for feature in contract.features])
    parts = [Rows(np.empty((0, reference.shape[1]), np.float32), ())]
    for cutoff in contract.cutoffs:
        for target in _targets(cutoff.min_probability):
            low, high = _straddling(pd, target, rng)
            found = _bisected(reference[low], reference[high], target, smooth, probability_of)
            parts.append(Rows(found, (f"{cutoff.decision} cut-off, beside {target:.6g}",) * len(found)))
    return Rows.join(parts)


def _targets(cutoff: float) -> Iterator[float]:
    for margin in CUTOFF_MARGINS:
        yield from (p for p in (cutoff - margin, cutoff + margin) if 0 < cutoff < 1 and 0 < p < 1)


def _straddling(
    pd: NDArray[np.float64], target: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of row indices, one below the target and one above; none where the sample lies on one side."""
    below, above = np.flatnonzero(pd < target), np.flatnonzero(pd > target)
    pairs = min(_CUTOFF_PAIRS, len(below), len(above))
    return rng.choice(below, pairs) if pairs else below[:0], rng.choice(above, pairs) if pairs else above[:0]


def _bisected(
    low: FloatArray,
    high: FloatArray,
    target: float,
    smooth: NDArray[np.bool_],
    probability_of: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    """Walk from each low row to its high row until the probability meets the target; rows that never do are left out.

    What cannot be interpolated (categories, missing values) is taken from the high row.
    """
    if len(low) == 0:
        return low
    movable = smooth & ~np.isnan(low) & ~np.isnan(high)
    start = np.where(movable, low, high).astype(np.float64)
    span = np.where(movable, high.astype(np.float64) - start, 0.0)
    near, far = np.zeros(len(low)), np.ones(len(low))
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2
        below = probability_of(_float32(start + span * middle[:, None])) < target
        near, far = np.where(below, middle, near), np.where(below, far, middle)
    rows = _float32(start + span * far[:, None])
    met = np.abs(probability_of(rows).astype(np.float64) - target) < min(CUTOFF_MARGINS) / 2
    return rows[met]


def _edge_values(contract: Contract, feature: Feature) -> Iterator[tuple[str, float]]:
    """Values worth trying for a feature, each with its name. The encoder lets no infinity through, so none is here."""
    yield "missing", np.nan
    if feature.dtype == "category":
        for category in feature.categories:
            yield f"category {category.value}", category.code
        yield "unseen category", UNSEEN
        yield "unseen code", max(c.code for c in feature.categories) + 1
        yield "code beside a category's", feature.categories[0].code + 0.5
    else:
        yield from _number_edges(contract, feature)
    for value in _EXTREMES:
        yield f"at {value:g}", value


def _number_edges(contract: Contract, feature: Feature) -> Iterator[tuple[str, float]]:
    for name, bound, outward in (("minimum", feature.minimum, -np.inf), ("maximum", feature.maximum, np.inf)):
        if bound is not None:
            yield f"at {name}", bound
            yield f"beyond {name}", bound + np.sign(outward) * max(1.0, abs(bound))
    table = contract.bins.features[feature.name]
    bounds = (feature.minimum, feature.maximum)
    marks = [*table.edges, *table.points] if isinstance(table, NumberBins) else []
    for mark in [*marks, *(bound for bound in bounds if bound is not None)]:
        for direction in (-np.inf, None, np.inf):
            value = np.float32(mark) if direction is None else np.nextafter(np.float32(mark), np.float32(direction))
            yield f"around {mark:g}", float(value)


def _uniform_rows(contract: Contract) -> Iterator[tuple[str, FloatArray]]:
    """Rows in which every feature takes the same kind of value."""
    features = contract.features
    yield "every feature missing", _row(np.nan for _ in features)
    yield "every feature at minimum", _row(_lowest(feature) for feature in features)
    yield "every feature at maximum", _row(_highest(feature) for feature in features)
    yield "every category unseen", _row(UNSEEN if f.dtype == "category" else _lowest(f) for f in features)
    for value in _EXTREMES:
        yield f"every feature at {value:g}", _row(value for _ in features)


def _row(values: Iterator[float]) -> FloatArray:
    return _float32(np.fromiter(values, np.float64))


def _lowest(feature: Feature) -> float:
    if feature.dtype == "category":
        return min(category.code for category in feature.categories)
    return -1e6 if feature.minimum is None else feature.minimum


def _highest(feature: Feature) -> float:
    if feature.dtype == "category":
        return max(category.code for category in feature.categories)
    return 1e6 if feature.maximum is None else feature.maximum


def _fuzz_column(
    contract: Contract, feature: Feature, real: FloatArray, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    low, high = _lowest(feature), _highest(feature)
    edges = np.array([value for _, value in _edge_values(contract, feature)])
    codes = np.array([float(category.code) for category in feature.categories] or [low, high])
    inside = rng.choice(codes, count) if feature.dtype == "category" else rng.uniform(low, high, count)
    beyond = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-20, 20, count)
    sources = np.stack([inside, rng.choice(real, count), rng.choice(edges, count), beyond, np.full(count, np.nan)])
    kind = rng.choice(len(sources), count, p=[0.4, 0.4, 0.08, 0.04, 0.08])
    return sources[kind, np.arange(count)].astype(np.float64)


def _float32(values: NDArray[np.float64]) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)
