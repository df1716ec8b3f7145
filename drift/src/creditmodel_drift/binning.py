"""Frozen bins as an expression over a table: conditions to count in one pass, and how their counts become bins.

A number's bins are counted cumulatively (rows at or below each edge): one comparison a row and edge, without branches.
That was measured faster than numbering each row's bin and grouping by it, and the state is a few integers a column
however many rows stream past. Nothing here is special to one engine: each condition is a comparison, each count a
conditional sum, and NaN sorts above every number as in DuckDB, Spark and PostgreSQL. So a missing number becomes NaN
before it is compared: without nulls and dictionaries a comparison takes half the time.

Bins compare float32 numbers, and columns have more digits. What is compared here is the column as it is, with the first
or last number that the graph reads like the bin's: rounding every row would cost more than counting it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_drift.baseline import Column

__all__ = ["Physical", "conditions", "literal", "quote", "to_bins", "with_numbers"]

Physical = Literal["integer", "number", "text", "boolean", "wrong", "absent"]
"""How a column is stored. `wrong` cannot be read as its kind; `absent` is not there."""

_INFINITY = "CAST('infinity' AS DOUBLE)"
_NAN = "CAST('NaN' AS DOUBLE)"
_EXACT_INTEGERS = 2**53
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_BOOLEANS = frozenset(("true", "false"))
"""How a contract writes them; a CSV file may write True or TRUE."""


def quote(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def with_numbers(rows: str, columns: Iterable[tuple[Column, Physical]]) -> str:
    """The rows with one more column for each of floating point, and each that is text and should be a number.

    In it a missing value, and text that is no number, is NaN: `least` passes over nulls, and NaN is the largest.
    """
    made = (
        f", least({_read(quote(column.name), physical)}, {_NAN}) AS {_number_of(column)}"
        for column, physical in columns
        if _is_converted(column, physical)
    )
    return f"SELECT *{''.join(made)} FROM ({rows})"  # noqa: S608 - names are quoted


def conditions(column: Column, physical: Physical) -> list[str]:
    """SQL conditions over `with_numbers` whose true rows are to be counted, in the order that `to_bins` expects."""
    name = quote(column.name)
    if physical == "absent":
        return []
    if physical == "wrong":
        return [f"{name} IS NOT NULL"]
    value = _number_of(column) if _is_converted(column, physical) else _value(name, column.kind, physical)
    present = f"{value} <= {_INFINITY}" if physical == "number" else f"{name} IS NOT NULL"
    if isinstance(column.table, CategoryBins):
        value = f"lower({value})" if _BOOLEANS.issuperset(column.table.values) else value
        return [present, *(f"{value} = {_category(category, column)}" for category in column.table.values)]
    return [present, *_comparisons(value, column.table, physical == "integer")]


def to_bins(column: Column, hits: Sequence[int], rows: int) -> list[int]:
    """Rows per bin in the table's order of counts, from the hits of `conditions` among `rows` rows.

    A column that is absent is missing in every row; a value that cannot be read is out of range, or unseen.
    """
    present = hits[0] if hits else 0
    if len(hits) < 2:
        return [0] * (len(column.table.counts) - 2) + [present, rows - present]
    if isinstance(column.table, CategoryBins):
        return [*hits[1:], present - sum(hits[1:]), rows - present]
    inside = _inside(column.table, hits[1:])
    return [*inside, present - sum(inside), rows - present]


def _inside(table: NumberBins, hits: Sequence[int]) -> list[int]:
    """Rows at each point and in each interval, of the hits of `_comparisons`."""
    below, within = hits[:2]
    points = list(hits[2 : 2 + len(table.points)])
    edges = [min(max(hit, below), within) for hit in hits[2 + len(points) :]]
    intervals = [after - before for before, after in pairwise([below, *edges, within])]
    for point, count in zip(table.points, points, strict=True):
        intervals[sum(bool(np.float32(edge) < np.float32(point)) for edge in table.edges)] -= count
    return [*points, *intervals]


def _comparisons(value: str, table: NumberBins, integers: bool) -> Iterator[str]:
    """Below the range, not above it, equal to each point, at most each edge.

    Stored integers are compared with integers: a value is at most 3.7 where it is at most 3.
    """
    yield "FALSE" if table.minimum is None else f"{value} < {_first(table.minimum, integers)}"
    # Beside an infinity every integer would be made a floating-point number first.
    unbounded = integers and table.maximum is None
    highest = math.inf if table.maximum is None else table.maximum
    yield f"{value} IS NOT NULL" if unbounded else f"{value} <= {_last(highest, integers)}"
    for point in table.points:
        first, last = _first(point, integers), _last(point, integers)
        yield f"{value} = {first}" if first == last else f"{value} BETWEEN {first} AND {last}"
    for edge in table.edges:
        yield f"{value} <= {_last(edge, integers)}"


def _first(value: float, integers: bool) -> str:
    """The smallest number that the graph reads like this one, in SQL."""
    return _number(_outermost(value, -math.inf), integers, math.ceil)


def _last(value: float, integers: bool) -> str:
    """The largest number that the graph reads like this one, in SQL."""
    return _number(_outermost(value, math.inf), integers, math.floor)


def _outermost(value: float, towards: float) -> float:
    """The last number in a direction that float32 rounds as it rounds `value`; all beyond float32 are as its ends."""
    seen = np.float32(max(-_FLOAT32_MAX, min(_FLOAT32_MAX, value)))
    if seen == math.copysign(_FLOAT32_MAX, towards):
        return towards
    half_way = (float(seen) + float(np.nextafter(seen, np.float32(towards)))) / 2
    # Numbers half-way go to the neighbour whose last bit is even.
    return half_way if np.float32(half_way) == seen else math.nextafter(half_way, float(seen))


def _is_converted(column: Column, physical: Physical) -> bool:
    return column.kind != "text" and physical in ("number", "text")


def _number_of(column: Column) -> str:
    return quote(f"_number {column.name}")


def _read(name: str, physical: Physical) -> str:
    return f"TRY_CAST({name} AS DOUBLE)" if physical == "text" else name


def _value(name: str, kind: str, physical: Physical) -> str:
    return f"CAST({name} AS VARCHAR)" if kind == "text" and physical != "text" else name


def _category(value: str | int, column: Column) -> str:
    return str(value) if column.kind == "code" else literal(str(value))


def _number(value: float, integers: bool, rounded: Callable[[float], int]) -> str:
    """A number in SQL that is exactly this one: a bare 0.1 would be a decimal."""
    if math.isinf(value):
        return _INFINITY if value > 0 else f"-{_INFINITY}"
    if integers and abs(value) < _EXACT_INTEGERS:
        return str(rounded(value))
    return f"{value:.17e}"
