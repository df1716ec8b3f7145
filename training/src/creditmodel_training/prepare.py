"""From a table to the arrays that a network learns from: encoded rows, labels and the split."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from creditmodel_bundle.bins import NumberBins, freeze_categories, freeze_numbers
from creditmodel_bundle.contract import FLOAT32_LIMIT, Bins, Contract, Cutoff, Feature
from creditmodel_bundle.encoder import UNSEEN, Encoder
from creditmodel_training.errors import DataError, SchemaError
from creditmodel_training.evaluation.metrics import auc
from creditmodel_training.schema import Schema, features_of

__all__ = ["HOLDOUT", "TRAIN", "VALIDATION", "Prepared", "draft_contract", "prepare"]

TRAIN, VALIDATION, HOLDOUT = 0, 1, 2
PARTS = ("training", "validation", "hold-out")
TRAIN_SHARE, VALIDATION_SHARE = 0.60, 0.15

MIN_ROWS = 200
MIN_BAD_PER_PART = 5
"""Fewer bad or good payers than this in a part, and neither a shape nor an AUC means anything."""

LEAK_ROWS, LEAK_AUC = 20_000, 0.98
_LEAK = "alone tells almost every bad payer: was it known when the applicant asked, or does it tell the outcome?"

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Encoded data. `x` is float32 [N, F] as the graph takes it, `y` int8 [N] with 1 = bad, `part` int8 [N].

    `table` has the features' raw values of the same rows, `warnings` what a person should know about the columns.
    """

    features: list[Feature]
    table: pa.Table
    x: Floats
    y: Labels
    part: Labels
    warnings: list[str]

    def rows(self, part: int) -> npt.NDArray[np.intp]:
        """Indices of the rows of one part."""
        return np.flatnonzero(self.part == part)


def prepare(table: pa.Table, schema: Schema) -> Prepared:
    """Check, encode and split. Raises SchemaError or DataError naming the column, the value and what to mend."""
    features = features_of(schema, table)
    labelled = table.filter(pc.is_valid(table[schema.label]))
    warnings = []
    if dropped := table.num_rows - labelled.num_rows:
        warnings.append(f"{dropped} rows have no label and are left out")
    y = _labels(labelled[schema.label], schema)
    _enough(labelled.num_rows, y)
    if y.mean() > 0.5:
        warnings.append(f"{y.mean():.1%} are bad payers: is {schema.label!r} = {schema.positive!r} really a bad one?")
    raw = pa.table({spec.name: labelled[spec.source] for spec in schema.features})
    x, column_warnings = _encoded(features, raw)
    part = _split(labelled, schema, x)
    _every_part_has_both(part, y)
    leaks = [f"{features[i].name} {_LEAK}" for i in range(len(features)) if _tells_all(x[:, i], y)]
    return Prepared(features, raw, x, y, part, warnings + column_warnings + leaks)


def _tells_all(column: Floats, y: Labels) -> bool:
    """Whether one column alone ranks bad and good payers all but perfectly, by the default rates of its ventiles."""
    column, y = column[:LEAK_ROWS], y[:LEAK_ROWS]
    if not 0 < y.sum() < len(y):
        return False
    known = column[~np.isnan(column)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, 21)[1:-1])) if len(known) else known
    group = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column))
    rates = np.bincount(group, weights=y) / np.maximum(np.bincount(group), 1)
    return auc(y, rates[group]) > LEAK_AUC


def draft_contract(features: list[Feature], name: str, version: str) -> Contract:
    """A contract with the features alone, enough to encode rows: its bins are empty and its baseline is 0."""
    empty = {
        f.name: freeze_categories([], [c.value for c in f.categories])
        if f.dtype == "category"
        else freeze_numbers([], f.minimum, f.maximum)
        for f in features
    }
    bins = Bins(rows=0, features=empty, score=NumberBins(counts=[0, 0, 0]))
    cutoffs = [Cutoff(decision="approve", min_probability=0)]
    return Contract(name=name, version=version, features=features, baseline_log_odds=0.0, cutoffs=cutoffs, bins=bins)


def _labels(column: pa.ChunkedArray, schema: Schema) -> Labels:
    values = column.to_pylist()
    distinct = set(values)
    if schema.positive not in distinct:
        shown = ", ".join(repr(v) for v in sorted(distinct, key=str)[:10]) or "no value"
        raise DataError(f"no row has the label {schema.label!r} = {schema.positive!r} (a bad payer); it has {shown}")
    if len(distinct) == 1:
        raise DataError(f"every row has the label {schema.label!r} = {schema.positive!r}: good payers are needed too")
    if len(distinct) > 2:
        shown = ", ".join(repr(v) for v in sorted(distinct, key=str)[:10])
        raise DataError(f"the label {schema.label!r} has {len(distinct)} values ({shown}); it must have two")
    return np.array([value == schema.positive for value in values], np.int8)


def _enough(rows: int, y: Labels) -> None:
    if rows < MIN_ROWS:
        raise DataError(f"the table has {rows} labelled rows; at least {MIN_ROWS} are needed to train and to judge")
    fewer = min(int(y.sum()), int(rows - y.sum()))
    if fewer < 4 * MIN_BAD_PER_PART:
        raise DataError(f"the rarer label has {fewer} rows; at least {4 * MIN_BAD_PER_PART} are needed")


def _encoded(features: list[Feature], table: pa.Table) -> tuple[Floats, list[str]]:
    encoder = Encoder(draft_contract(features, "draft", "0"))
    columns = []
    warnings = []
    for feature in features:
        raw = table[feature.name].to_pylist()
        column = np.array(encoder.encode_column(feature.name, raw), np.float64)
        warnings += _checked(feature, raw, column)
        columns.append(column)
    return np.stack(columns, axis=1).astype(np.float32), warnings


def _checked(feature: Feature, raw: list[Any], column: npt.NDArray[np.float64]) -> list[str]:
    """Raise for values that scoring would refuse; return what is odd but usable."""
    present = [value is not None and not (isinstance(value, float) and math.isnan(value)) for value in raw]
    _no_words(feature, raw, present, column)
    _in_float32(feature, raw)
    known = column[~np.isnan(column)]
    if not len(known):
        raise DataError(f"{feature.name} has no value in any row: remove it from the features")
    if feature.missing == "forbidden" and len(known) < len(column):
        raise SchemaError(f"{feature.name} is missing in {len(column) - len(known)} rows, and its schema forbids it")
    if feature.dtype == "category":
        _all_known(feature, raw, column)
    else:
        _in_range(feature, known)
    if np.all(known == known[0]) and len(known) == len(column):
        return [f"{feature.name} has one value in every row, so it cannot influence the score"]
    return []


def _no_words(feature: Feature, raw: list[Any], present: list[bool], column: npt.NDArray[np.float64]) -> None:
    odd = [value for value, there, number in zip(raw, present, column, strict=True) if there and math.isnan(number)]
    if odd:
        raise DataError(f"{feature.name} has {odd[0]!r} where a number belongs ({len(odd)} rows)")


def _in_float32(feature: Feature, raw: list[Any]) -> None:
    beyond = [value for value in raw if isinstance(value, int | float) and abs(value) > FLOAT32_LIMIT]
    if beyond and feature.dtype != "category":
        raise DataError(
            f"{feature.name} has {beyond[0]:g} ({len(beyond)} rows), over the {FLOAT32_LIMIT:g} that a number may be: "
            "correct it or leave it empty"
        )


def _all_known(feature: Feature, raw: list[Any], column: npt.NDArray[np.float64]) -> None:
    unseen = {repr(raw[index]) for index in np.flatnonzero(column == UNSEEN)}
    if unseen:
        known = ", ".join(repr(category.value) for category in feature.categories)
        raise SchemaError(f"{feature.name} has {', '.join(sorted(unseen)[:5])}, not among its categories {known}")


def _in_range(feature: Feature, known: npt.NDArray[np.float64]) -> None:
    low = -math.inf if feature.minimum is None else feature.minimum
    high = math.inf if feature.maximum is None else feature.maximum
    outside = known[(known < low) | (known > high)]
    if len(outside):
        raise SchemaError(f"{feature.name} has {outside[0]:g}, outside its range {low:g} to {high:g}")
    if feature.dtype == "integer" and np.any(known != np.round(known)):
        raise SchemaError(f"{feature.name} has {known[known != np.round(known)][0]:g}; use dtype number, not integer")


def _split(table: pa.Table, schema: Schema, x: Floats) -> Labels:
    if schema.split is None:
        keys = [row.tobytes() for row in x] if schema.key is None else _key_bytes(table[schema.key])
        return _split_by_hash(keys)
    values = table[schema.split.column].to_pylist()
    parts = dict.fromkeys(schema.split.validation, VALIDATION)
    parts |= dict.fromkeys(schema.split.holdout, HOLDOUT)
    return np.array([parts.get(value, TRAIN) for value in values], np.int8)


def _key_bytes(column: pa.ChunkedArray) -> list[bytes]:
    return [str(value).encode() for value in column.to_pylist()]


def _split_by_hash(keys: list[bytes]) -> Labels:
    """The same key always falls into the same part: independent of row order, seed and of the other rows."""
    uniform = np.array([int.from_bytes(hashlib.sha256(key).digest()[:8], "big") for key in keys], np.float64) / 2**64
    return np.digitize(uniform, [TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE]).astype(np.int8)


def _every_part_has_both(part: Labels, y: Labels) -> None:
    for index, name in enumerate(PARTS):
        bad = int(y[part == index].sum())
        good = int((part == index).sum()) - bad
        if min(bad, good) < MIN_BAD_PER_PART:
            raise DataError(
                f"the {name} part has {bad} bad and {good} good payers; at least {MIN_BAD_PER_PART} of each are needed"
            )
