"""The latest applicants against the reference: PSI per feature over a sliding window, for an early look.

Counted in the scoring log's thread whenever it is time to close parts, off the way of requests. The drift job judges,
with power and thresholds; this only shows where to look. As there, half a row is added to each bin of both sides, so
that the index is finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_bundle.contract import Contract, Feature

__all__ = ["FeatureWindow"]

WINDOW_ROWS = 10_000
"""Applicants in the window."""

MIN_ROWS = 1_000
"""Below, an index of ten bins is mostly noise, and none is told."""

Values = NDArray[np.float32]
Counts = NDArray[np.int64]


class FeatureWindow:
    """The latest rows, and their index at the last measurement. One thread adds and measures, any may ask."""

    def __init__(self, contract: Contract) -> None:
        self._names = [feature.name for feature in contract.features]
        self._bins = [_binning(feature, contract.bins.features[feature.name]) for feature in contract.features]
        self._reference = [np.array(contract.bins.features[name].counts, np.int64) for name in self._names]
        self._latest = np.empty((WINDOW_ROWS, len(self._names)), np.float32)  # bins compare no more than that
        self._added = self._counted = 0
        self._measured: tuple[int, dict[str, float]] = (0, {})

    def add(self, rows: NDArray[np.float64]) -> None:
        """Take encoded rows in, shape [n, F] with n up to WINDOW_ROWS, in place of the oldest."""
        start = self._added % WINDOW_ROWS
        fitting, rest = rows[: WINDOW_ROWS - start], rows[WINDOW_ROWS - start :]
        self._latest[start : start + len(fitting)] = fitting
        self._latest[: len(rest)] = rest
        self._added += len(rows)

    def measure(self) -> None:
        """Count the rows in the window, of which most that were added under load have left it uncounted."""
        if self._added == self._counted:
            return
        self._counted = self._added
        rows, indices = min(self._added, WINDOW_ROWS), {}
        if rows >= MIN_ROWS:
            counted = zip(self._names, self._reference, self.counts(), strict=True)
            indices = {name: _psi(reference, counts) for name, reference, counts in counted}
        self._measured = rows, indices

    def counts(self) -> Iterator[Counts]:
        """Rows per bin, feature by feature."""
        columns = self._latest[: self._added].T
        for place, column, reference in zip(self._bins, columns, self._reference, strict=True):
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
    codes = np.array([category.code for category in ordered], np.float32)
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
        at = np.searchsorted(points, values)
        is_point = points[np.minimum(at, len(points) - 1)] == values
        found = np.where(is_point, at, len(table.points) + np.searchsorted(edges, values))
        inside = np.where((values < low) | (values > high), table.out_of_range, found)
        return np.where(np.isnan(values), table.missing, inside)

    return place
