"""Bins frozen on the fly from a reference file, for a check without a bundle. The same routine as training's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from creditmodel_bundle.bins import CategoryBins, NumberBins, freeze_categories, freeze_numbers
from creditmodel_drift.baseline import SCORE, Baseline, Column, kind_of
from creditmodel_drift.duck import Duck
from creditmodel_drift.errors import EngineFailed, NoUsableData
from creditmodel_drift.parts import Part, find, survey
from creditmodel_drift.reference import Reference

__all__ = ["freeze"]

EDGE_ROWS = 50_000
"""Rows that bin edges are computed from; the counts in the bins are of all rows."""

MAX_CATEGORIES = 50


def freeze(engine: Duck, uri: str, seed: int = 0) -> Reference:
    """The reference that a table is: one file, a glob or a directory.

    System columns (their names begin with '_') are no features; `_log_odds` is the score. Text with over MAX_CATEGORIES
    values and columns of other types are skipped by name. Raises NoUsableData.
    """
    source, parts = find(uri)
    if not parts:
        raise NoUsableData(f"{uri} has no .parquet or .csv file")
    try:
        table = engine.inferred(uri, source, parts)
        edges = engine.sample(f"FROM {table} SELECT *", EDGE_ROWS, seed)
        columns, skipped = _columns(edges)
        return _count(engine, uri, (source, parts), columns, skipped)
    except EngineFailed as e:
        raise NoUsableData(f"the reference {uri} cannot be read: {str(e)[:300]}") from e


def _columns(edges: pa.Table) -> tuple[list[Column], dict[str, str]]:
    """Each column that can be a feature with the counts of the sample, and why each other one cannot."""
    columns: list[Column] = []
    skipped: dict[str, str] = {}
    for name in edges.column_names:
        if name.startswith("_") and name != SCORE:
            continue
        column = _column(name, edges[name])
        if isinstance(column, str):
            skipped[name] = column
        else:
            columns.append(column)
    return columns, skipped


def _column(name: str, values: pa.ChunkedArray) -> Column | str:
    """A column's bins with the counts of the sample, or why it has none."""
    stored = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_decimal(stored):
        return Column(name, "number", freeze_numbers(values.cast(pa.float64(), safe=False).to_pylist()))
    if not (pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_boolean(stored)):
        return "has no value" if pa.types.is_null(stored) else f"is of type {stored}"
    words = values.cast(pa.string()).to_pylist()
    categories = sorted(set(words) - {None})
    if not categories:
        return "has no value"
    if len(categories) > MAX_CATEGORIES:
        return f"is text with over {MAX_CATEGORIES} values"
    table = freeze_categories(words, categories)
    return Column(name, kind_of(table), table)


def _count(
    engine: Duck, uri: str, found: tuple[Any, Sequence[Part]], columns: list[Column], skipped: dict[str, str]
) -> Reference:
    """The baseline with the counts of every row, taken by the expression that will count the current data."""
    features = tuple(column for column in columns if column.name != SCORE)
    score = next((column for column in columns if column.name == SCORE), None)
    if not features:
        raise NoUsableData(f"{uri} has no column that could be a feature")
    uncounted = Baseline(uri, 0, features, score)
    draft = Reference(uncounted, survey(uri, *found, uncounted, {}), engine)
    if not draft.rows.usable:
        raise NoUsableData(f"{uri} has no readable rows")
    counts = draft.scan().counts()
    frozen = [_with_counts(column, counts.bins[column.name]) for column in draft.baseline.columns]
    baseline = Baseline(
        uri, counts.rows, tuple(frozen[: len(features)]), frozen[-1] if score else None, skipped, model=uri
    )
    return Reference(baseline, draft.rows, engine)


def _with_counts(column: Column, counts: list[int]) -> Column:
    table: NumberBins | CategoryBins = column.table.model_copy(update={"counts": counts})
    return Column(column.name, column.kind, table, column.unit, column.description)
