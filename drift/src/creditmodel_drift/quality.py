# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""Realised quality: what the model's scores were worth, on applicants whose outcome is known by now."""

from __future__ import annotations

from datetime import timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.measurement import Quality
from creditmodel_drift.baseline import Baseline
from creditmodel_drift.errors import BadInput, NoUsableData
from creditmodel_drift.parts import Survey, find
from creditmodel_drift.scan import around_broken_parts, open_scan, raw_table
from creditmodel_drift.window import Period

__all__ = ["matured", "quality", "realised"]

_KEY = {"_request_id", "_row"}


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
) -> Quality:
    """Join the scores of a period with labels by request id and row. Raises BadInput and NoUsableData."""
    labels = _labels(connection, labels_uri)

    def joined(found: Survey) -> Quality:
        if not found.usable:
            return Quality(rows=0)
        if absent := sorted((_KEY | {"_probability"}) - found.names):
            raise BadInput(f"quality needs the columns {', '.join(absent)}, which {uri} has not")
        scan = open_scan(connection, found, baseline, period if "_time" in found.names else None, revision)
        statement = (
            f"SELECT CAST(s._probability AS DOUBLE) AS p, CAST(l.label AS DOUBLE) AS y FROM ({scan.rows}) s "
            f"JOIN ({labels}) l ON s._request_id = l._request_id AND s._row = l._row "
            "WHERE l.label IN (0, 1) AND s._probability BETWEEN 0 AND 1"
        )
        columns = connection.execute(statement).fetchnumpy()
        return quality(*(np.asarray(columns[name], dtype=np.float64) for name in ("p", "y")))

    return around_broken_parts(connection, baseline, uri, find(uri, period, revision), joined)


def quality(probability: NDArray[np.float64], label: NDArray[np.float64]) -> Quality:
    """Figures of probabilities of default [rows] against labels [rows], 1 = bad. Undefined ones are None."""
    rows, bad = len(label), int(label.sum())
    if rows == 0:
        return Quality(rows=0)
    brier = float(np.mean((probability - label) ** 2))
    if bad in (0, rows):
        return Quality(rows=rows, brier=brier)
    # One step of both distribution functions per distinct probability, so ties count half.
    _, step = np.unique(probability, return_inverse=True)
    bads = np.bincount(step, weights=label)
    goods = np.bincount(step, weights=1 - label)
    below = np.cumsum(goods) - goods
    auc = float(np.sum(bads * (below + goods / 2)) / (bad * (rows - bad)))
    ks = float(np.max(np.abs(np.cumsum(bads) / bad - np.cumsum(goods) / (rows - bad))))
    return Quality(rows=rows, auc=auc, ks=ks, gini=2 * auc - 1, brier=brier)


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
