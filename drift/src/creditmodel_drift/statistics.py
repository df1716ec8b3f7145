"""The statistics of a drift check: PSI with its sampling distribution, and exact tests of rates. Pure functions.

PSI = Σ (q − p)·ln(q / p) over bins, p the reference's share and q the current window's. With n reference rows, m
current rows, B bins and no drift, PSI is distributed about as (1/n + 1/m)·χ² with B − 1 degrees of freedom
("Statistical properties of the population stability index", Journal of Risk Model Validation 14(4), 2020): the same PSI
of 0.1 is noise in 200 rows and certainty in 20,000.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, chdtri, chndtr

__all__ = ["pool", "psi", "psi_quantile", "rate_increase_p_value", "rows_for_power"]

MIN_EXPECTED = 5.0
"""Rows that the reference lets expect in a bin for it to stand alone (Cochran's rule for χ²)."""

_MAX_ROWS = 1 << 40


def pool(
    reference: Sequence[int], current: Sequence[int], alone: Collection[int] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both counts with sparse bins merged into one, as float64 [cells].

    A bin is sparse when fewer than MIN_EXPECTED rows are expected in it in the smaller of both samples, by the share
    that it has of both together. Without drift that share says nothing of how its rows divide between the two, so the
    merge chooses nothing; by the reference's count alone it would keep, of many small bins, those that chance had
    filled.
    Merged bins that stay sparse together join the smallest of the others. Bins that are empty in the reference are
    among them: their own rates have exact tests. A bin in `alone` is never merged: its exact test has rejected chance.
    """
    before, after = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    rows = max(before.sum() + after.sum(), 1.0)
    expected = np.where(before > 0, before + after, 0.0) * min(before.sum(), after.sum()) / rows
    expected[list(alone)] = np.inf
    order = np.argsort(expected, kind="stable")
    merged = int(np.count_nonzero(expected < MIN_EXPECTED))
    while 0 < merged < len(order) and expected[order[:merged]].sum() < MIN_EXPECTED:
        merged += 1
    if merged == 0:
        return before, after
    rest, kept = order[:merged], np.sort(order[merged:])
    return np.append(before[kept], before[rest].sum()), np.append(after[kept], after[rest].sum())


def psi(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Population stability index of two counts [cells]; half a row is added to each bin of both, so it is finite."""
    p = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    q = (current + 0.5) / (current.sum() + 0.5 * len(current))
    return float(np.sum((q - p) * np.log(q / p)))


def psi_quantile(cells: int, reference_rows: int, rows: int, level: float) -> float:
    """The PSI that a window without drift exceeds with probability `level`; 0 for one bin, infinite without rows."""
    if cells < 2:
        return 0.0
    if min(reference_rows, rows) < 1:
        return math.inf
    return (1 / reference_rows + 1 / rows) * float(chdtri(cells - 1, level))


def rate_increase_p_value(reference_hits: int, reference_rows: int, hits: int, rows: int) -> float:
    """How likely at least `hits` of `rows` are when the reference's rate still holds: exact, one-sided, at most 1.

    Given the hits of both samples together, those in the current one are binomial when both rates are equal and small;
    for larger rates the true spread is narrower, so the test errs towards silence. The reference's own sampling error
    is in it: one missing value in 10,000 rows is no alarm because 1,000 reference rows had none.
    """
    if hits == 0:
        return 1.0
    share = rows / (rows + reference_rows)
    return float(bdtrc(hits - 1, hits + reference_hits, share))


def rows_for_power(shift: float, cells: int, reference_rows: int, level: float, power: float) -> int | None:
    """The smallest window that tells a true PSI of `shift` from no drift with probability `power`.

    Under drift PSI is about (1/n + 1/m) times a non-central χ² with non-centrality shift / (1/n + 1/m).
    None when the reference is too small for any window to do so.
    """
    critical = float(chdtri(cells - 1, level))

    def detects(rows: int) -> bool:
        centre = shift / (1 / reference_rows + 1 / rows)
        return float(1 - chndtr(critical, cells - 1, centre)) >= power

    if reference_rows < 1 or not detects(_MAX_ROWS):
        return None
    low, high = 1, 1
    while not detects(high):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detects(middle) else (middle + 1, high)
    return high
