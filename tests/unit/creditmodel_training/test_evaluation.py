from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, ks_2samp
from sklearn.metrics import brier_score_loss, roc_auc_score

from creditmodel_bundle.documents import Baseline
from creditmodel_training.evaluation.baselines import GRADIENT_BOOSTING, LOGISTIC_REGRESSION, baselines
from creditmodel_training.evaluation.metrics import Labels, Numbers, auc, brier, calibration, jeffreys, ks
from creditmodel_training.evaluation.report import comparison, evaluate, table, trails_logistic_regression
from creditmodel_training.prepare import HOLDOUT, Prepared


def drawn(seed: int, rows: int = 500, digits: int = 2) -> tuple[Labels, Numbers]:
    """Labels that follow their probabilities, which are rounded so that many tie."""
    random = np.random.default_rng(seed)
    probability = random.beta(1, 3, rows).round(digits)
    return (random.random(rows) < probability).astype(np.int8), probability


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_those_of_scikit_learn_and_scipy_with_ties(seed: int) -> None:
    y, probability = drawn(seed)
    assert auc(y, probability) == pytest.approx(roc_auc_score(y, probability), abs=1e-12)
    assert brier(y, probability) == pytest.approx(brier_score_loss(y, probability), abs=1e-12)
    assert ks(y, probability) == pytest.approx(ks_2samp(probability[y == 1], probability[y == 0]).statistic, abs=1e-12)


def test_auc_is_undefined_with_one_label_only() -> None:
    assert np.isnan(auc(np.ones(5, np.int8), np.linspace(0, 1, 5)))


@pytest.mark.parametrize(("bad", "rows"), [(0, 10), (10, 10), (3, 10), (250, 1000)])
def test_the_jeffreys_interval_is_the_quantiles_of_its_beta_distribution(bad: int, rows: int) -> None:
    low, high = jeffreys(bad, rows)
    posterior = beta(bad + 0.5, rows - bad + 0.5)
    assert low == pytest.approx(0.0 if bad == 0 else posterior.ppf(0.025))
    assert high == pytest.approx(1.0 if bad == rows else posterior.ppf(0.975))


def test_calibration_bands_cover_every_row_once_in_ascending_order() -> None:
    y, probability = drawn(0, rows=1003)
    bands = calibration(y, probability)
    assert len(bands) == 10
    assert sum(band.rows for band in bands) == 1003
    assert sum(band.rows * band.bad_rate for band in bands) == pytest.approx(y.sum())
    means = [band.mean_probability for band in bands]
    assert means == sorted(means)


def test_a_true_probability_lies_within_its_band_and_a_doubled_one_does_not() -> None:
    y, probability = drawn(1, rows=20_000, digits=6)
    assert sum(b.lower <= b.mean_probability <= b.upper for b in calibration(y, probability)) >= 8
    assert sum(b.lower <= b.mean_probability <= b.upper for b in calibration(y, np.minimum(2 * probability, 1))) <= 2


def test_the_holdout_digest_tells_other_rows_and_other_labels_apart() -> None:
    y, probability = drawn(2)
    x = np.random.default_rng(0).random((500, 3), np.float32)
    same = [evaluate(x, y, probability, []).holdout.sha256 for _ in range(2)]
    flipped = y.copy()
    flipped[0] ^= 1
    assert same[0] == same[1]
    assert evaluate(x, flipped, probability, []).holdout.sha256 != same[0]
    assert evaluate(x + 1, y, probability, []).holdout.sha256 != same[0]


def test_baselines_are_fitted_without_the_holdout_and_take_missing_values_and_categories(clients: Prepared) -> None:
    found = baselines(clients, seed=0)
    assert [baseline.name for baseline in found] == [LOGISTIC_REGRESSION, GRADIENT_BOOSTING]
    assert all(0.65 < baseline.auc < 0.85 for baseline in found)
    y = clients.y.copy()
    held = clients.rows(HOLDOUT)
    y[held] = 1 - y[held]  # turned round on the hold-out alone, so a model that never saw it must fail as badly
    turned = Prepared(clients.features, clients.table, clients.x, y, clients.part, [])
    for honest, fooled in zip(found, baselines(turned, seed=0), strict=True):
        assert fooled.auc == pytest.approx(1 - honest.auc)


def test_the_table_says_by_how_much_the_network_beats_and_trails() -> None:
    y, probability = drawn(3)
    rivals = [
        Baseline(name=name, auc=auc(y, probability) + difference, ks=0.5, gini=0.5, brier=0.1)
        for name, difference in ((LOGISTIC_REGRESSION, -0.01), (GRADIENT_BOOSTING, 0.02))
    ]
    evaluation = evaluate(np.zeros((500, 1), np.float32), y, probability, rivals)
    sentence = "By AUC the network beats logistic regression by 0.0100 and trails gradient boosting by 0.0200."
    assert comparison(evaluation) == sentence
    assert not trails_logistic_regression(evaluation)
    lines = list(table("ours", evaluation))
    assert len({len(line) for line in lines[:4]}) == 1
    assert trails_logistic_regression(evaluation.model_copy(update={"auc": evaluation.auc - 0.02}))
