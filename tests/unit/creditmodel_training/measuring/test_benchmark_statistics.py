"""The speedup's interval: it covers what it claims to cover."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from creditmodel_training.benchmark.statistics import speedup

SPREAD = 0.004
SEEDS = 100


def rounds(seed: int, count: int, memory: float, centre: float = 0.0) -> NDArray[np.float64]:
    """Log ratios as a busy machine gives them: neighbours alike, one in ten struck by a pause."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal(count) * SPREAD
    values = steps.copy()
    for i in range(1, count):
        values[i] = memory * values[i - 1] + np.sqrt(1 - memory**2) * steps[i]
    struck = rng.random(count) < 0.1
    return centre + values + struck * rng.normal(0, 0.05, count)


def coverage(count: int, memory: float, comparisons: int, ratio: float = 1.0) -> float:
    intervals = [speedup(rounds(s, count, memory, np.log(ratio)), comparisons, s) for s in range(SEEDS)]
    return float(np.mean([interval.low <= ratio <= interval.high for interval in intervals]))


@pytest.mark.parametrize(
    ("count", "memory", "least"), [(30, 0.0, 0.94), (30, 0.3, 0.91), (60, 0.3, 0.87), (20, 0.3, 0.92), (10, 0.0, 0.89)]
)
def test_the_interval_of_a_model_against_itself_contains_1_as_often_as_it_says(
    count: int, memory: float, least: float
) -> None:
    assert coverage(count, memory, comparisons=1) >= least


def test_intervals_for_three_batch_sizes_together_are_wider_and_cover_more() -> None:
    assert coverage(30, 0.3, comparisons=3) >= 0.96
    values = rounds(1, 30, 0.0)
    assert speedup(values, 3).width > speedup(values, 1).width


def test_a_real_speedup_is_covered_too() -> None:
    assert coverage(30, 0.0, comparisons=1, ratio=6.0) >= 0.94


def test_a_speedup_of_two_per_cent_is_told_from_none() -> None:
    found = [speedup(rounds(s, 30, 0.0, np.log(1.02)), 1, s) for s in range(50)]
    assert all(interval.low > 1 for interval in found)


def test_a_single_wild_round_moves_nothing() -> None:
    values = rounds(0, 30, 0.0, np.log(3.5))
    values[7] = 4.0
    assert speedup(values).ratio == pytest.approx(3.5, rel=0.01)


def test_the_ratio_lies_in_its_interval_however_few_the_rounds() -> None:
    for count in range(1, 12):
        found = speedup(rounds(3, count, 0.0, 1.0))
        assert found.low <= found.ratio <= found.high


def test_the_same_rounds_give_the_same_interval() -> None:
    values = rounds(0, 30, 0.0)
    assert speedup(values, seed=5) == speedup(values, seed=5)


def test_no_rounds_give_no_speedup() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        speedup([])
