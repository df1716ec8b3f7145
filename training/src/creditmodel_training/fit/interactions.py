"""Which pairs of features to let interact: those whose cells would explain most of what the shapes leave over."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from creditmodel_training.fit.additive import Pair
from creditmodel_training.fit.basis import FeatureBasis

__all__ = ["select_pairs"]

MAX_ROWS = 20_000
MAX_FEATURES = 24
RIDGE = 5.0

Array = npt.NDArray[np.float64]


def select_pairs(
    bases: list[FeatureBasis],
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int8],
    log_odds: Array,
    importance: Array,
    count: int,
) -> list[Pair]:
    """The `count` pairs with the largest score statistic, which is the first-order gain in log-likelihood.

    `x` [N, F], `y` [N] are training rows and `log_odds` [N] the additive model's; `importance` [F] limits the search
    to the features that matter.
    """
    x, y, log_odds = x[:MAX_ROWS].astype(np.float64), y[:MAX_ROWS], log_odds[:MAX_ROWS]
    probability = 1 / (1 + np.exp(-log_odds))
    residual, weight = y - probability, probability * (1 - probability)
    eligible = [f for f in np.argsort(-importance, kind="stable")[:MAX_FEATURES] if bases[f].can_pair]
    coordinates = {int(f): bases[f].anchored(x[:, f], coarse=True) for f in sorted(eligible)}
    gains = {pair: _gain(coordinates, pair, residual, weight) for pair in combinations(coordinates, 2)}
    return sorted(gains, key=lambda pair: (-gains[pair], pair))[:count]


def _gain(coordinates: dict[int, Array], pair: Pair, residual: Array, weight: Array) -> float:
    left, right = coordinates[pair[0]], coordinates[pair[1]]
    products = (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)
    gradient = products.T @ residual
    curvature = (products * weight[:, None]).T @ products + RIDGE * np.eye(products.shape[1])
    return float(gradient @ np.linalg.solve(curvature, gradient))
