"""Realised quality on matured labels."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.measurement import Quality
from creditmodel_drift.baseline import Baseline, from_contract
from creditmodel_drift.check import check
from creditmodel_drift.engine import Engine
from creditmodel_drift.errors import BadInput
from creditmodel_drift.outcomes import Outcomes
from creditmodel_drift.quality import matured, quality, realised
from creditmodel_drift.verdict import Settings
from creditmodel_drift.window import Period

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def baseline(contract: Contract) -> Baseline:
    return from_contract(contract)


def outcomes(probability: np.ndarray, label: np.ndarray) -> Outcomes:
    """As the join gives them."""
    distinct, at = np.unique(probability, return_inverse=True)
    weights = (None, label)
    return Outcomes(distinct, *(np.bincount(at, w, len(distinct)).astype(float) for w in weights))


@pytest.mark.parametrize("decimals", [1, 9])
def test_the_figures_are_those_of_scikit_learn_with_and_without_ties(decimals: int) -> None:
    random = np.random.default_rng(0)
    probability = np.round(random.random(2_000), decimals)
    label = (random.random(2_000) < probability).astype(float)
    found = quality(outcomes(probability, label))
    goods, bads, _ = roc_curve(label, probability, drop_intermediate=False)
    assert found.auc == pytest.approx(roc_auc_score(label, probability))
    assert found.ks == pytest.approx(np.max(np.abs(bads - goods)))
    assert found.gini == pytest.approx(2 * roc_auc_score(label, probability) - 1)
    assert found.brier == pytest.approx(brier_score_loss(label, probability))


def test_without_both_outcomes_there_is_no_discrimination() -> None:
    found = quality(outcomes(np.array([0.2, 0.4]), np.array([0.0, 0.0])))
    assert (found.rows, found.auc, found.ks, found.gini) == (2, None, None, None)
    assert found.brier == pytest.approx(0.1)
    assert quality(outcomes(np.array([]), np.array([]))) == Quality(rows=0)


def labels_for(part: Path, into: Path, rows: int, *, label: int | None = None, when: datetime = NOON) -> Path:
    """Labels of a part's first rows: those that its own scores make likely, or one for all."""
    table = pq.read_table(part).slice(0, rows)
    drawn = np.random.default_rng(1).random(rows) < table["_probability"].to_numpy()
    values = drawn if label is None else np.full(rows, label)
    pq.write_table(
        pa.table(
            {
                "_request_id": table["_request_id"],
                "_row": table["_row"],
                "_label": pa.array(values.astype(np.int8)),
                "_observed": pa.array([when] * rows, pa.timestamp("us", "UTC")),
            }
        ),
        into,
    )
    return into


def test_scores_join_their_labels_and_only_old_enough_ones_count(
    log: Callable[..., Path],
    applicants: Callable[..., pa.Table],
    baseline: Baseline,
    engine: Engine,
    tmp_path: Path,
) -> None:
    old = log(applicants(1_000, seed=1), name="old", time=NOON - timedelta(days=100))
    young = log(applicants(500, seed=2), name="young", time=NOON - timedelta(days=10))
    labels = tmp_path / "labels"
    labels.mkdir()
    labels_for(old, labels / "a.parquet", 600)
    labels_for(young, labels / "b.parquet", 500)
    period = matured(timedelta(days=90), Period(None, NOON))
    found = realised(engine, baseline, str(old.parents[2]), str(labels), period, None).figures
    assert found.rows == 600
    assert found.auc is not None
    assert found.auc > 0.65


def test_the_newest_label_of_a_row_counts(
    log: Callable[..., Path],
    applicants: Callable[..., pa.Table],
    baseline: Baseline,
    engine: Engine,
    tmp_path: Path,
) -> None:
    part = log(applicants(300, seed=1))
    labels_for(part, tmp_path / "labels-new.parquet", 300, label=1, when=NOON + timedelta(days=9))
    labels_for(part, tmp_path / "labels-old.parquet", 300, label=0)
    found = realised(
        engine,
        baseline,
        str(part.parents[2]),
        str(tmp_path / "labels-*.parquet"),
        Period(None, NOON + timedelta(days=1)),
        None,
    ).figures
    probability = pq.read_table(part)["_probability"].to_numpy()
    assert (found.rows, found.auc) == (300, None)
    assert found.brier == pytest.approx(np.mean((probability - 1) ** 2))


def test_labels_without_a_key_are_refused_by_name(
    log: Callable[..., Path],
    applicants: Callable[..., pa.Table],
    baseline: Baseline,
    engine: Engine,
    tmp_path: Path,
) -> None:
    part = log(applicants(300, seed=1))
    pq.write_table(pa.table({"id": [1], "_label": [0]}), tmp_path / "labels.parquet")
    with pytest.raises(BadInput, match="labels need the columns _request_id, _row"):
        realised(engine, baseline, str(part.parents[2]), str(tmp_path / "labels.parquet"), Period(None, NOON), None)


def test_a_sample_of_the_window_stays_its_own_after_quality_looked_at_older_scores(
    log: Callable[..., Path],
    applicants: Callable[..., pa.Table],
    baseline: Baseline,
    engine: Engine,
    tmp_path: Path,
) -> None:
    """Both scans have copied rows, and so tables of their own on the one engine."""
    requests = [f"r{i}" for i in range(300)]
    old = log(applicants(300, seed=1), name="old", time=NOON - timedelta(days=100), requests=requests)
    log(applicants(300, seed=1), name="copy", time=NOON - timedelta(days=100), requests=requests)
    for name in ("new", "again"):
        log(applicants(200, seed=2), name=name, requests=[f"n{i}" for i in range(200)])
    labels = labels_for(old, tmp_path / "labels.parquet", 300)
    day = Period(NOON - timedelta(hours=1), NOON + timedelta(hours=1))
    checked = check(engine, baseline, str(old.parents[2]), Settings(), day)
    assert realised(engine, baseline, str(old.parents[2]), str(labels), Period(None, NOON), None).figures.rows == 300
    assert checked.scan is not None
    sample = checked.scan.sample(1_000, 0)
    assert sorted(sample["limit"].to_pylist()) == sorted(applicants(200, seed=2)["limit"].to_pylist())


def test_a_broken_part_costs_its_own_rows_and_no_more(
    log: Callable[..., Path],
    applicants: Callable[..., pa.Table],
    baseline: Baseline,
    engine: Engine,
    tmp_path: Path,
) -> None:
    part = log(applicants(300, seed=1), name="good")
    labels = labels_for(part, tmp_path / "labels.parquet", 300)
    bad = log(applicants(300, seed=2), name="bad")
    whole = bad.read_bytes()
    bad.write_bytes(whole[:4] + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])
    later = Period(None, NOON + timedelta(days=1))
    assert realised(engine, baseline, str(part.parents[2]), str(labels), later, None).figures.rows == 300
