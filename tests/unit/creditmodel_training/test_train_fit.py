from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from creditmodel_training.bundling import scores
from creditmodel_training.evaluation.metrics import auc
from creditmodel_training.fit.calibrate import centred, platt
from creditmodel_training.fit.fitting import Fitted, fit
from creditmodel_training.fit.loop import Settings
from creditmodel_training.model.network import ScoringTensors
from creditmodel_training.prepare import HOLDOUT, TRAIN, Prepared, prepare
from creditmodel_training.schema import FeatureSpec, Schema

QUICK = Settings(epochs=4, batch=128, learning_rate=0.02, interactions=3)


def same(first: Fitted, second: Fitted) -> bool:
    pairs = [(getattr(first.network, f.name), getattr(second.network, f.name)) for f in fields(ScoringTensors)]
    return all(torch.equal(a, b) for a, b in pairs)


def made(seed: int = 0, rows: int = 4000, bad_rate: float = 0.2) -> Prepared:
    """Two numbers, the risk being their product, and one that is missing for the worst payers."""
    random = np.random.default_rng(seed)
    a, b, c = random.uniform(-2, 2, (3, rows))
    risk = np.log(bad_rate / (1 - bad_rate)) + 1.5 * a * b
    y = random.random(rows) < 1 / (1 + np.exp(-risk))
    absent = random.random(rows) < np.where(y, 0.6, 0.1)
    table = pa.table({"a": a, "b": b, "c": pa.array(c, mask=absent), "label": y.astype(np.int64)})
    specs = [FeatureSpec(name=name, dtype="number") for name in ("a", "b", "c")]
    return prepare(table, Schema(label="label", features=specs))


def test_the_same_seed_gives_the_same_network_and_another_seed_another(clients: Prepared) -> None:
    first = fit(clients, QUICK)
    assert same(first, fit(clients, QUICK))
    assert not same(first, fit(clients, replace(QUICK, seed=1)))


def test_training_leaves_the_number_of_threads_as_it_was(clients: Prepared) -> None:
    before = torch.get_num_threads()
    fit(clients, replace(QUICK, epochs=1))
    assert torch.get_num_threads() == before


def test_a_few_thousand_clients_suffice_to_tell_good_from_bad(clients: Prepared, fitted: Fitted) -> None:
    held = clients.rows(HOLDOUT)
    assert auc(clients.y[held], scores(fitted.network, clients.x[held])[0]) > 0.7


def test_probabilities_agree_with_the_default_rate_of_the_development_rows(clients: Prepared, fitted: Fitted) -> None:
    rows = np.flatnonzero(clients.part != HOLDOUT)
    assert scores(fitted.network, clients.x[rows])[1].mean() == pytest.approx(clients.y[rows].mean(), abs=1e-5)


def test_a_rare_class_keeps_true_probabilities() -> None:
    data = made(rows=20_000, bad_rate=0.03)
    network = fit(data, replace(QUICK, epochs=8)).network
    held = data.rows(HOLDOUT)
    probability = scores(network, data.x[held])[1]
    assert probability.mean() == pytest.approx(data.y[held].mean(), abs=0.015)
    assert auc(data.y[held], probability) > 0.75


def test_interactions_find_what_no_sum_of_shapes_can_say() -> None:
    data = made()
    held = data.rows(HOLDOUT)
    alone, together = (fit(data, replace(QUICK, epochs=25, interactions=count)) for count in (0, 1))
    assert together.pairs == [(0, 1)]
    assert auc(data.y[held], scores(together.network, data.x[held])[0]) > 0.05 + auc(
        data.y[held], scores(alone.network, data.x[held])[0]
    )


def test_few_rows_without_interactions_are_given_none_by_chance() -> None:
    random = np.random.default_rng(0)
    for _ in range(4):
        values = random.uniform(-2, 2, (5, 600))
        y = random.random(600) < 1 / (1 + np.exp(1.5 - values[:3].sum(axis=0)))
        table = pa.table({**dict(zip("abcde", values, strict=True)), "label": y.astype(np.int64)})
        specs = [FeatureSpec(name=name, dtype="number") for name in "abcde"]
        data = prepare(table, Schema(label="label", features=specs))
        assert fit(data, replace(QUICK, epochs=12, interactions=4)).pairs == []


def test_a_missing_value_that_tells_of_risk_raises_the_score() -> None:
    data = made()
    network = fit(data, replace(QUICK, epochs=25, interactions=0)).network
    present, absent = np.zeros((1, 3), np.float32), np.array([[0, 0, np.nan]], np.float32)
    assert scores(network, absent)[0] > scores(network, present)[0] + 0.5


def test_a_missing_value_that_was_never_seen_counts_as_the_average() -> None:
    data = made()
    network = fit(data, replace(QUICK, epochs=10, interactions=0)).network
    rows = data.x[data.rows(TRAIN)]
    with torch.inference_mode():
        average = network(torch.from_numpy(rows))[2][:, 0].mean()
        found = network(torch.tensor([[np.nan, 0.0, 0.0]]))[2][0, 0]
    assert float(found) == pytest.approx(float(average), abs=1e-4)


def test_early_stopping_keeps_the_epoch_with_the_lowest_validation_loss(clients: Prepared) -> None:
    patient = fit(clients, Settings(epochs=40, learning_rate=0.05, patience=3, interactions=0))
    assert patient.shapes.epoch == patient.shapes.epochs - 3
    upto = fit(clients, Settings(epochs=patient.shapes.epoch, learning_rate=0.05, patience=3, interactions=0))
    assert same(patient, upto)


def test_no_progress_bar_is_drawn_where_there_is_no_terminal(
    clients: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(clients, replace(QUICK, epochs=1))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_platt_scaling_is_the_logistic_regression_on_the_log_odds() -> None:
    random = np.random.default_rng(0)
    log_odds = random.normal(-1, 1.5, 5000)
    y = (random.random(5000) < 1 / (1 + np.exp(-(0.6 * log_odds - 0.4)))).astype(np.int8)
    reference = LogisticRegression(C=1e6).fit(log_odds[:, None], y)
    assert platt(log_odds, y) == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), abs=0.01)


def test_centring_makes_the_mean_probability_the_default_rate() -> None:
    random = np.random.default_rng(0)
    log_odds, y = random.normal(3, 2, 1000), (random.random(1000) < 0.1).astype(np.int8)
    probability = 1 / (1 + np.exp(-(log_odds + centred(log_odds, y))))
    assert probability.mean() == pytest.approx(y.mean(), abs=1e-9)


def test_platt_scaling_never_turns_a_score_round() -> None:
    random = np.random.default_rng(0)
    log_odds = random.normal(size=1000)
    assert platt(log_odds, (log_odds < 0).astype(np.int8)) == (1.0, 0.0)
