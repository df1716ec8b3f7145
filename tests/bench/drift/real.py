"""The verdict on real data: later months, another segment, and windows of the reference's own clients.

    python tests/bench/drift/real.py [--write docs/design/drift.md] [--second credit_data.csv]

The reference is a half of the clients of June 2005, drawn by seed; every window is of the other half. `--second` takes
a table of another origin (credit_data of R's modeldata, as CSV), which does not ship with this repository.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from creditmodel_drift.baseline import Baseline
from creditmodel_drift.check import check
from creditmodel_drift.duck import duck
from creditmodel_drift.freeze import freeze
from creditmodel_drift.scan import Census, Counts
from creditmodel_drift.verdict import Settings, Verdict, judge
from creditmodel_training.data import named

__all__ = ["MONTHS", "Pair", "alarm_rates", "halves", "markdown", "pairs", "verdict"]

MONTHS = ("2005-06", "2005-07", "2005-08", "2005-09")
SIZES = (300, 1_000, 3_000)
BEGIN, END = "<!-- real -->\n", "<!-- /real -->"


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference and a window."""

    name: str
    reference: pa.Table
    current: pa.Table


def snapshot(month: str) -> pa.Table:
    """The features of every client at the end of a month, in the clients' order."""
    return named(f"uci-credit-default@{month}").table.drop_columns(["client_id", "default"])


def halves(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the reference's clients and of the others."""
    shuffled = np.random.default_rng(0).permutation(rows)
    return shuffled[: rows // 2], shuffled[rows // 2 :]


def pairs() -> Iterator[Pair]:
    """Each later month against June, and graduates of June against all others."""
    june = snapshot(MONTHS[0])
    ours, others = halves(june.num_rows)
    for month in MONTHS:
        yield Pair(f"{month}, other clients", june.take(ours), snapshot(month).take(others))
    graduate = pc.fill_null(pc.equal(june["education"], "graduate_school"), False)
    rest, graduates = (june.filter(chosen).drop_columns(["education"]) for chosen in (pc.invert(graduate), graduate))
    yield Pair("2005-06, education is graduate school, against all others", rest, graduates)


def second(path: Path) -> Iterator[Pair]:
    """Random halves of another table, and those of its applicants who are not employed for good."""
    table = pv.read_csv(path, convert_options=pv.ConvertOptions(strings_can_be_null=True))
    table = table.drop_columns([name for name in ("rownames", "Status") if name in table.column_names])
    ours, others = halves(table.num_rows)
    yield Pair("credit_data, random halves", table.take(ours), table.take(others))
    fixed = pc.fill_null(pc.equal(table["Job"], "fixed"), False)
    employed, free = (table.filter(chosen).drop_columns(["Job"]) for chosen in (fixed, pc.invert(fixed)))
    yield Pair("credit_data, no fixed job, against a fixed one", employed, free)


def verdict(pair: Pair) -> Verdict:
    """The verdict at the default limits, bins frozen from the reference."""
    with tempfile.TemporaryDirectory() as directory, duck() as engine:
        places = [f"{directory}/{name}.parquet" for name in ("reference", "current")]
        pq.write_table(pair.reference, places[0])
        pq.write_table(pair.current, places[1])
        return check(engine, freeze(engine, places[0]).baseline, places[1], Settings()).verdict


def alarm_rates(rows: int, windows: int) -> tuple[float, float]:
    """The share of windows of June's other clients with a drifted feature, at the default limits and with `--psi 0`."""
    june = snapshot(MONTHS[0])
    ours, others = halves(june.num_rows)
    with tempfile.TemporaryDirectory() as directory, duck() as engine:
        pq.write_table(june.take(ours), f"{directory}/june.parquet")
        baseline = freeze(engine, f"{directory}/june.parquet").baseline
    bins = {c.name: np.array([c.table.index(v) for v in june[c.name].to_pylist()]) for c in baseline.columns}
    random = np.random.default_rng(rows)
    flags = [_flags(baseline, bins, random.choice(others, rows, replace=False)) for _ in range(windows)]
    usual, bare = np.mean(flags, axis=0)
    return float(usual), float(bare)


def _flags(baseline: Baseline, bins: dict[str, NDArray[np.int64]], chosen: NDArray[np.int64]) -> tuple[bool, bool]:
    counts = {
        c.name: np.bincount(bins[c.name][chosen], minlength=len(c.table.counts)).tolist() for c in baseline.columns
    }
    rows = len(chosen)
    usual, bare = (
        judge(baseline, Counts(rows, counts, Census(rows)), {}, Settings(psi=limit)) for limit in (0.10, 0.0)
    )
    return bool(usual.drifted), bool(bare.drifted)


def main() -> None:
    """Print both tables, and write them into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1_000, help="windows of June's other clients (%(default)s)")
    parser.add_argument("--second", type=Path, help="credit_data.csv")
    parser.add_argument("--write", type=Path, help="document whose tables these are")
    arguments = parser.parse_args()
    text = "\n".join([*_verdicts(arguments.second), "", *_alarms(arguments.windows), ""])
    print(text)
    if arguments.write is not None:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(before + BEGIN + text + END + rest.split(END)[1])


def _verdicts(other: Path | None) -> Iterator[str]:
    yield "| window | rows | verdict | largest PSI | drifted features (PSI) |"
    yield "|---|---|---|---|---|"
    yield from (markdown(pair) for pair in [*pairs(), *(second(other) if other is not None else ())])


def markdown(pair: Pair) -> str:
    """The line of a pair."""
    found = verdict(pair)
    drifted = ", ".join(f"{column.column.name} {column.psi:.2f}" for column in found.drifted)
    largest = max(column.psi for column in found.features)
    answer = found.outcome.replace("_", " ")
    return f"| {pair.name} | {found.rows:,} | {answer} | {largest:.3f} | {drifted or 'none'} |"


def _alarms(windows: int) -> Iterator[str]:
    yield f"| rows, of {windows:,} windows of June's other clients | any feature | any feature, `--psi 0` |"
    yield "|---|---|---|"
    for rows in SIZES:
        usual, bare = alarm_rates(rows, windows)
        yield f"| {rows:,} | {usual:.1%} | {bare:.1%} |"


if __name__ == "__main__":
    main()
