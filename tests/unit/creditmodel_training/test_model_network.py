from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import factorial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from creditmodel_bundle.contract import Category, Feature, Reason
from creditmodel_training.data import uci
from creditmodel_training.fit.additive import AdditiveNetwork
from creditmodel_training.fit.basis import FeatureBasis, build_basis
from creditmodel_training.fit.fitting import Fitted
from creditmodel_training.model.network import ScoringNetwork
from creditmodel_training.prepare import HOLDOUT, Prepared

Floats = npt.NDArray[np.float32]
PAIRS = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]


def feature(name: str, monotonic: Literal["increasing", "decreasing", "none"] = "none", categories: int = 0) -> Feature:
    return Feature(
        name=name,
        dtype="category" if categories else "number",
        categories=[Category(value=f"v{code}", code=code) for code in range(categories)],
        missing="allowed",
        monotonic=monotonic,
        reason=Reason(code=name.upper(), text=name),
    )


FEATURES = [feature("up", "increasing"), feature("down", "decreasing"), feature("free"), feature("kind", categories=4)]


def rows(seed: int, count: int) -> Floats:
    """Rows of FEATURES, one in ten values missing."""
    random = np.random.default_rng(seed)
    x = np.stack([*(random.normal(size=count) for _ in range(3)), random.integers(0, 4, count)], axis=1)
    x[random.random(x.shape) < 0.1] = np.nan
    return x.astype(np.float32)


def random_network(seed: int) -> ScoringNetwork:
    """A network with large random parameters in every place: what holds for it holds whatever was learned."""
    torch.manual_seed(seed)
    network = AdditiveNetwork(build_basis(FEATURES, rows(seed, 400)), PAIRS, -1.0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 2)
    return ScoringNetwork(network.tensors()).eval()


def answer(network: ScoringNetwork, x: Floats) -> tuple[Floats, Floats]:
    with torch.inference_mode():
        log_odds, probability, contributions = network(torch.from_numpy(np.ascontiguousarray(x)))
    assert torch.allclose(torch.sigmoid(log_odds), probability)
    return log_odds.numpy(), contributions.numpy()


def neutral(network: ScoringNetwork) -> Floats:
    return np.asarray(network.tensors.neutral.numpy()).copy()


def grid(x: Floats, index: int) -> Floats:
    """[rows, grid, F]: each row with one feature moved over its whole range and beyond."""
    values = np.linspace(-5, 5, 41, dtype=np.float32)
    moved = np.repeat(x[:, None, :], len(values), axis=1)
    moved[:, :, index] = values
    return moved


@pytest.mark.parametrize("seed", range(10))
def test_contributions_and_baseline_add_up_to_the_log_odds(seed: int) -> None:
    network = random_network(seed)
    log_odds, contributions = answer(network, rows(seed + 100, 200))
    assert log_odds == pytest.approx(contributions.sum(axis=1) + float(network.tensors.baseline), abs=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_the_neutral_applicant_has_the_baseline_and_no_contributions(seed: int) -> None:
    network = random_network(seed)
    log_odds, contributions = answer(network, neutral(network)[None])
    assert contributions == pytest.approx(0, abs=1e-5)
    assert log_odds[0] == pytest.approx(float(network.tensors.baseline), abs=1e-5)


@pytest.mark.parametrize(("index", "sign"), [(0, 1), (1, -1)])
@pytest.mark.parametrize("seed", range(10))
def test_a_monotonic_feature_never_moves_the_score_the_wrong_way(index: int, sign: int, seed: int) -> None:
    moved = grid(rows(seed + 100, 100), index)
    log_odds, contributions = answer(random_network(seed), moved.reshape(-1, 4))
    steps = np.diff(log_odds.reshape(moved.shape[:2]), axis=1)
    own_steps = np.diff(contributions[:, index].reshape(moved.shape[:2]), axis=1)
    assert (sign * steps).min() > -1e-4
    assert (sign * own_steps).min() > -1e-4


@pytest.mark.parametrize(("index", "sign"), [(0, 1), (1, -1)])
@pytest.mark.parametrize("seed", range(10))
def test_a_monotonic_feature_is_never_a_reason_in_the_wrong_direction(index: int, sign: int, seed: int) -> None:
    network = random_network(seed)
    moved = grid(rows(seed + 100, 100), index).reshape(-1, 4)
    own = answer(network, moved)[1][:, index]
    side = sign * np.sign(moved[:, index] - neutral(network)[index])
    assert (own * side).min() > -1e-4


def test_the_network_may_use_the_whole_freedom_that_monotonicity_leaves() -> None:
    network = random_network(0)
    moved = grid(rows(100, 100), 2)
    steps = np.diff(answer(network, moved.reshape(-1, 4))[0].reshape(moved.shape[:2]), axis=1)
    assert steps.min() < -0.1 < 0.1 < steps.max()


def shapley(network: ScoringNetwork, x: Floats) -> Floats:
    """Shapley values by definition: a feature's mean effect over all orders, absent features at their neutral value."""
    count = len(x)
    base = neutral(network)
    subsets = [frozenset(s) for size in range(count + 1) for s in combinations(range(count), size)]
    mixed = np.stack([np.where([f in subset for f in range(count)], x, base) for subset in subsets])
    value = dict(zip(subsets, answer(network, mixed.astype(np.float32))[0].astype(np.float64), strict=True))
    return np.array(
        [
            sum(
                factorial(len(s)) * factorial(count - len(s) - 1) / factorial(count) * (value[s | {f}] - value[s])
                for s in subsets
                if f not in s
            )
            for f in range(count)
        ],
        np.float32,
    )


@pytest.mark.parametrize("seed", range(5))
def test_contributions_are_the_shapley_values_against_the_neutral_applicant(seed: int) -> None:
    network = random_network(seed)
    for row in rows(seed + 100, 20):
        if not np.isnan(row).any():
            assert answer(network, row[None])[1][0] == pytest.approx(shapley(network, row), abs=1e-3)


def test_any_number_that_is_no_category_is_the_same_unseen_category() -> None:
    network = random_network(0)
    row = rows(100, 1)
    row[0] = [0.3, -0.2, 1.0, -1.0]
    unseen = answer(network, row)
    for number in (4.0, 99.0, 1.5, -7.0, 1e30):
        row[0, 3] = number
        for first, second in zip(unseen, answer(network, row), strict=True):
            assert second == pytest.approx(first, abs=1e-5)
    row[0, 3] = 1.0
    assert answer(network, row)[0] != pytest.approx(unseen[0], abs=1e-3)


def test_every_extreme_value_has_a_finite_score() -> None:
    network = random_network(0)
    values = (np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-40, 0.0, -0.0)
    log_odds, contributions = answer(network, np.array([[value] * 4 for value in values], np.float32))
    assert np.isfinite(log_odds).all()
    assert np.isfinite(contributions).all()


def test_beyond_the_training_range_the_score_stays_as_at_its_end() -> None:
    network = random_network(0)
    ceiling, floor = network.tensors.ceiling.numpy(), network.tensors.floor.numpy()
    for end, beyond in ((ceiling, ceiling + 1000), (floor, floor - 1000)):
        row, far = neutral(network), neutral(network)
        row[:3], far[:3] = end[:3], beyond[:3]
        assert answer(network, row[None])[0] == answer(network, far[None])[0]


def test_numbers_as_large_as_float32_allows_still_make_a_finite_basis() -> None:
    random = np.random.default_rng(0)
    column = random.choice([-3e38, -1e-42, 0.0, 1e-42, 1e20, 3e38], 500).astype(np.float32)
    network = AdditiveNetwork(build_basis([FEATURES[2]], column[:, None]), [], 0.0)
    with torch.no_grad():
        network.rises.fill_(1.0)
        log_odds = network(torch.from_numpy(np.append(column, [np.inf, np.nan]).astype(np.float32)[:, None]))
    assert torch.isfinite(log_odds).all()
    assert len(log_odds.unique()) > 2


def test_a_category_with_a_large_code_is_told_from_its_neighbours() -> None:
    around = np.arange(2**23 - 1, 2**23 + 5).astype(np.float64)
    codes = around[1:-1]
    found = FeatureBasis(neutral=float(codes[0]), knots=codes, coarse=codes, codes=codes).coordinates(around)
    assert (found[1:-1] == np.eye(4)).all()
    assert (found[[0, -1]] == 0).all()


def test_a_learned_network_is_monotonic_as_its_contract_says(clients: Prepared, fitted: Fitted) -> None:
    assert fitted.pairs
    x = clients.x[clients.rows(HOLDOUT)[:50]]
    for index, spec in enumerate(uci.SCHEMA.features):
        if spec.monotonic == "none":
            continue
        values = np.unique(np.nanquantile(clients.x[:, index], np.linspace(0, 1, 60))).astype(np.float32)
        moved = np.repeat(x[:, None, :], len(values), axis=1)
        moved[:, :, index] = values
        log_odds, contributions = answer(fitted.network, moved.reshape(-1, x.shape[1]))
        sign = 1 if spec.monotonic == "increasing" else -1
        assert (sign * np.diff(log_odds.reshape(moved.shape[:2]), axis=1)).min() > -1e-5, spec.name
        side = sign * np.sign(moved[:, :, index].ravel() - neutral(fitted.network)[index])
        assert (contributions[:, index] * side).min() > -1e-5, spec.name


def test_changing_one_number_of_the_network_changes_scores(clients: Prepared, fitted: Fitted) -> None:
    tensors = fitted.network.tensors
    heavy = int(tensors.weights.abs().sum(1).argmax())
    weights = tensors.weights.clone()
    weights[heavy] *= 1.01
    damaged = ScoringNetwork(replace(tensors, weights=weights))
    assert answer(damaged, clients.x)[0] != pytest.approx(answer(fitted.network, clients.x)[0], abs=1e-4)
