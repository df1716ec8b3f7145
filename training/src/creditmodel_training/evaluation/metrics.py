"""Discrimination and calibration of probabilities of default, by their definitions.

AUC: the chance that a bad payer scores above a good one, ties counted half. Gini = 2·AUC - 1. KS: the largest distance
between the two distribution functions. Brier: the mean squared error of the probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv
from scipy.stats import rankdata

from creditmodel_bundle.documents import CalibrationBand

__all__ = ["Discrimination", "auc", "brier", "calibration", "discrimination", "jeffreys", "ks"]

BANDS = 10
Numbers = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Discrimination:
    """The figures that evaluation.json carries for a model."""

    auc: float
    ks: float
    gini: float
    brier: float


def discrimination(y: Labels, probability: Numbers) -> Discrimination:
    """All of them. Needs both labels among `y`."""
    area = auc(y, probability)
    return Discrimination(auc=area, ks=ks(y, probability), gini=2 * area - 1, brier=brier(y, probability))


def auc(y: Labels, scores: Numbers) -> float:
    """Area under the ROC curve, by ranks; nan unless both labels occur."""
    bad = int(y.sum())
    good = len(y) - bad
    if not bad or not good:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[y == 1].sum() - bad * (bad + 1) / 2) / (bad * good))


def ks(y: Labels, scores: Numbers) -> float:
    """Kolmogorov-Smirnov distance between bad and good payers' scores."""
    order = np.argsort(scores, kind="stable")
    bad = np.cumsum(y[order]) / y.sum()
    good = np.cumsum(1 - y[order]) / (len(y) - y.sum())
    last_of_ties = np.append(np.diff(scores[order]) > 0, True)
    return float(np.abs(bad - good)[last_of_ties].max())


def brier(y: Labels, probability: Numbers) -> float:
    """Mean squared difference of probability and outcome."""
    return float(np.mean((probability.astype(np.float64) - y) ** 2))


def jeffreys(bad: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Jeffreys interval of a default rate; the ends are exact 0 and 1 where every row agrees."""
    tail = (1 - level) / 2
    low = 0.0 if bad == 0 else float(betaincinv(bad + 0.5, rows - bad + 0.5, tail))
    high = 1.0 if bad == rows else float(betaincinv(bad + 0.5, rows - bad + 0.5, 1 - tail))
    return low, high


def calibration(y: Labels, probability: Numbers, bands: int = BANDS) -> list[CalibrationBand]:
    """Predicted against observed default rate in bands of about equal size, lowest probability first."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bands) if len(part)]
    return [_band(number, y[part], probability[part]) for number, part in enumerate(parts, start=1)]


def _band(number: int, y: Labels, probability: Numbers) -> CalibrationBand:
    bad, rows = int(y.sum()), len(y)
    low, high = jeffreys(bad, rows)
    mean = float(probability.astype(np.float64).mean())
    return CalibrationBand(band=number, rows=rows, mean_probability=mean, bad_rate=bad / rows, lower=low, upper=high)
