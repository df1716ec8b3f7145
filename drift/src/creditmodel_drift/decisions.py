# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""What the shift of the score does to decisions: shares at the cut-offs, and the swap-set that would keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from creditmodel_drift.baseline import SCORE
from creditmodel_drift.binning import quote
from creditmodel_drift.parts import Survey
from creditmodel_drift.reference import Reference
from creditmodel_drift.scan import Scan

__all__ = ["Decision", "decisions"]

PROBABILITY = "_probability"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision and the probability of default that it begins at. Shares are of applicants, 0 to 1.

    `swapped` is the share of today's applicants on the other side of `min_probability` than of `same_share_at`, the
    probability above which there is today the share of applicants that the reference has above `min_probability`. Above
    0 when more are beyond the cut-off than there were. Both are None for the first decision, which has no cut-off.
    """

    name: str
    min_probability: float
    reference_share: float
    current_share: float
    swapped: float | None = None
    same_share_at: float | None = None


def decisions(current: Scan, reference: Reference) -> tuple[Decision, ...]:
    """The contract's decisions in both tables; none without cut-offs, or where a table has no score."""
    cutoffs, surveys = reference.baseline.cutoffs, (current.survey, reference.rows)
    if not cutoffs or not all({PROBABILITY, SCORE} & found.names for found in surveys):
        return ()
    bounds = [bound for _, bound in cutoffs[1:]]
    before = _beyond(reference.scan(), bounds)
    now = _beyond(current, bounds)
    if before is None or now is None:
        return ()
    keeping = _quantiles(current, [1 - share for share in before])
    edges = [*zip(before, now, strict=True), (0.0, 0.0)]
    shares = [(p - p_next, q - q_next) for (p, q), (p_next, q_next) in zip([(1.0, 1.0), *edges], edges, strict=False)]
    cuts = [(None, None), *((q - p, at) for (p, q), at in zip(edges, keeping, strict=False))]
    return tuple(
        Decision(name, bound, p, q, swapped, at)
        for (name, bound), (p, q), (swapped, at) in zip(cutoffs, shares, cuts, strict=True)
    )


def _probability(found: Survey) -> str:
    """The probability of default in SQL; a column of text files is text."""
    if PROBABILITY in found.names:
        return f"TRY_CAST({quote(PROBABILITY)} AS DOUBLE)"
    return f"1 / (1 + exp(-TRY_CAST({quote(SCORE)} AS DOUBLE)))"


def _beyond(scan: Scan, bounds: Sequence[float]) -> list[float] | None:
    """The share of scored rows at or above each bound; None without such rows."""
    value = _probability(scan.survey)
    sums = "".join(f", countif(p >= {bound!r})" for bound in bounds)
    statement = f"SELECT count(p){sums} FROM (SELECT {value} AS p FROM ({scan.rows})) WHERE p BETWEEN 0 AND 1"
    rows, *hits = scan.engine.rows(statement)[0]
    return [int(hit) / rows for hit in hits] if rows else None


def _quantiles(scan: Scan, levels: Sequence[float]) -> list[float]:
    """Probabilities below which the given shares of rows lie, by a digest of bounded size."""
    if not levels:
        return []
    wanted = ", ".join(repr(level) for level in levels)
    value = _probability(scan.survey)
    statement = f"SELECT approx_quantile({value}, [{wanted}]) FROM ({scan.rows}) WHERE {value} BETWEEN 0 AND 1"
    return [float(found) for found in scan.engine.rows(statement)[0][0]]
