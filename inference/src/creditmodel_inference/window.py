"""The latest applicants against the reference: PSI per feature over a sliding window, for an early look.

Counted in the scoring log's thread, off the way of requests. The drift job judges, with power and thresholds; this only
shows where to look. As there, half a row is added to each bin of both sides, so that the index is finite.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

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
    """Counts per bin of the latest rows. One thread adds, any may ask."""

    def __init__(self, contract: Contract) -> None:
        self._names = [feature.name for feature in contract.features]
        self._bins = [_binning(feature, contract.bins.features[feature.name]) for feature in contract.features]
        self._reference = [np.array(contract.bins.features[name].counts, np.int64) for name in self._names]
        self._total = [np.zeros_like(counts) for counts in self._reference]
        self._pages: deque[tuple[int, list[Counts]]] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def add(self, rows: Values) -> None:
        """Count encoded rows, shape [n, F]."""
        columns = zip(self._bins, rows.T, self._reference, strict=True)
        page = [np.bincount(place(column), minlength=len(reference)) for place, column, reference in columns]
        with self._lock:
            self._pages.append((len(rows), page))
            self._change(len(rows), page, 1)
            while self._rows - self._pages[0][0] >= WINDOW_ROWS:
                self._change(*self._pages.popleft(), -1)

    def _change(self, rows: int, page: list[Counts], sign: int) -> None:
        self._rows += sign * rows
        for total, counts in zip(self._total, page, strict=True):
            total += sign * counts

    def psi(self) -> tuple[int, dict[str, float]]:
        """Rows in the window, and the index of each feature once there are MIN_ROWS."""
        with self._lock:
            rows, totals = self._rows, [total.copy() for total in self._total]
        if rows < MIN_ROWS:
            return rows, {}
        both = zip(self._names, self._reference, totals, strict=True)
        return rows, {name: _psi(reference, total) for name, reference, total in both}


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
    # An infinity after the last point: no value within float32 equals it.
    points, edges = np.array([*table.points, np.inf]), np.array(table.edges)
    low = -np.inf if table.minimum is None else table.minimum
    high = np.inf if table.maximum is None else table.maximum

    def place(values: Values) -> NDArray[np.intp]:
        at = np.searchsorted(points, values)
        is_point = points[np.minimum(at, len(points) - 1)] == values
        found = np.where(is_point, at, len(table.points) + np.searchsorted(edges, values))
        inside = np.where((values < low) | (values > high), table.out_of_range, found)
        return np.where(np.isnan(values), table.missing, inside)

    return place
