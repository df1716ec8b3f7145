# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""Quality: realised, on applicants whose outcome is known by now, and estimated, on those whose outcome is not.

The estimate takes the model's calibrated probabilities at their word: it shows what another mix of applicants does to
discrimination, and cannot show that the model itself has become wrong. The two are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_bundle.measurement import Estimate, Quality
from creditmodel_drift.baseline import Baseline, Column
from creditmodel_drift.calibration import Band, bands, summary
from creditmodel_drift.engine import Engine
from creditmodel_drift.errors import BadInput, EngineFailed, NoUsableData, transport_errors
from creditmodel_drift.outcomes import Outcomes
from creditmodel_drift.parts import Survey, find, survey
from creditmodel_drift.scan import Scan, around_broken_parts, select, time_of
from creditmodel_drift.window import Period

__all__ = ["Realised", "estimated", "matured", "quality", "realised"]

_KEY = {"_request_id", "_row"}
_DIGITS = 6
"""Decimals of a probability that is joined with its outcome: memory is bounded by them, whatever the number of rows."""

_HASH = "hash(CAST(_request_id AS VARCHAR), TRY_CAST(_row AS BIGINT))"
"""What rows are joined by: a label takes 16 bytes, however long its id. Among a million labels and a hundred million
rows, one pair that does not belong together is to be expected once in 200,000 checks."""

_LABELS = Baseline(
    "labels",
    0,
    (
        Column("_request_id", "text", CategoryBins(values=[], counts=[0, 0])),
        Column("_row", "number", NumberBins(edges=[], counts=[0, 0, 0])),
        Column("_label", "number", NumberBins(edges=[], counts=[0, 0, 0])),
    ),
    None,
)
"""What a table of labels has to have."""


@dataclass(frozen=True, slots=True)
class Realised:
    """Figures on matured labels, calibration by band of probability, and what was wrong with the labels."""

    figures: Quality
    bands: tuple[Band, ...] = ()
    notes: tuple[str, ...] = ()


def matured(maturity: timedelta, until: Period, length: timedelta | None = None) -> Period:
    """Scores old enough for their outcome to be known: an applicant who has not defaulted yet is not good yet.

    `length` is how far back from there they go; all of them when it is None.
    """
    end = until.end - maturity
    return Period(None if length is None else end - length, end)


def realised(
    engine: Engine, baseline: Baseline, uri: str, labels_uri: str, period: Period, revision: str | None
) -> Realised:
    """Join the scores of a period with labels by request id and row. Raises BadInput and NoUsableData.

    The labels are what is kept in memory (or spilled); the log streams past them and only their rows are kept.
    """
    labels = _labels(labels_uri)
    if not labels.usable:
        return Realised(Quality(rows=0), notes=_notes(labels))
    newest = _newest(engine, labels)

    def joined(found: Survey) -> Realised:
        if not found.usable:
            return Realised(Quality(rows=0), notes=_notes(labels))
        if absent := sorted((_KEY | {"_probability"}) - found.names):
            raise BadInput(f"quality needs the columns {', '.join(absent)}, which {uri} has not")
        chosen = select(engine, found, baseline, period if "_time" in found.names else None, revision)
        scored = _scored(chosen.rows, time_of(found) or "0")
        table = engine.arrow(_join(scored, newest))
        mature = int(engine.rows(f"SELECT count(*) FROM ({scored}) WHERE p BETWEEN 0 AND 1")[0][0])
        outcomes = Outcomes(*(table[name].to_numpy().astype(np.float64) for name in ("p", "n", "bad")))
        found_bands = bands(outcomes)
        figures = quality(outcomes).model_copy(update={"calibration": summary(found_bands), "matured": mature})
        return Realised(figures, found_bands, _notes(labels))

    return around_broken_parts(engine, baseline, uri, find(uri, period, revision), joined)


def _scored(rows: str, time: str) -> str:
    """What labels are joined with, in SQL."""
    return (
        f"SELECT {_HASH} AS key, TRY_CAST(_probability AS DOUBLE) AS p, coalesce({time}, 0) AS time FROM ({rows}) "
        "WHERE _request_id IS NOT NULL"
    )


def _join(scored: str, labels: str) -> str:
    """Outcomes by probability, in SQL. Of further copies of a row the first one counts.

    In order, so that the same rows give the same sums to the last bit, wherever they lie.
    """
    each = (
        f"SELECT arg_min(s.p, s.time) AS p, max(l.label) AS label FROM ({scored}) s JOIN {labels} l ON s.key = l.key "
        "WHERE s.p BETWEEN 0 AND 1 GROUP BY s.key"
    )
    return (
        f"SELECT round(p, {_DIGITS}) AS p, count(*) AS n, countif(label = 1) AS bad FROM ({each}) GROUP BY 1 ORDER BY 1"
    )


def quality(outcomes: Outcomes) -> Quality:
    """Figures of probabilities of default and what became of the applicants. Undefined ones are None."""
    rows, bad = int(outcomes.rows.sum()), int(outcomes.bad.sum())
    if rows == 0:
        return Quality(rows=0)
    p, goods = outcomes.probability, outcomes.rows - outcomes.bad
    brier = float(((1 - p) ** 2 * outcomes.bad + p**2 * goods).sum() / rows)
    if bad in (0, rows):
        return Quality(rows=rows, brier=brier)
    auc, ks = _discrimination(p, outcomes.bad, goods)
    return Quality(rows=rows, auc=auc, ks=ks, gini=2 * auc - 1, brier=brier)


def estimated(scan: Scan) -> Estimate | None:
    """What to expect of the rows of a window; None where no row has a probability. Each counts as p bad and 1 − p good.

    Probabilities are rounded to four decimals, so that memory does not grow with rows.
    """
    if "_probability" not in scan.survey.names:
        return None
    table = scan.engine.arrow(
        "SELECT round(TRY_CAST(_probability AS DOUBLE), 4) AS p, count(*) AS n "
        f"FROM ({scan.rows}) WHERE TRY_CAST(_probability AS DOUBLE) BETWEEN 0 AND 1 GROUP BY 1 ORDER BY 1"
    )
    p, n = (table[name].to_numpy().astype(np.float64) for name in ("p", "n"))
    rows, bad = float(n.sum()), float((p * n).sum())
    if not rows:
        return None
    brier = float((p * (1 - p) * n).sum() / rows)
    if not 0 < bad < rows:
        return Estimate(rows=int(rows), brier=brier, bad_rate=bad / rows)
    auc, ks = _discrimination(p, p * n, (1 - p) * n)
    return Estimate(rows=int(rows), auc=auc, ks=ks, gini=2 * auc - 1, brier=brier, bad_rate=bad / rows)


def _discrimination(
    probability: NDArray[np.float64], bad: NDArray[np.float64], good: NDArray[np.float64]
) -> tuple[float, float]:
    """AUC and KS of probabilities against weights of bad and good [rows], neither of which sums to 0."""
    # One step of both distribution functions per distinct probability, so ties count half.
    _, step = np.unique(probability, return_inverse=True)
    bads, goods = np.bincount(step, weights=bad), np.bincount(step, weights=good)
    below = np.cumsum(goods) - goods
    auc = float(np.sum(bads * (below + goods / 2)) / (bads.sum() * goods.sum()))
    return auc, float(np.max(np.abs(np.cumsum(bads) / bads.sum() - np.cumsum(goods) / goods.sum())))


def _labels(uri: str) -> Survey:
    """The parts with labels. Raises BadInput without the columns it takes, NoUsableData without a readable part."""
    found = survey(uri, *find(uri), _LABELS, {})
    if not found.usable and found.corrupt:
        name, why = next(iter(found.corrupt.items()))
        raise NoUsableData(f"{uri}: none of {len(found.corrupt)} files with labels can be read; {name} {why}")
    lacking = [column.name for column in _LABELS.features if found.physical[column.name] == "absent"]
    if lacking and (found.usable or found.foreign):
        raise BadInput(f"labels need the columns {', '.join(lacking)}, which {uri} has not")
    if found.wrong_types:
        name, how = next(iter(found.wrong_types.items()))
        raise BadInput(f"labels need numbers in _row and _label and text in _request_id; {name} {how} in {uri}")
    return found


def _newest(engine: Engine, labels: Survey) -> str:
    """A table of the newest label of each row, as key and label (0 or 1). Raises NoUsableData."""
    # Of labels without a time of observation, and of those observed at once, a bad one counts: it is not taken back.
    observed = f"coalesce({time_of(labels, '_observed') or '0'}, 0)"
    label = "TRY_CAST(_label AS DOUBLE)"
    statement = (
        f"SELECT {_HASH} AS key, arg_max({label}, 2 * {observed} + {label}) AS label "
        f"FROM {engine.table(labels, ('',))} WHERE {label} IN (0, 1) AND _request_id IS NOT NULL GROUP BY 1"
    )
    try:
        return engine.keep(statement)
    except transport_errors(EngineFailed) as e:
        raise NoUsableData(f"{labels.uri} cannot be read: {' '.join(str(e).split())[:300]}") from e


def _notes(labels: Survey) -> tuple[str, ...]:
    """What a reader must know about the labels."""
    left = labels.corrupt | labels.foreign
    notes = [] if not left else [f"{len(left)} files with labels left out ({' '.join(next(iter(left.items())))[:200]})"]
    return tuple(notes if labels.usable else [*notes, f"{labels.uri} has no labels yet"])
