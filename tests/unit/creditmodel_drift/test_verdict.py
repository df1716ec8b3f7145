"""The verdict: a table of cases, how often it cries wolf, and what it does not sleep through."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from creditmodel_bundle.bins import CategoryBins, NumberBins, freeze_numbers
from creditmodel_drift.baseline import SCORE, Baseline, Column
from creditmodel_drift.scan import Census, Counts
from creditmodel_drift.verdict import Settings, Verdict, judge, minimum_rows

DECILES = [2_000] * 10


def column(name: str, inside: Sequence[int] = DECILES, missing: int = 0, unseen: int = 0) -> Column:
    values: list[str | int] = [f"v{i}" for i in range(len(inside))]
    return Column(name, "text", CategoryBins(values=values, counts=[*inside, unseen, missing]))


def verdict(
    inside: Sequence[int],
    missing: int = 0,
    unseen: int = 0,
    *,
    reference: Column | None = None,
    schema: dict[str, str] | None = None,
    **settings: Any,
) -> Verdict:
    """Judge a window of one moved feature among nine that did not move."""
    rows = sum(inside) + missing + unseen
    moved = reference or column("moved")
    others = [column(f"still{i}") for i in range(9)]
    still = [rows // 10 + (i < rows % 10) for i in range(10)]
    counts = {c.name: [*still, 0, 0] for c in others} | {"moved": [*inside, unseen, missing]}
    baseline = Baseline("test", 20_000, (moved, *others), None)
    return judge(baseline, Counts(rows, counts, Census(rows)), schema or {}, Settings(**settings))


def test_equal_shares_are_no_drift() -> None:
    found = verdict([100] * 10)
    assert (found.outcome, found.drifted, found.drifted_share) == ("no_drift", [], 0)


def test_a_psi_over_the_practical_limit_and_over_chance_is_drift() -> None:
    found = verdict([300, 250, 150, 100, 100, 100, 50, 50, 50, 50])
    assert found.outcome == "drift"
    assert [c.column.name for c in found.drifted] == ["moved"]
    assert found.features[0].column.name == "moved"
    assert found.drifted_share == pytest.approx(0.1)
    assert "moved (PSI 0.4" in found.reason


def test_a_psi_that_a_small_window_explains_is_no_drift_and_the_same_in_a_large_one_is() -> None:
    shares = [23, 18, 18, 16, 16, 16, 16, 12, 12, 13]
    small, large = verdict(shares, alarm_psi=0.02), verdict([share * 100 for share in shares], alarm_psi=0.02)
    assert small.features[0].psi > 0.02
    assert (small.outcome, small.psi_max) == ("no_drift", 0)
    assert large.outcome == "drift"


def test_a_certain_shift_below_the_practical_limit_is_no_drift() -> None:
    found = verdict([24_000, 22_000, *[19_000] * 6, 20_000, 20_000])
    assert found.features[0].noise < found.features[0].psi < 0.1
    assert found.outcome == "no_drift"


@pytest.mark.parametrize(("limit", "outcome"), [(0.10, "drift"), (0.25, "no_drift")])
def test_the_conventional_limits_can_be_chosen(limit: float, outcome: str) -> None:
    found = verdict([1600, 1500, 1200, 1000, 1000, 900, 800, 800, 600, 600], alarm_psi=limit)
    assert 0.10 < found.psi_max < 0.25
    assert found.outcome == outcome


def test_a_share_of_drifted_features_can_be_allowed() -> None:
    moved = [1600, 1500, 1200, 1000, 1000, 900, 800, 800, 600, 600]
    assert verdict(moved, max_drifted_share=0.1).outcome == "no_drift"
    assert verdict(moved, max_drifted_share=0.09).outcome == "drift"


def test_one_feature_over_the_alarm_is_drift_whatever_share_may_drift() -> None:
    assert verdict([1000, *[0] * 9], max_drifted_share=1).outcome == "drift"


def test_a_feature_that_drifted_below_both_limits_of_the_data_set_is_named_and_no_alarm() -> None:
    found = verdict([1600, 1500, 1200, 1000, 1000, 900, 800, 800, 600, 600])
    assert (found.outcome, [c.column.name for c in found.drifted]) == ("no_drift", ["moved"])
    assert "1 of 10 features drifted (share 0.10, limit 0.3), largest PSI 0.1" in found.reason
    assert "(limit 0.25): moved (PSI" in found.reason


def test_more_missing_values_are_drift_and_a_few_are_not() -> None:
    assert "missing 10" in verdict([90] * 10, missing=100).drifted[0].causes[-1]
    assert verdict([99] * 10, missing=10).outcome == "no_drift"


def test_unseen_categories_are_drift_and_one_is_not() -> None:
    assert "unseen 3" in verdict([97] * 10, unseen=30).drifted[0].causes[-1]
    assert verdict([100] * 10, unseen=1).outcome == "no_drift"


def test_a_missing_rate_that_the_reference_had_is_no_drift() -> None:
    reference = column("moved", [1_800] * 10, missing=2_000)
    assert verdict([90] * 10, missing=100, reference=reference).outcome == "no_drift"


def test_values_outside_the_range_of_a_number_are_called_that() -> None:
    table = NumberBins(edges=[1.0], minimum=0, maximum=2, counts=[10_000, 10_000, 0, 0])
    found = judge(
        Baseline("t", 20_000, (Column("x", "number", table),), None),
        Counts(1_000, {"x": [480, 480, 40, 0]}, Census(1_000)),
        {},
        Settings(),
    )
    assert "out of range 4 %, was 0 %" in found.reason


def test_too_few_rows_are_inconclusive_however_they_look() -> None:
    for rows in ([5] * 10, [50, *[0] * 9]):
        found = verdict(rows)
        assert found.outcome == "inconclusive"
        assert f"50 rows, and {found.min_rows} are needed" in found.reason


def test_a_changed_schema_is_drift_with_any_number_of_rows() -> None:
    gone = verdict([0] * 10, missing=10, schema={"moved": "the column is missing"})
    assert gone.outcome == "drift"
    assert gone.psi_max > 1


def test_few_rows_beside_a_changed_schema_that_no_limit_minds_are_inconclusive() -> None:
    gone = verdict([0] * 10, missing=10, schema={"moved": "gone"}, alarm_psi=100.0, max_drifted_share=1.0)
    assert gone.outcome == "inconclusive"


@pytest.mark.parametrize(("missing", "outcome"), [(60, "drift"), (30, "no_drift")])
def test_values_that_begin_to_be_missing_raise_the_alarm_by_the_psi_of_a_bin_of_their_own(
    missing: int, outcome: str
) -> None:
    """Merged with a decile, as sparse bins are, they would count a tenth of that."""
    found = verdict([1_000 - missing] * 10, missing=10 * missing)
    assert found.outcome == outcome
    assert (found.psi_max > 0.25) == (outcome == "drift")


def test_whoever_judges_the_two_figures_by_the_same_limits_gets_the_same_answer() -> None:
    """Windows of every size, shift and schema; the figures are read from the measurement's JSON."""
    random = np.random.default_rng(5)
    shares = np.full(10, 0.1)
    seen = set()
    for _ in range(400):
        rows = int(random.choice([160, 400, 3_000]))
        tilt = random.uniform(0, 1.2) * np.linspace(-1, 1, 10)
        counts = random.multinomial(rows, shares * np.exp(tilt) / (shares * np.exp(tilt)).sum()).tolist()
        missing = int(random.choice([0, rows // 12]))
        schema = {"moved": "gone"} if random.random() < 0.1 else None
        alarm, share = float(random.choice([0.0, 0.1, 0.25])), float(random.choice([0.0, 0.1, 0.3]))
        found = verdict(counts, missing, schema=schema, alarm_psi=alarm, max_drifted_share=share)
        psi_max, drifted_share = json.loads(json.dumps([found.psi_max, found.drifted_share]))
        assert (found.outcome == "drift") == (psi_max > alarm or drifted_share > share)
        seen.add(found.outcome)
    assert seen == {"drift", "no_drift"}


def test_a_reference_that_is_too_small_is_inconclusive_and_says_so() -> None:
    small = Baseline("t", 50, (column("x", [5] * 10),), None)
    found = judge(small, Counts(5_000, {"x": [*[500] * 10, 0, 0]}, Census(5_000)), {}, Settings())
    assert (found.outcome, found.reason) == (
        "inconclusive",
        "the reference has 50 rows, too few to tell drift from sampling",
    )


def test_drift_of_the_score_alone_is_drift() -> None:
    score = replace(column(SCORE), name=SCORE)
    baseline = Baseline("t", 20_000, (column("x"),), score)
    counts = {"x": [*[100] * 10, 0, 0], SCORE: [*[190] * 5, *[10] * 5, 0, 0]}
    found = judge(baseline, Counts(1_000, counts, Census(1_000)), {}, Settings(max_drifted_share=0.5))
    assert (found.outcome, found.drifted_share) == ("drift", 0)
    assert found.score is not None
    assert found.psi_max == pytest.approx(found.score.psi, abs=1e-5)
    assert found.reason.startswith("0 of 1 features drifted (share 0.00, limit 0.5), largest PSI 1.")
    assert ": score (PSI" in found.reason


def test_the_minimum_of_rows_grows_with_the_number_of_columns_and_can_be_given() -> None:
    few = Baseline("t", 20_000, tuple(column(f"x{i}") for i in range(3)), None)
    many = Baseline("t", 20_000, tuple(column(f"x{i}") for i in range(60)), None)
    assert 80 < (minimum_rows(few, Settings()) or 0) < (minimum_rows(many, Settings()) or 0) < 250
    assert minimum_rows(many, Settings(min_rows=7)) == 7


# How often any feature drifts over many windows. A window is drawn as counts: rows fall into bins independently.

Draw = Callable[[np.random.Generator, int], np.ndarray]
FEATURES = 24


def alarm_rate(rows: int, windows: int, moved: Draw | None, settings: Settings, seed: int = 0) -> float:
    """Share of windows in which any feature drifts, over references and windows drawn anew each time."""
    settings = replace(settings, max_drifted_share=0.0)
    random = np.random.default_rng(seed)
    sample = random.normal(size=20_000)
    table = freeze_numbers(sample.tolist(), -4, 4)
    shares = np.array(table.counts) / 20_000
    edges = np.array(table.edges)
    alarms = 0
    for _ in range(windows):
        columns = [
            Column(f"x{i}", "number", table.model_copy(update={"counts": random.multinomial(20_000, shares).tolist()}))
            for i in range(FEATURES)
        ]
        counts = {c.name: random.multinomial(rows, shares).tolist() for c in columns}
        if moved is not None:
            counts["x0"] = binned(moved(random, rows), edges)
        found = judge(Baseline("t", 20_000, tuple(columns), None), Counts(rows, counts, Census(rows)), {}, settings)
        alarms += found.outcome == "drift"
    return alarms / windows


def binned(values: np.ndarray, edges: np.ndarray) -> list[int]:
    inside = values[(np.abs(values) <= 4)]
    missing = int(np.isnan(values).sum())
    cells = np.bincount(np.searchsorted(edges, inside, side="left"), minlength=len(edges) + 1)
    return [*cells.tolist(), len(values) - len(inside) - missing, missing]


def with_outlier(values: np.ndarray) -> np.ndarray:
    return np.append(values[1:], 1e8)


def some_missing(random: np.random.Generator, rows: int) -> np.ndarray:
    return np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows))


@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_windows_without_drift_raise_alarms_at_most_at_the_stated_level(rows: int) -> None:
    assert alarm_rate(rows, 150, None, Settings()) <= 0.03


def test_the_level_holds_when_statistics_alone_decide() -> None:
    """With no practical limit every alarm is a failure of the sampling distribution."""
    assert alarm_rate(1_000, 150, None, Settings(psi=0.0, alpha=0.10)) <= 0.10


SHIFTS: dict[str, Draw] = {
    "mean by half a standard deviation": lambda r, n: r.normal(0.5, 1, n),
    "spread by half": lambda r, n: r.normal(0, 1.5, n),
    "one in ten missing": some_missing,
    "mean, beside one outlier of 1e8": lambda r, n: with_outlier(r.normal(0.5, 1, n)),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_known_shift_in_one_of_24_features_is_found(name: str) -> None:
    assert alarm_rate(1_000, 40, SHIFTS[name], Settings()) >= 0.95


@pytest.mark.full
@pytest.mark.parametrize("psi", [0.0, 0.10])
@pytest.mark.parametrize("rows", [150, 300, 1_000, 3_000, 10_000, 100_000])
def test_in_a_thousand_windows_the_false_alarm_rate_is_at_most_the_stated_level(rows: int, psi: float) -> None:
    """0.017 is the 99 % point of the share of alarms among 1,000 windows when the level of 0.01 is attained."""
    assert alarm_rate(rows, 1_000, None, Settings(psi=psi), seed=rows) <= 0.017


@pytest.mark.full
@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("rows", [500, 1_000, 10_000])
def test_a_known_shift_is_found_at_every_window_size(name: str, rows: int) -> None:
    assert alarm_rate(rows, 200, SHIFTS[name], Settings()) >= 0.8
