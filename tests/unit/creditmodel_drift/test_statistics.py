"""PSI, its sampling distribution, and the exact tests of rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from creditmodel_drift.statistics import pool, psi, psi_quantile, rate_increase_p_value, rows_for_power


def test_equal_shares_have_a_psi_of_zero_whatever_the_number_of_rows() -> None:
    assert psi(np.array([100.0, 100.0]), np.array([10_000.0, 10_000.0])) == pytest.approx(0, abs=1e-12)


def test_psi_is_the_textbook_sum_up_to_half_a_row_a_bin() -> None:
    before, after = np.array([50_000.0, 50_000.0]), np.array([60_000.0, 40_000.0])
    textbook = 0.1 * math.log(0.6 / 0.5) + -0.1 * math.log(0.4 / 0.5)
    assert psi(before, after) == pytest.approx(textbook, rel=1e-4)


def test_an_empty_bin_leaves_psi_finite_and_large() -> None:
    assert 1 < psi(np.array([500.0, 500.0]), np.array([1000.0, 0.0])) < 10


def test_bins_with_under_five_expected_rows_are_merged_into_one() -> None:
    before, after = pool([5000, 4900, 60, 40, 0], [40, 50, 4, 3, 3])
    assert before.tolist() == [5000, 4900 + 100]
    assert after.tolist() == [40, 60]


def test_a_merge_that_reaches_five_expected_rows_stands_alone() -> None:
    before, after = pool([5000, 4000, 400, 400, 200], [50, 40, 4, 4, 2])
    assert before.tolist() == [5000, 4000, 1000]
    assert after.tolist() == [50, 40, 10]


def test_a_bin_that_the_reference_hardly_had_stands_alone_when_it_is_many_now() -> None:
    before, _ = pool([10_000, 9_990, 10], [5_000, 5_000, 5_000])
    assert before.tolist() == [10_000, 9_990, 10]


@pytest.mark.parametrize(("before", "now"), [(5_000, 20_000), (5_000, 1_000_000), (20_000, 2_000)])
def test_hundreds_of_small_categories_raise_no_more_alarms_than_the_level_says(before: int, now: int) -> None:
    shares = 1 / np.arange(1, 401)
    random = np.random.default_rng(1)
    pairs = [[random.multinomial(rows, shares / shares.sum()).tolist() for rows in (before, now)] for _ in range(300)]
    cells = [pool(*pair) for pair in pairs]
    alarms = sum(psi(*pair) > psi_quantile(len(pair[0]), before, now, 0.01) for pair in cells)
    assert alarms <= 9


@pytest.mark.parametrize("shares", [[0.1] * 10, [0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.005, 0.005], [0.9] + [0.01] * 10])
@pytest.mark.parametrize(("before", "now"), [(20_000, 150), (20_000, 5_000), (1_000, 1_000)])
def test_psi_without_drift_exceeds_its_quantile_as_often_as_the_level_says(
    shares: list[float], before: int, now: int
) -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for reference, current in zip(
        random.multinomial(before, shares, 2000), random.multinomial(now, shares, 2000), strict=True
    ):
        cells = pool(reference, current)
        alarms += psi(*cells) > psi_quantile(len(cells[0]), before, now, 0.05)
    assert 0.03 < alarms / 2000 < 0.07


def test_the_quantile_shrinks_with_rows_and_is_that_of_chi_squared() -> None:
    assert psi_quantile(10, 20_000, 500, 0.01) == pytest.approx((1 / 20_000 + 1 / 500) * stats.chi2.isf(0.01, 9))
    assert psi_quantile(10, 20_000, 0, 0.01) == math.inf
    assert psi_quantile(1, 20_000, 500, 0.01) == 0


def test_a_few_hits_where_the_reference_had_none_are_no_surprise_and_many_are() -> None:
    assert rate_increase_p_value(0, 1_000, 1, 1_000) == pytest.approx(0.5)
    assert rate_increase_p_value(0, 1_000, 30, 1_000) < 1e-8
    assert rate_increase_p_value(100, 1_000, 0, 1_000) == 1


def test_the_rate_test_keeps_its_level_at_small_and_at_large_rates() -> None:
    random = np.random.default_rng(2)
    for rate in (0.001, 0.05, 0.5):
        pairs = zip(random.binomial(5_000, rate, 3_000), random.binomial(400, rate, 3_000), strict=True)
        assert sum(rate_increase_p_value(int(b), 5_000, int(n), 400) < 0.05 for b, n in pairs) / 3_000 < 0.065


def test_the_window_computed_for_a_power_has_it_and_one_a_third_smaller_has_not() -> None:
    shares = np.full(10, 0.1)
    moved = np.array([0.19, 0.16, 0.12, 0.11, 0.09, 0.08, 0.075, 0.065, 0.06, 0.05])
    shift = float(np.sum((moved - shares) * np.log(moved / shares)))
    rows = rows_for_power(shift, 10, 20_000, 0.001, 0.8)
    assert rows is not None
    assert _detected(shares, moved, rows) > 0.72
    assert _detected(shares, moved, rows * 2 // 3) < 0.7


def _detected(shares: np.ndarray, moved: np.ndarray, rows: int) -> float:
    random = np.random.default_rng(3)
    limit = psi_quantile(10, 20_000, rows, 0.001)
    pairs = zip(random.multinomial(20_000, shares, 1000), random.multinomial(rows, moved, 1000), strict=True)
    return sum(psi(b.astype(float), n.astype(float)) > limit for b, n in pairs) / 1000


def test_a_reference_too_small_for_any_window_gives_no_minimum() -> None:
    assert rows_for_power(0.25, 12, 50, 1e-4, 0.8) is None
    assert rows_for_power(0.25, 12, 0, 1e-4, 0.8) is None
