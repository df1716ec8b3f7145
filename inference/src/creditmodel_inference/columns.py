"""Verdicts by column, for requests of many applicants: the same as `Answers.verdict` gives.

The graph's outputs are float32. A float32 times 10,000 or 1,000,000 has at most 44 significant bits, so the product is
exact in a double, and rounding it half to even gives the digits that Python's correctly rounded `round` and `%.6f`
give. Where that argument does not hold, for contributions beyond any sane model's, the scalar rule is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.reasons import MAX_REASONS
from creditmodel_inference.answers import MAX_LOG_ODDS, Answers, Verdict
from creditmodel_inference.blocks import Outputs
from creditmodel_inference.errors import Unscorable
from creditmodel_inference.writer import Writer

__all__ = ["LARGEST", "ColumnAnswers", "Columns", "one_by_one"]

LARGEST = 9.999
"""Contributions above this, in log-odds, are left to the scalar rule: one digit stands before the point."""

_PADDING = [(-1,) * (MAX_REASONS - count) for count in range(MAX_REASONS + 1)]


class Columns(NamedTuple):
    """Verdicts of n applicants. `reasons` has MAX_REASONS feature indices a row, -1 where there are fewer."""

    probability: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    points: NDArray[np.int64]
    decision: NDArray[np.int32]
    reasons: NDArray[np.int32]

    def take(self, rows: slice | NDArray[np.intp]) -> Columns:
        """Some of the rows."""
        return Columns(
            self.probability[rows], self.log_odds[rows], self.points[rows], self.decision[rows], self.reasons[rows]
        )


def _reason_table(reasons: Iterable[tuple[int, ...]]) -> NDArray[np.int32]:
    """Each row's feature indices, up to MAX_REASONS, as in `Columns.reasons`."""
    filled = [index for row in reasons for index in row + _PADDING[len(row)]]
    return np.array(filled, np.int32).reshape(-1, MAX_REASONS)


def _columns_of(verdicts: list[Verdict]) -> Columns:
    """Verdicts that were made one by one, by column."""
    return Columns(
        np.array([verdict.probability for verdict in verdicts], np.float64),
        np.array([verdict.log_odds for verdict in verdicts], np.float64),
        np.array([verdict.points for verdict in verdicts], np.int64),
        np.array([verdict.decision for verdict in verdicts], np.int32),
        _reason_table(verdict.reasons for verdict in verdicts),
    )


class ColumnAnswers:
    """Makes verdicts for blocks of rows of one model."""

    def __init__(self, answers: Answers, writer: Writer | None) -> None:
        self._answers = answers
        self._writer = writer
        self._bounds = np.array(answers.bounds)

    def columns(self, outputs: Outputs) -> Columns:
        """Verdicts of all rows of the graph's outputs. Raises Unscorable."""
        probability, log_odds = outputs.probability.astype(np.float64), outputs.log_odds.astype(np.float64)
        contributions = outputs.contributions.astype(np.float64)
        _check(probability, log_odds, contributions)
        if self._writer is None or contributions.max() > LARGEST:
            return _columns_of(one_by_one(self._answers, outputs))
        return Columns(
            probability,
            log_odds,
            self._answers.points_of(log_odds),
            (np.searchsorted(self._bounds, probability, side="right") - 1).astype(np.int32),
            self._writer.top_reasons(outputs.contributions),
        )


def one_by_one(answers: Answers, outputs: Outputs) -> list[Verdict]:
    """Verdicts by the scalar rule. Raises Unscorable."""
    rows = zip(
        *(array.tolist() for array in (outputs.probability, outputs.log_odds, outputs.contributions)), strict=True
    )
    return [answers.verdict(*row) for row in rows]


def _check(probability: NDArray[np.float64], log_odds: NDArray[np.float64], contributions: NDArray[np.float64]) -> None:
    probable = (probability >= 0.0) & (probability <= 1.0)
    if not (probable.all() and (np.abs(log_odds) <= MAX_LOG_ODDS).all() and np.isfinite(contributions).all()):
        raise Unscorable("The model gave no finite answer for this applicant.")
