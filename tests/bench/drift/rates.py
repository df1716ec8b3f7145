"""False alarms and power of the drift verdict, beside Evidently's default and PSI against fixed limits.

A window has 24 features. Without drift all of them are drawn from the reference's distribution; for power one of them
is shifted. A rule raises an alarm when it flags any feature; "data set" is the verdict at its default limits, which
the shift of one feature exceeds when its PSI is over 0.25.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from creditmodel_bundle.bins import NumberBins
from creditmodel_drift.baseline import Baseline, Column
from creditmodel_drift.scan import Census, Counts
from creditmodel_drift.verdict import Settings, judge

__all__ = ["table"]

FEATURES = 24
REFERENCE_ROWS = 20_000
EVIDENTLY_WINDOWS = 40
"""Windows that Evidently's test sees; it sorts the whole reference for each feature of each."""
SIZES = (100, 300, 1_000, 10_000)

Values = np.ndarray
Draw = Callable[[np.random.Generator, int], Values]


def _missing(random: np.random.Generator, rows: int) -> Values:
    return np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows))


def _outlier(random: np.random.Generator, rows: int) -> Values:
    return np.append(random.normal(0.5, 1, rows - 1), 1e8)


SHIFTS: dict[str, Draw | None] = {
    "none (false alarms)": None,
    "mean + 0.2 sd": lambda r, n: r.normal(0.2, 1, n),
    "mean + 0.3 sd": lambda r, n: r.normal(0.3, 1, n),
    "mean + 0.5 sd": lambda r, n: r.normal(0.5, 1, n),
    "spread × 1.5": lambda r, n: r.normal(0, 1.5, n),
    "10 % missing": _missing,
    "mean + 0.5 sd, one 1e8": _outlier,
}


class Window:
    """One reference and one window of 24 features [features × rows], and their counts in the reference's deciles."""

    def __init__(self, random: np.random.Generator, rows: int, shift: Draw | None) -> None:
        self.before = random.normal(size=(FEATURES, REFERENCE_ROWS))
        self.now = random.normal(size=(FEATURES, rows))
        if shift is not None:
            self.now[0] = shift(random, rows)
        self.tables = [_frozen(values) for values in self.before]
        self.counts = [_counts(table, values) for table, values in zip(self.tables, self.now, strict=True)]


def _frozen(values: Values) -> NumberBins:
    """Deciles, as freeze_numbers cuts a column without point masses."""
    ordered = np.sort(values)
    edges = [float(ordered[len(ordered) * cut // 10 - 1]) for cut in range(1, 10)]
    draft = NumberBins(edges=edges, minimum=-100, maximum=100, counts=[0] * 12)
    return draft.model_copy(update={"counts": _counts(draft, values)})


def _counts(table: NumberBins, values: Values) -> list[int]:
    inside = values[np.abs(values) <= 100]
    missing = int(np.isnan(values).sum())
    cells = np.bincount(np.searchsorted(table.edges, inside), minlength=len(table.edges) + 1)
    return [*cells.tolist(), len(values) - len(inside) - missing, missing]


def creditmodel(settings: Settings) -> Callable[[Window], str]:
    """Our verdict's outcome; with no share allowed to drift, whether any feature drifted."""

    def rule(window: Window) -> str:
        columns = tuple(Column(f"x{i}", "number", table) for i, table in enumerate(window.tables))
        rows = window.now.shape[1]
        counts = Counts(rows, {c.name: n for c, n in zip(columns, window.counts, strict=True)}, Census(rows))
        return judge(Baseline("bench", REFERENCE_ROWS, columns, None), counts, {}, settings).outcome

    return rule


def fixed_psi(limit: float) -> Callable[[Window], str]:
    """Decile PSI against a fixed limit, as it is commonly computed: no allowance for the window's size."""

    def rule(window: Window) -> str:
        for frozen, counts in zip(window.tables, window.counts, strict=True):
            p = np.clip(np.array(frozen.counts[:10]) / REFERENCE_ROWS, 1e-4, None)
            q = np.clip(np.array(counts[:10]) / max(sum(counts[:10]), 1), 1e-4, None)
            if np.sum((q - p) * np.log(q / p)) > limit:
                return "drift"
        return "no_drift"

    return rule


def evidently_default() -> Callable[[Window], str]:
    """Evidently's default for a number with over 1,000 reference rows: normed Wasserstein distance of at least 0.1."""
    from evidently.legacy.calculations.stattests import wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    def rule(window: Window) -> str:
        for before, now in zip(window.before, window.now, strict=True):
            present: Any = pd.Series(now).dropna()
            if wasserstein_stat_test(pd.Series(before), present, ColumnType.Numerical, 0.1).drifted:
                return "drift"
        return "no_drift"

    return rule


def table(windows: int) -> dict[str, float | None]:
    """Print the share of windows that each rule flags; returns the two figures of the benchmark's last line."""
    import warnings

    warnings.simplefilter("ignore")
    rules = {
        "feature": creditmodel(Settings(max_drifted_share=0.0)),
        "feature --psi 0.05": creditmodel(Settings(psi=0.05, max_drifted_share=0.0)),
        "data set": creditmodel(Settings()),
        "PSI > 0.10": fixed_psi(0.10),
        "PSI > 0.25": fixed_psi(0.25),
        "Evidently": evidently_default(),
    }
    seen = min(windows, EVIDENTLY_WINDOWS)
    print(f"\nshare of {windows} windows flagged ({seen} by Evidently); '-' is inconclusive")
    print(f"{'shift of one feature':24} {'rows':>7}  " + "  ".join(f"{name:>18}" for name in rules))
    shares: dict[tuple[str, int, str], float] = {}
    for shift, draw in SHIFTS.items():
        for rows in SIZES:
            outcomes = _outcomes(rules, rows, draw, windows)
            shares |= {(shift, rows, name): found.count("drift") / len(found) for name, found in outcomes.items()}
            cells = (_cell(found) for found in outcomes.values())
            print(f"{shift:24} {rows:7,}  " + "  ".join(f"{cell:>18}" for cell in cells), flush=True)
    return {
        "false_alarm_rate": max(shares["none (false alarms)", rows, "feature"] for rows in SIZES),
        "power_shift_03": shares["mean + 0.3 sd", 1_000, "feature"],
        "power_shift_03_psi_005": shares["mean + 0.3 sd", 1_000, "feature --psi 0.05"],
        "power_shift_05": shares["mean + 0.5 sd", 1_000, "feature"],
    }


def _outcomes(
    rules: dict[str, Callable[[Window], str]], rows: int, draw: Draw | None, windows: int
) -> dict[str, list[str]]:
    """Every rule's outcome on the same windows."""
    random = np.random.default_rng(rows)
    outcomes: dict[str, list[str]] = {name: [] for name in rules}
    for drawn in range(windows):
        window = Window(random, rows, draw)
        for name, rule in rules.items():
            if name != "Evidently" or drawn < EVIDENTLY_WINDOWS:
                outcomes[name].append(rule(window))
    return outcomes


def _cell(outcomes: list[str]) -> str:
    if all(outcome == "inconclusive" for outcome in outcomes):
        return "-"
    return f"{outcomes.count('drift') / len(outcomes):.1%}"
