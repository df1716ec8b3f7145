# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""Quality: realised, on applicants whose outcome is known by now, and estimated, on those whose outcome is not.

The estimate takes the model's calibrated probabilities at their word: it shows what another mix of applicants does to
discrimination, and cannot show that the model itself has become wrong. The two are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.measurement import Quality
from creditmodel_drift.baseline import Baseline
from creditmodel_drift.calibration import Band, bands
from creditmodel_drift.errors import BadInput, NoUsableData
from creditmodel_drift.parts import Survey, find
from creditmodel_drift.scan import Scan, around_broken_parts, open_scan, raw_table
from creditmodel_drift.window import Period

__all__ = ["Estimated", "Realised", "estimated", "matured", "quality", "realised"]

_KEY = {"_request_id", "_row"}


@dataclass(frozen=True, slots=True)
class Realised:
    """Figures on matured labels, and calibration by band of probability."""

    figures: Quality
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimated:
    """Figures to expect of the window's applicants if the model is calibrated, and the share of bad ones to expect."""

    figures: Quality
    bad_rate: float


def matured(maturity: timedelta, until: Period) -> Period:
    """All scores old enough for their outcome to be known: an applicant who has not defaulted yet is not good yet."""
    return Period(None, until.end - maturity)


def realised(
    connection: duckdb.DuckDBPyConnection,
    baseline: Baseline,
    uri: str,
    labels_uri: str,
    period: Period,
    revision: str | None,
) -> Realised:
    """Join the scores of a period with labels by request id and row. Raises BadInput and NoUsableData."""
    labels = _labels(connection, labels_uri)

    def joined(found: Survey) -> Realised:
        if not found.usable:
            return Realised(Quality(rows=0))
        if absent := sorted((_KEY | {"_probability"}) - found.names):
            raise BadInput(f"quality needs the columns {', '.join(absent)}, which {uri} has not")
        scan = open_scan(connection, found, baseline, period if "_time" in found.names else None, revision)
        statement = (
            f"SELECT CAST(s._probability AS DOUBLE) AS p, CAST(l.label AS DOUBLE) AS y FROM ({scan.rows}) s "
            f"JOIN ({labels}) l ON s._request_id = l._request_id AND s._row = l._row "
            "WHERE l.label IN (0, 1) AND s._probability BETWEEN 0 AND 1"
        )
        columns = connection.execute(statement).fetchnumpy()
        probability, label = (np.asarray(columns[name], dtype=np.float64) for name in ("p", "y"))
        return Realised(quality(probability, label), bands(probability, label))

    return around_broken_parts(connection, baseline, uri, find(uri, period, revision), joined)


def quality(probability: NDArray[np.float64], label: NDArray[np.float64]) -> Quality:
    """Figures of probabilities of default [rows] against labels [rows], 1 = bad. Undefined ones are None."""
    rows, bad = len(label), int(label.sum())
    if rows == 0:
        return Quality(rows=0)
    brier = float(np.mean((probability - label) ** 2))
    if bad in (0, rows):
        return Quality(rows=rows, brier=brier)
    auc, ks = _discrimination(probability, label, 1 - label)
    return Quality(rows=rows, auc=auc, ks=ks, gini=2 * auc - 1, brier=brier)


def estimated(scan: Scan) -> Estimated | None:
    """What to expect of the rows of a window; None where no row has a probability. Each counts as p bad and 1 − p good.

    Probabilities are rounded to four decimals, so that memory does not grow with rows.
    """
    if "_probability" not in scan.survey.names:
        return None
    columns = scan.connection.execute(
        "SELECT round(TRY_CAST(_probability AS DOUBLE), 4) AS p, CAST(count(*) AS DOUBLE) AS n "
        f"FROM ({scan.rows}) WHERE TRY_CAST(_probability AS DOUBLE) BETWEEN 0 AND 1 GROUP BY 1"
    ).fetchnumpy()
    p, n = (np.asarray(columns[name], dtype=np.float64) for name in ("p", "n"))
    rows, bad = float(n.sum()), float((p * n).sum())
    if not rows:
        return None
    brier = float((p * (1 - p) * n).sum() / rows)
    if not 0 < bad < rows:
        return Estimated(Quality(rows=int(rows), brier=brier), bad / rows)
    auc, ks = _discrimination(p, p * n, (1 - p) * n)
    return Estimated(Quality(rows=int(rows), auc=auc, ks=ks, gini=2 * auc - 1, brier=brier), bad / rows)


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


def _labels(connection: duckdb.DuckDBPyConnection, uri: str) -> str:
    """The newest label of each row, in SQL."""
    source, parts = find(uri)
    if not parts:
        raise NoUsableData(f"{uri} has no .parquet or .csv file with labels")
    table = raw_table(connection, uri, source, parts)
    try:
        names = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}
    except duckdb.Error as e:
        raise NoUsableData(f"{uri} cannot be read: {' '.join(str(e).split())[:300]}") from e
    if absent := sorted((_KEY | {"_label"}) - names):
        raise BadInput(f"labels need the columns {', '.join(absent)}, which {uri} has not")
    newest = "arg_max(_label, _observed)" if "_observed" in names else "max(_label)"
    return f"SELECT _request_id, _row, {newest} AS label FROM {table} GROUP BY ALL"
