"""False alarms and power of the drift verdict, beside Evidently's default and PSI against fixed limits.

    python tests/bench/drift/rates.py [--windows 1000] [--write docs/design/drift.md]

A window has 24 features, 20 numbers and 4 categories, and 20,000 reference rows. Without drift all of them come from
the reference's distribution; for power one is shifted. A rule raises an alarm when it flags any feature; "data set" is
the verdict at its default limits, which the shift of one feature exceeds when its PSI is over 0.25.

Windows are drawn as counts: rows fall into bins independently, and the true masses of a sample's deciles are
Dirichlet-distributed, so this is the distribution that drawing and sorting rows gives, at any size in the same time.
Evidently gets rows. Every line has a seed of its own, so each can be made again alone.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_drift.baseline import Baseline, Column
from creditmodel_drift.scan import Census, Counts
from creditmodel_drift.verdict import Settings, Verdict, judge

__all__ = ["LINES", "Line", "figures", "line", "table"]

NUMBERS, CATEGORIES = 20, 4
REFERENCE_ROWS = 20_000
SIZES = (100, 300, 1_000, 10_000, 100_000)
MIX = (0.40, 0.30, 0.15, 0.10, 0.05)
MOVED_MIX = (0.30, 0.30, 0.20, 0.13, 0.07)
RULES = ("feature", "feature, `--psi 0.05`", "feature, `--psi 0`", "data set", "PSI > 0.10", "PSI > 0.25", "Evidently")
BEGIN, END = "<!-- rates -->\n", "<!-- /rates -->"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """What happens to one feature: a normal's mean and spread, the share of it that goes missing, an outlier."""

    name: str
    mean: float = 0.0
    spread: float = 1.0
    missing: float = 0.0
    outlier: bool = False
    mix: Sequence[float] | None = None

    def rows(self, random: np.random.Generator, rows: int) -> Floats | NDArray[np.str_]:
        """The feature's values."""
        if self.mix is not None:
            return random.choice(list("abcde"), rows, p=self.mix)
        values = random.normal(self.mean, self.spread, rows)
        values[random.random(rows) < self.missing] = np.nan
        if self.outlier:
            values[0] = 1e8
        return values


SHIFTS = (
    Shift("none (false alarms)"),
    Shift("mean + 0.2 sd", mean=0.2),
    Shift("mean + 0.3 sd", mean=0.3),
    Shift("mean + 0.5 sd", mean=0.5),
    Shift("spread × 1.5", spread=1.5),
    Shift("category mix, 40:30:15:10:5 to 30:30:20:13:7", mix=MOVED_MIX),
    Shift("10 % missing", missing=0.1),
    Shift("mean + 0.5 sd, one 1e8", mean=0.5, outlier=True),
)
LINES = tuple((shift, rows) for shift in SHIFTS for rows in SIZES)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: for each rule the share of windows it flags; None where it gives no verdict."""

    shift: str
    rows: int
    shares: dict[str, float | None]

    def markdown(self) -> str:
        """As a row of the table."""
        cells = ("-" if share is None else f"{share:.1%}" for share in self.shares.values())
        return f"| {self.shift} | {self.rows:,} | {' | '.join(cells)} |"


def line(shift: Shift, rows: int, windows: int, evidently: bool = True) -> Line:
    """One line of the table; power needs fewer windows than a level near zero."""
    random = np.random.default_rng([SHIFTS.index(shift), rows])
    seen = windows if shift is SHIFTS[0] else max(1, windows // 5)
    flags: dict[str, list[bool]] = {rule: [] for rule in RULES[:-1]}
    answered = False
    for _ in range(seen):
        columns, counts = _window(random, rows, shift)
        usual, sharp, bare = (_judged(columns, counts, rows, Settings(psi=limit)) for limit in (0.10, 0.05, 0.0))
        answered = usual.outcome != "inconclusive"
        values = [_fixed_psi(column.table.counts, counts[column.name]) for column in columns]
        drifted = (bool(verdict.drifted) for verdict in (usual, sharp, bare))
        found = (*drifted, usual.outcome == "drift", max(values) > 0.1, max(values) > 0.25)
        for rule, flag in zip(flags, found, strict=True):
            flags[rule].append(flag)
    shares: dict[str, float | None] = {rule: float(np.mean(flag)) for rule, flag in flags.items()}
    if not answered:
        shares |= dict.fromkeys(RULES[:4])
    return Line(shift.name, rows, shares | {RULES[-1]: _evidently(random, shift, rows) if evidently else None})


def _window(random: np.random.Generator, rows: int, shift: Shift) -> tuple[list[Column], dict[str, list[int]]]:
    columns: list[Column] = []
    counts: dict[str, list[int]] = {}
    for i in range(NUMBERS):
        edges = ndtri(np.cumsum(random.dirichlet([REFERENCE_ROWS / 10] * 10))[:-1])
        frozen = NumberBins(edges=edges.tolist(), counts=[REFERENCE_ROWS // 10] * 10 + [0, 0])
        moved = shift if i == 0 and shift.mix is None else SHIFTS[0]
        columns.append(Column(f"x{i}", "number", frozen))
        counts[f"x{i}"] = _numbers(random, edges, rows, moved)
    for i in range(CATEGORIES):
        before = random.multinomial(REFERENCE_ROWS, MIX).tolist()
        mix = MIX if i or shift.mix is None else shift.mix
        columns.append(Column(f"c{i}", "text", CategoryBins(values=list("abcde"), counts=[*before, 0, 0])))
        counts[f"c{i}"] = [*random.multinomial(rows, mix).tolist(), 0, 0]
    return columns, counts


def _numbers(random: np.random.Generator, edges: Floats, rows: int, shift: Shift) -> list[int]:
    """Counts of a window's rows; an outlier is out of the range that the contract gives."""
    missing = int(random.binomial(rows, shift.missing))
    cumulative = np.concatenate([[0.0], ndtr((edges - shift.mean) / shift.spread), [1.0]])
    inside = random.multinomial(rows - missing - shift.outlier, np.diff(cumulative))
    return [*inside.tolist(), int(shift.outlier), missing]


def _judged(columns: list[Column], counts: dict[str, list[int]], rows: int, settings: Settings) -> Verdict:
    baseline = Baseline("bench", REFERENCE_ROWS, tuple(columns), None)
    return judge(baseline, Counts(rows, counts, Census(rows)), {}, settings)


def _fixed_psi(before: list[int], now: list[int]) -> float:
    """PSI as it is commonly computed: on the values that are there, without allowance for the window's size."""
    p, q = (np.clip(np.array(c[:-2]) / max(sum(c[:-2]), 1), 1e-4, None) for c in (before, now))
    return float(np.sum((q - p) * np.log(q / p)))


def _evidently(random: np.random.Generator, shift: Shift, rows: int) -> float:
    """The share of windows in which Evidently's defaults for over 1,000 reference rows flag any column."""
    windows = max(10, min(20, 100_000 // rows))
    return float(np.mean([_evidently_flags(random, shift, rows) for _ in range(windows)]))


def _evidently_flags(random: np.random.Generator, shift: Shift, rows: int) -> bool:
    import pandas as pd
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test, wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    def flags(test: Any, kind: Any, before: Any, now: Any) -> bool:
        drifted: bool = test(pd.Series(before), pd.Series(now).dropna(), kind, 0.1).drifted
        return drifted

    still, mixed = SHIFTS[0], Shift("", mix=MIX)
    number = shift if shift.mix is None else still
    category = shift if shift.mix is not None else mixed
    return any(
        flags(wasserstein_stat_test, ColumnType.Numerical, random.normal(size=REFERENCE_ROWS), s.rows(random, rows))
        for s in [number, *[still] * (NUMBERS - 1)]
    ) or any(
        flags(jensenshannon_stat_test, ColumnType.Categorical, mixed.rows(random, REFERENCE_ROWS), s.rows(random, rows))
        for s in [category, *[mixed] * (CATEGORIES - 1)]
    )


def table(windows: int, say: Callable[[str], None]) -> list[Line]:
    """Every line, said as it comes."""
    warnings.simplefilter("ignore")
    say("| shift of one feature | rows | " + " | ".join(RULES) + " |")
    say("|---" * (2 + len(RULES)) + "|")
    lines: list[Line] = []
    for shift, rows in LINES:
        lines.append(line(shift, rows, windows))
        say(lines[-1].markdown())
    return lines


def figures(lines: Sequence[Line]) -> dict[str, float | None]:
    """The figures of the benchmark's last line, twice, with the practical limit that each pair is at.

    At 0 the statistics alone decide. At the default, that shift's PSI (0.085) is below what is called a shift at all.
    """
    shares = {(found.shift, found.rows): found.shares for found in lines}
    moved = shares["mean + 0.3 sd", 1_000]

    def alarms(rule: str) -> float:
        return max(share for rows in SIZES if (share := shares[SHIFTS[0].name, rows][rule]) is not None)

    return {
        "false_alarm_rate": alarms(RULES[2]),
        "power_shift_03": moved[RULES[2]],
        "psi_limit": 0.0,
        "false_alarm_rate_default": alarms(RULES[0]),
        "power_shift_03_default": moved[RULES[0]],
        "psi_limit_default": Settings().psi,
    }


def main() -> None:
    """Print the table, and write it into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1_000, help="windows without drift; a fifth for power")
    parser.add_argument("--write", type=Path, help="document whose table this is")
    arguments = parser.parse_args()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(f"{text}\n")
        print(text, flush=True)

    table(arguments.windows, say)
    if arguments.write is not None:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(before + BEGIN + "".join(said) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
