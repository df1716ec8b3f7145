"""The verdict: which columns drifted, and whether the window says enough to tell. Pure functions of counts.

Two tiers, as the credit industry reads PSI. A feature has *drifted* when its PSI exceeds the larger of two thresholds:
the practical one (0.10, worth a look), below which a shift does not matter, and the highest PSI that sampling explains
at this window size; or when values are missing, unseen or out of range more often than the reference explains, by a
margin that matters; or when its schema changed. The *data set* has drifted when the largest PSI that sampling does not
explain, of a feature or the score, exceeds the alarm limit (0.25, act), or when too large a share of the features has
drifted. Both figures are in the measurement, so whoever judges it again by the same two limits gets the same answer.

Many columns are tested at once, so each test gets an equal part of `alpha` (Bonferroni): a window without drift flags
a column of any kind with probability at most about alpha. Holm's correction would find slightly more, but a column's
threshold would then depend on all other columns; here it is one number that can be printed, plotted and judged again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from creditmodel_drift.baseline import Baseline, Column
from creditmodel_drift.scan import Counts
from creditmodel_drift.statistics import pool, psi, psi_quantile, rate_increase_p_value, rows_for_power

__all__ = ["ACT", "PSI_DIGITS", "WATCH", "ColumnVerdict", "Outcome", "Settings", "Verdict", "judge", "minimum_rows"]

Outcome = Literal["drift", "no_drift", "inconclusive"]

WATCH, ACT = 0.10, 0.25
"""The credit industry's conventions: below 0.10 no shift worth a look, above 0.25 one that asks for action."""

PSI_DIGITS = 5
"""Decimals of a PSI in a measurement."""

_TESTS_PER_COLUMN = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of a check.

    psi: practical threshold of a feature. alarm_psi: PSI of any one column over which the data set has drifted.
    max_drifted_share: share of features that may drift before the data set has. alpha: probability of any false finding
    in a window without drift. missing_margin, unseen_margin: increases of a rate (share of rows) below which it does
    not matter. min_rows: None computes it. power: probability with which the smallest window shows a PSI of ACT.
    """

    psi: float = WATCH
    alarm_psi: float = ACT
    max_drifted_share: float = 0.3
    alpha: float = 0.01
    missing_margin: float = 0.05
    unseen_margin: float = 0.01
    min_rows: int | None = None
    power: float = 0.8


@dataclass(frozen=True, slots=True)
class ColumnVerdict:
    """One column of the window. Rates are shares of rows; `causes` says why it drifted and is empty when it did not.

    `noise` is the highest PSI that sampling explains; `threshold` is that or the practical limit.
    """

    column: Column
    counts: list[int]
    psi: float
    threshold: float
    noise: float
    missing_rate: float
    unseen_rate: float
    reference_missing_rate: float
    reference_unseen_rate: float
    causes: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether anything about the column drifted."""
        return bool(self.causes)

    @property
    def certain_psi(self) -> float:
        """The PSI where sampling does not explain it, else 0."""
        return self.psi if self.psi > self.noise else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The window's verdict, its columns by falling PSI (drifted ones first), and the reason as one sentence."""

    outcome: Outcome
    reason: str
    rows: int
    reference_rows: int
    min_rows: int | None
    features: tuple[ColumnVerdict, ...]
    score: ColumnVerdict | None
    settings: Settings = field(default_factory=Settings)

    @property
    def drifted(self) -> list[ColumnVerdict]:
        """Drifted features."""
        return [feature for feature in self.features if feature.drifted]

    @property
    def drifted_share(self) -> float:
        """Share of the features that drifted."""
        return len(self.drifted) / len(self.features)

    @property
    def psi_max(self) -> float:
        """Largest PSI of a feature or the score that sampling does not explain; 0 when there is none.

        Rounded as the measurement carries it, so that both are judged alike.
        """
        columns = (*self.features, *([] if self.score is None else [self.score]))
        return round(max(column.certain_psi for column in columns), PSI_DIGITS)

    @property
    def exceeds(self) -> bool:
        """Whether the window is over one of the two limits of a data set."""
        return self.psi_max > self.settings.alarm_psi or self.drifted_share > self.settings.max_drifted_share


def judge(baseline: Baseline, counts: Counts, schema: Mapping[str, str], settings: Settings) -> Verdict:
    """Judge a window. `schema` says, by feature, how its schema changed."""
    level = settings.alpha / (_TESTS_PER_COLUMN * len(baseline.columns))
    judged = [
        _judge_column(column, counts.bins[column.name], counts.rows, schema.get(column.name), level, settings)
        for column in baseline.columns
        if column.name in counts.bins
    ]
    score = next((column for column in judged if column.column is baseline.score), None)
    features = sorted((c for c in judged if c is not score), key=lambda c: (not c.drifted, -c.psi))
    needed = minimum_rows(baseline, settings)
    draft = Verdict("no_drift", "", counts.rows, baseline.rows, needed, tuple(features), score, settings)
    outcome, reason = _conclude(draft, bool(schema))
    return Verdict(outcome, reason, counts.rows, baseline.rows, needed, tuple(features), score, settings)


def minimum_rows(baseline: Baseline, settings: Settings) -> int | None:
    """The smallest window that can clear a model of drift: one that would show a PSI of ACT with the power asked for.

    None when the reference is too small for any window to do so.
    """
    if settings.min_rows is not None:
        return settings.min_rows
    level = settings.alpha / (_TESTS_PER_COLUMN * len(baseline.columns))
    cells = max([2, *(sum(count > 0 for count in column.table.counts) for column in baseline.columns)])
    return rows_for_power(ACT, cells, baseline.rows, level, settings.power)


def _judge_column(
    column: Column, counts: list[int], rows: int, schema: str | None, level: float, settings: Settings
) -> ColumnVerdict:
    table = column.table
    total = sum(table.counts)
    risen = _risen(column, counts, rows, level, settings)
    # A changed schema is no matter of sampling: every bin stands for itself, and there is no chance to allow for.
    before, after = pool(table.counts, counts, range(len(counts)) if schema is not None else risen)
    value = psi(before, after) if rows else 0.0
    noise = psi_quantile(len(before), total, rows, level) if schema is None else 0.0
    threshold = max(settings.psi, noise)
    causes = [] if schema is None else [schema]
    if value > threshold:
        causes.append(f"PSI {value:.3f} over {threshold:.3f}")
    causes += [
        f"{name} {_percent(counts[at], rows)}, was {_percent(table.counts[at], total)}" for at, name in risen.items()
    ]
    return ColumnVerdict(
        column=column,
        counts=counts,
        psi=value,
        threshold=threshold,
        noise=noise,
        missing_rate=_rate(counts[table.missing], rows),
        unseen_rate=_rate(counts[table.out_of_range], rows),
        reference_missing_rate=_rate(table.counts[table.missing], total),
        reference_unseen_rate=_rate(table.counts[table.out_of_range], total),
        causes=tuple(causes),
    )


def _risen(column: Column, counts: list[int], rows: int, level: float, settings: Settings) -> dict[int, str]:
    """Bins of missing and of unseen or out-of-range values that hold more than chance explains, and what they are."""
    table = column.table
    watched = (
        (table.missing, settings.missing_margin, "missing"),
        (table.out_of_range, settings.unseen_margin, "out of range" if column.kind == "number" else "unseen"),
    )
    total = sum(table.counts)
    return {
        at: name for at, margin, name in watched if _rises(table.counts[at], total, counts[at], rows, margin, level)
    }


def _rises(reference_hits: int, reference_rows: int, hits: int, rows: int, margin: float, level: float) -> bool:
    """Whether a rate rose by more than the margin, and by more than sampling explains."""
    rose = _rate(hits, rows) - _rate(reference_hits, reference_rows)
    return rose > margin and rate_increase_p_value(reference_hits, reference_rows, hits, rows) < level


def _conclude(verdict: Verdict, schema_changed: bool) -> tuple[Outcome, str]:
    """Outcome and reason. A changed schema is a fact at any number of rows; every other answer needs enough of them."""
    if verdict.rows == 0:
        return "inconclusive", "no rows in the window"
    if verdict.min_rows is None:
        return "inconclusive", f"the reference has {verdict.reference_rows} rows, too few to tell drift from sampling"
    enough = verdict.rows >= verdict.min_rows
    if verdict.exceeds and (enough or schema_changed):
        return "drift", _figures(verdict)
    if not enough:
        return "inconclusive", (
            f"{verdict.rows} rows, and {verdict.min_rows} are needed to tell a PSI of {ACT:g} from sampling"
        )
    return "no_drift", _figures(verdict)


def _figures(verdict: Verdict) -> str:
    """Both figures beside their limits, then the columns that drifted."""
    settings = verdict.settings
    figures = (
        f"{len(verdict.drifted)} of {len(verdict.features)} features drifted (share {verdict.drifted_share:.2f}, "
        f"limit {settings.max_drifted_share:g}), largest PSI {verdict.psi_max:.3f} (limit {settings.alarm_psi:g})"
    )
    drifted = ([verdict.score] if verdict.score is not None and verdict.score.drifted else []) + verdict.drifted
    named = "; ".join(f"{_name(c)} ({', '.join(c.causes)})" for c in drifted[:3])
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    return f"{figures}: {named}{more}" if drifted else figures


def _name(verdict: ColumnVerdict) -> str:
    return "score" if verdict.column.name.startswith("_") else verdict.column.name


def _rate(hits: int, rows: int) -> float:
    return hits / rows if rows else 0.0


def _percent(hits: int, rows: int) -> str:
    return f"{100 * _rate(hits, rows):.3g} %"
