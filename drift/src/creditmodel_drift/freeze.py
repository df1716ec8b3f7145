# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""Bins frozen on the fly from a reference file, for a check without a bundle. The same routine as training's."""

from __future__ import annotations

import duckdb

from creditmodel_bundle.bins import CategoryBins, NumberBins, freeze_categories, freeze_numbers
from creditmodel_drift.baseline import SCORE, Baseline, Column, kind_of
from creditmodel_drift.binning import quote
from creditmodel_drift.errors import NoUsableData
from creditmodel_drift.parts import Survey, find, survey
from creditmodel_drift.scan import open_scan, raw_table

__all__ = ["freeze"]

EDGE_ROWS = 50_000
"""Rows that bin edges are computed from; the counts in the bins are of all rows."""

MAX_CATEGORIES = 50
_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)


def freeze(connection: duckdb.DuckDBPyConnection, uri: str, seed: int = 0) -> tuple[Baseline, Survey]:
    """Bins of a reference table (one file, a glob or a directory) and where its rows lie.

    System columns (their names begin with '_') are no features; `_log_odds` is the score. Text with over MAX_CATEGORIES
    values and columns of other types are skipped by name. Raises NoUsableData.
    """
    source, parts = find(uri)
    if not parts:
        raise NoUsableData(f"{uri} has no .parquet or .csv file")
    table = raw_table(connection, uri, source, parts)
    sample = f"(SELECT * FROM {table} USING SAMPLE reservoir({EDGE_ROWS} ROWS) REPEATABLE ({seed}))"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE edges AS SELECT * FROM {sample}")
    columns: list[Column] = []
    skipped: dict[str, str] = {}
    for name, stored, *_ in connection.execute("DESCRIBE edges").fetchall():
        if name.startswith("_") and name != SCORE:
            continue
        column = _column(connection, name, stored)
        if isinstance(column, str):
            skipped[name] = column
        else:
            columns.append(column)
    return _count(connection, uri, columns, skipped)


def _column(connection: duckdb.DuckDBPyConnection, name: str, stored: str) -> Column | str:
    """A column's bins with the counts of the sample, or why it has none."""
    if stored.startswith(_NUMBERS):
        values = _values(connection, f"CAST({quote(name)} AS DOUBLE)")
        return Column(name, "number", freeze_numbers(values))  # type: ignore[arg-type]
    if not stored.startswith(("VARCHAR", "ENUM", "BOOLEAN")):
        return f"is of type {stored.lower()}"
    values = _values(connection, f"CAST({quote(name)} AS VARCHAR)")
    categories = sorted({str(value) for value in values if value is not None})
    if not categories:
        return "has no value"
    if len(categories) > MAX_CATEGORIES:
        return f"is text with over {MAX_CATEGORIES} values"
    table = freeze_categories(values, categories)  # type: ignore[arg-type]
    return Column(name, kind_of(table), table)


def _values(connection: duckdb.DuckDBPyConnection, expression: str) -> list[object]:
    return [row[0] for row in connection.execute(f"SELECT {expression} FROM edges").fetchall()]


def _count(
    connection: duckdb.DuckDBPyConnection, uri: str, columns: list[Column], skipped: dict[str, str]
) -> tuple[Baseline, Survey]:
    """The baseline with the counts of every row, taken by the expression that will count the current data."""
    features = tuple(column for column in columns if column.name != SCORE)
    score = next((column for column in columns if column.name == SCORE), None)
    if not features:
        raise NoUsableData(f"{uri} has no column that could be a feature")
    draft = Baseline(uri, 0, features, score, skipped)
    found = survey(uri, *find(uri), draft, {})
    if not found.usable:
        raise NoUsableData(f"{uri} has no readable rows")
    counts = open_scan(connection, found, draft).counts()
    frozen = [_with_counts(column, counts.bins[column.name]) for column in draft.columns]
    return Baseline(
        uri, counts.rows, tuple(frozen[: len(features)]), frozen[-1] if score else None, skipped, model=uri
    ), found


def _with_counts(column: Column, counts: list[int]) -> Column:
    table: NumberBins | CategoryBins = column.table.model_copy(update={"counts": counts})
    return Column(column.name, column.kind, table, column.unit, column.description)
