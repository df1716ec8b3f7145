"""From rounds to a speedup with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["CONFIDENCE", "Speedup", "speedup"]

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Speedup:
    """Time of the first over time of the second, and its bootstrap interval."""

    ratio: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """The interval's width relative to the ratio."""
        return (self.high - self.low) / self.ratio


def speedup(log_ratios: ArrayLike, comparisons: int = 1, seed: int = 0) -> Speedup:
    """The median of the rounds' ratios, with a percentile bootstrap interval over rounds.

    Rounds next to each other in time share the machine's moods, so blocks of them are drawn (circular block bootstrap,
    Politis and Romano 1992). Few blocks make a percentile interval too narrow, so its tails are expanded to those of a
    t distribution (Hesterberg 2015). The confidence is 95 % for `comparisons` intervals together
    (Bonferroni): a model measured against itself at several batch sizes should rarely miss 1 at any of them.
    """
    ratios = np.asarray(log_ratios, np.float64)
    if ratios.size == 0:
        raise ValueError("no rounds were timed")
    length = max(1, round(ratios.size ** (1 / 3)))
    tail = _expanded((1 - CONFIDENCE) / comparisons / 2, ratios.size / length)
    medians = np.median(_resampled(ratios, length, np.random.default_rng(seed)), axis=1)
    low, high = np.quantile(medians, [tail, 1 - tail])
    centre = float(np.median(ratios))
    return Speedup(float(np.exp(centre)), float(np.exp(min(low, centre))), float(np.exp(max(high, centre))))


def _expanded(tail: float, blocks: float) -> float:
    """The tail probability that, under a normal, reaches as far as `tail` does under a t of so many blocks."""
    if blocks <= 1:
        return 0.0
    reach = stats.t.isf(tail, blocks - 1) * np.sqrt(blocks / (blocks - 1))
    return float(stats.norm.sf(reach))


def _resampled(values: NDArray[np.float64], length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """RESAMPLES × rounds: each row made of blocks of `length` rounds that begin anywhere and wrap around."""
    rounds = len(values)
    starts = rng.integers(0, rounds, (RESAMPLES, -(-rounds // length), 1))
    indices = (starts + np.arange(length)) % rounds
    drawn: NDArray[np.float64] = values[indices.reshape(RESAMPLES, -1)[:, :rounds]]
    return drawn
