"""Frozen bins: the reference distribution of a feature, against which drift is measured for the life of a model.

Quantile edges collapse on zero-inflated columns and then read no drift at all, so a value that holds at least one
bin's share of the rows is a bin of its own (a point mass), and quantiles cut only the rest.

Numbers are compared as float32, which is how the graph reads them: 3.9 from JSON, 3.9 from a float32 column and the
3.9000000953674316 that training saw are one value to the model, and so one point to the check.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from ctypes import c_float
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from creditmodel_bundle._model import Document

__all__ = ["BinTable", "CategoryBins", "NumberBins", "freeze_categories", "freeze_numbers"]

BINS = 10
"""Bins that a column is cut into, point masses included: the credit industry's deciles."""

_FLOAT32_MAX = (2 - 2**-23) * 2.0**127


class NumberBins(Document):
    """Bins of a number: point masses, then right-closed intervals between `edges`, then out of range, then missing.

    `minimum` and `maximum` are the contract's range (absent: unbounded).
    `counts` holds reference rows per bin, in that order: len(points) + len(edges) + 1 + 2 of them.
    """

    kind: Literal["number"] = "number"
    points: list[float] = []
    edges: list[float] = []
    minimum: float | None = None
    maximum: float | None = None
    counts: list[int]

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if len(self.counts) != len(self.points) + len(self.edges) + 3:
            raise ValueError(f"{len(self.counts)} counts for {len(self.points)} points and {len(self.edges)} edges")
        if sorted(set(self.edges)) != self.edges or sorted(set(self.points)) != self.points:
            raise ValueError("points and edges must ascend strictly")
        return self

    @property
    def out_of_range(self) -> int:
        """Index of the out-of-range bin."""
        return len(self.counts) - 2

    @property
    def missing(self) -> int:
        """Index of the missing bin."""
        return len(self.counts) - 1

    def index(self, value: float | None) -> int:
        """The bin of a value; None and NaN are missing."""
        if value is None or math.isnan(value):
            return self.missing
        seen = _seen(value)
        if not _within(seen, self.minimum, self.maximum):
            return self.out_of_range
        at = bisect_left(self.points, seen, key=_seen)
        if at < len(self.points) and _seen(self.points[at]) == seen:
            return at
        return len(self.points) + bisect_left(self.edges, seen, key=_seen)

    def labels(self) -> list[str]:
        """A reader's name for each bin, in the order of `counts`."""
        bounds = [-math.inf if self.minimum is None else self.minimum, *self.edges]
        bounds.append(math.inf if self.maximum is None else self.maximum)
        intervals = [f"({low:g}, {high:g}]" for low, high in pairwise(bounds)]
        return [*(f"= {point:g}" for point in self.points), *intervals, "out of range", "missing"]


class CategoryBins(Document):
    """Bins of a category: one per value, then unseen, then missing; `counts` in that order."""

    kind: Literal["category"] = "category"
    values: list[str | int]
    counts: list[int]

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if len(self.counts) != len(self.values) + 2:
            raise ValueError(f"{len(self.counts)} counts for {len(self.values)} values")
        return self

    @property
    def out_of_range(self) -> int:
        """Index of the bin of unseen categories."""
        return len(self.counts) - 2

    @property
    def missing(self) -> int:
        """Index of the missing bin."""
        return len(self.counts) - 1

    def index(self, value: str | int | None) -> int:
        """The bin of a value; None is missing."""
        if value is None:
            return self.missing
        try:
            return self.values.index(value)
        except ValueError:
            return self.out_of_range

    def labels(self) -> list[str]:
        """A reader's name for each bin, in the order of `counts`."""
        return [*(str(value) for value in self.values), "unseen", "missing"]


BinTable = Annotated[NumberBins | CategoryBins, Field(discriminator="kind")]


def freeze_numbers(
    values: Iterable[float | None], minimum: float | None = None, maximum: float | None = None, bins: int = BINS
) -> NumberBins:
    """Cut a reference column into at most about `bins` bins and count its rows in them."""
    column = [None if value is None or math.isnan(value) else _seen(value) for value in values]
    inside = sorted(value for value in column if value is not None and _within(value, minimum, maximum))
    frequency = Counter(inside)
    if len(frequency) <= bins:
        points = sorted(frequency)
    else:
        points = sorted(value for value, count in frequency.items() if count * bins >= len(inside))
    rest = [value for value in inside if value not in set(points)] if points else inside
    edges = _quantile_edges(rest, max(1, bins - len(points)))
    empty = [0] * (len(points) + len(edges) + 3)
    table = NumberBins(points=points, edges=edges, minimum=minimum, maximum=maximum, counts=empty)
    return table.model_copy(update={"counts": _count((table.index(value) for value in column), len(table.counts))})


def freeze_categories(values: Iterable[str | int | None], categories: Sequence[str | int]) -> CategoryBins:
    """Count a reference column's rows per category of the contract."""
    table = CategoryBins(values=list(categories), counts=[0] * (len(categories) + 2))
    return table.model_copy(update={"counts": _count((table.index(value) for value in values), len(table.counts))})


def _seen(value: float) -> float:
    """A number as the graph reads it; one beyond float32 is the largest or smallest of it."""
    return max(-_FLOAT32_MAX, min(_FLOAT32_MAX, c_float(value).value))


def _within(seen: float, minimum: float | None, maximum: float | None) -> bool:
    """Whether a number that the graph reads so lies in the range; the range is read alike."""
    return (minimum is None or seen >= _seen(minimum)) and (maximum is None or seen <= _seen(maximum))


def _quantile_edges(ordered: list[float], cuts: int) -> list[float]:
    """Inner edges at data values, so that each right-closed interval holds about the same number of rows."""
    if not ordered:
        return []
    edges = {ordered[math.ceil(len(ordered) * cut / cuts) - 1] for cut in range(1, cuts)}
    return sorted(edge for edge in edges if edge < ordered[-1])


def _count(indices: Iterable[int], size: int) -> list[int]:
    counts = [0] * size
    for index in indices:
        counts[index] += 1
    return counts
