"""The latest applicants against the reference: PSI per feature over a sliding window, for an early look.

Counted in the scoring log's thread whenever a part is closed, off the way of requests. The drift job judges, with power
and thresholds; this only shows where to look. As there, half a row is added to each bin of both sides, so that the
index is finite.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_bundle.contract import Contract, Feature

__all__ = ["FeatureWindow"]

WINDOW_ROWS = 10_000
"""Applicants in the window: pages leave it whole once the rest has as many."""

MIN_ROWS = 1_000
"""Below, an index of ten bins is mostly noise, and none is told."""

Values = NDArray[np.float64]
Counts = NDArray[np.int64]


class FeatureWindow:
    """The latest rows, and their index at the last measurement. One thread adds and measures, any may ask."""

    def __init__(self, contract: Contract) -> None:
        self._names = [feature.name for feature in contract.features]
        self._bins = [_binning(feature, contract.bins.features[feature.name]) for feature in contract.features]
        self._reference = [np.array(contract.bins.features[name].counts, np.int64) for name in self._names]
        self._pages: deque[Values] = deque()
        self._rows = 0
        self._measured: tuple[int, dict[str, float]] = (0, {})

    def add(self, rows: Values) -> None:
        """Take encoded rows in, shape [n, F]. They are kept, and must not change."""
        self._pages.append(rows)
        self._rows += len(rows)
        while self._rows - len(self._pages[0]) >= WINDOW_ROWS:
            self._rows -= len(self._pages.popleft())

    def measure(self) -> None:
        """Count the rows in the window, of which most that were added under load have left it uncounted."""
        indices = {}
        if self._rows >= MIN_ROWS:
            counted = zip(self._names, self._reference, self.counts(), strict=True)
            indices = {name: _psi(reference, counts) for name, reference, counts in counted}
        self._measured = self._rows, indices

    def counts(self) -> Iterator[Counts]:
        """Rows per bin, feature by feature."""
        for i, (place, reference) in enumerate(zip(self._bins, self._reference, strict=True)):
            column = np.concatenate([page[:, i] for page in self._pages])
            yield np.bincount(place(column), minlength=len(reference))

    def psi(self) -> tuple[int, dict[str, float]]:
        """Rows in the window when it was last measured, and the index of each feature if there were MIN_ROWS."""
        return self._measured


def _psi(reference: Counts, current: Counts) -> float:
    p = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    q = (current + 0.5) / (current.sum() + 0.5 * len(current))
    return float(np.sum((q - p) * np.log(q / p)))


def _binning(feature: Feature, table: NumberBins | CategoryBins) -> Callable[[Values], NDArray[np.intp]]:
    """A function from a column of encoded values to the indices of their bins."""
    if isinstance(table, NumberBins):
        return _number_binning(table)
    ordered = sorted(feature.categories, key=lambda category: category.code)
    codes = np.array([category.code for category in ordered], np.float64)
    places = np.array([table.index(category.value) for category in ordered], np.intp)

    def place(values: Values) -> NDArray[np.intp]:
        at = np.minimum(np.searchsorted(codes, values), len(codes) - 1)
        found = np.where(codes[at] == values, places[at], table.out_of_range)
        return np.where(np.isnan(values), table.missing, found)

    return place


def _number_binning(table: NumberBins) -> Callable[[Values], NDArray[np.intp]]:
    # Bins compare what the graph reads. An infinity after the last point: no value within float32 equals it.
    points, edges = np.array([*table.points, np.inf], np.float32), np.array(table.edges, np.float32)
    low = np.float32(-np.inf if table.minimum is None else table.minimum)
    high = np.float32(np.inf if table.maximum is None else table.maximum)

    def place(values: Values) -> NDArray[np.intp]:
        seen = values.astype(np.float32)
        at = np.searchsorted(points, seen)
        is_point = points[np.minimum(at, len(points) - 1)] == seen
        found = np.where(is_point, at, len(table.points) + np.searchsorted(edges, seen))
        inside = np.where((seen < low) | (seen > high), table.out_of_range, found)
        return np.where(np.isnan(seen), table.missing, inside)

    return place
