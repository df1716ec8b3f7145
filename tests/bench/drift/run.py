"""How fast a drift check is, beside reading the file once, a plain NumPy histogram and Evidently, and how right it is.

    python tests/bench/drift/run.py [--rows 100000,1000000,20000000] [--rounds 5] [--evidently-rows 1000000]

Every figure is a process of its own, so that its peak memory is its own; rounds go through the contestants forwards and
backwards in turn, and medians are shown (Evidently and the large table: of one round). The last line is one JSON
object; null means not measured. The large table takes 2 GB of disk for as long as it runs, Evidently 2 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 25
REFERENCE_ROWS = 20_000
GROUP = 122_880
DISTINCT_GROUPS = 9
LARGE = 5_000_000
"""Rows from which on one round is enough."""
TIMEOUT_SECONDS = 1_800


def applicants(rows: int, seed: int) -> pa.Table:
    """A table like a scoring log's: whole amounts, ratios, counts, categories, missing values and the score."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for i in range(8):
        amount = np.round(np.exp(random.normal(8, 1, rows)))
        columns[f"amount_{i}"] = np.where(random.random(rows) < 0.2, 0.0, amount)
    for i in range(8):
        columns[f"ratio_{i}"] = pa.array(np.round(random.beta(2, 3, rows), 4), mask=random.random(rows) < 0.03)
    for i in range(6):
        columns[f"count_{i}"] = random.poisson(3 + i, rows).astype(np.int32)
    for i in range(3):
        columns[f"category_{i}"] = pa.array(np.array(["a", "b", "c", "d", "e"])[random.integers(0, 5, rows)])
    columns["_log_odds"] = random.normal(-1.5, 1, rows)
    return pa.table(columns)


def write(path: Path, rows: int, seed: int) -> None:
    """The table as one Parquet file, a row group at a time; after a million rows the groups come again."""
    groups = [applicants(min(GROUP, rows), seed + i) for i in range(min(DISTINCT_GROUPS, -(-rows // GROUP)))]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for i, start in enumerate(range(0, rows, GROUP)):
            writer.write_table(groups[i % len(groups)].slice(0, min(GROUP, rows - start)))


# The contestants: each is a callable made outside the clock and run inside it.


def ours(reference: Path, current: Path) -> Callable[[], object]:
    from creditmodel_drift.check import check
    from creditmodel_drift.duck import duck
    from creditmodel_drift.freeze import freeze
    from creditmodel_drift.verdict import Settings

    with duck() as engine:
        baseline = freeze(engine, str(reference)).baseline

    def run() -> object:
        with duck() as engine:
            return check(engine, baseline, str(current), Settings()).verdict.psi_max

    return run


def read_once(reference: Path, current: Path) -> Callable[[], object]:
    def run() -> object:
        with pq.ParquetFile(current) as file:
            return sum(file.read_row_group(i).num_rows for i in range(file.num_row_groups))

    return run


def duckdb_reading(reference: Path, current: Path) -> Callable[[], object]:
    """The same engine with the same settings and threads, looking at every value and counting nothing."""
    from creditmodel_drift.binning import quote
    from creditmodel_drift.duck import duck

    names = ", ".join(f"max({quote(name)})" for name in pq.read_schema(current).names)

    def run() -> object:
        with duck() as engine:
            return engine.rows(f"SELECT {names} FROM read_parquet('{current}')")  # noqa: S608 - this script's names

    return run


def numpy_histogram(reference: Path, current: Path) -> Callable[[], object]:
    table = pq.read_table(reference)
    numeric = [f.name for f in table.schema if not pa.types.is_string(f.type)]
    edges = {name: np.nanquantile(table[name].to_numpy(), np.linspace(0.1, 0.9, 9)) for name in numeric}

    def run() -> object:
        counts = {name: np.zeros(10, np.int64) for name in numeric}
        with pq.ParquetFile(current) as file:
            for i in range(file.num_row_groups):
                group = file.read_row_group(i)
                for name in numeric:
                    counts[name] += np.bincount(np.searchsorted(edges[name], group[name].to_numpy()), minlength=10)
                for name in set(group.column_names) - set(numeric):
                    group[name].value_counts()
        return counts

    return run


def evidently(reference: Path, current: Path) -> Callable[[], object]:
    import warnings

    warnings.simplefilter("ignore")
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before = pq.read_table(reference).to_pandas()

    def run() -> object:
        return Report([DataDriftPreset()]).run(pq.read_table(current).to_pandas(), before).dict()

    return run


CONTESTANTS: dict[str, Callable[[Path, Path], Callable[[], object]]] = {
    "creditmodel-drift": ours,
    "reading the file once": read_once,
    "DuckDB's own reading": duckdb_reading,
    "NumPy histogram": numpy_histogram,
    "Evidently": evidently,
}


def contest(name: str, reference: Path, current: Path) -> None:
    """Run one contestant in this process and print its seconds, by the clock and of both cores, and its peak memory."""
    run = CONTESTANTS[name](reference, current)
    begun, worked = time.perf_counter(), time.process_time()
    run()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "rss_mb": peak_mb()}))


def peak_mb() -> float:
    """This process's peak of resident memory; getrusage's would be at least that of the process it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(name: str, reference: Path, current: Path) -> dict[str, float]:
    """One contestant in a process of its own."""
    command = [sys.executable, __file__, "--contestant", name, str(reference), str(current)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def compare(reference: Path, current: Path, names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of every contestant over the rounds, forwards and backwards in turn."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            if name != "Evidently" or turn == 0:
                runs[name].append(measure(name, reference, current))
    return {
        name: {key: statistics.median(r[key] for r in runs[name]) for key in ("seconds", "cpu_seconds", "rss_mb")}
        for name in names
    }


def end_to_end(reference: Path, current: Path, report: bool) -> float:
    """Seconds of the whole command, its start included."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = ["--reference", str(reference), "--current", str(current)]
        arguments += ["--html", f"{directory}/r.html", "--json", f"{directory}/r.json"] if report else []
        code = "import sys; from creditmodel_drift.cli import main; sys.exit(main())"
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=300, check=True)
        return time.perf_counter() - begun


def speed(
    directory: Path, sizes: Sequence[int], rounds: int, evidently_rows: int
) -> dict[int, dict[str, dict[str, float]]]:
    """The table of speeds, printed as it grows."""
    reference = directory / "reference.parquet"
    write(reference, REFERENCE_ROWS, seed=1)
    small = directory / "small.parquet"
    write(small, 20_000, seed=2)
    plain, reported = (
        statistics.median(end_to_end(reference, small, report) for _ in range(3)) for report in (False, True)
    )
    print(f"whole command on 20,000 rows: {plain:.2f} s; with both reports {reported:.2f} s\n")
    print(f"{'rows':>12}  {'':22} {'seconds':>8} {'of CPU':>8} {'rows/s':>12} {'peak MB':>8}")
    results: dict[int, dict[str, dict[str, float]]] = {}
    for rows in sizes:
        current = directory / f"{rows}.parquet"
        write(current, rows, seed=3)
        names = [name for name in CONTESTANTS if name != "Evidently" or rows <= evidently_rows]
        results[rows] = compare(reference, current, names, rounds if rows < LARGE else 1)
        for name, found in results[rows].items():
            per_second = rows / found["seconds"]
            print(
                f"{rows:12,}  {name:22} {found['seconds']:8.3f} {found['cpu_seconds']:8.3f} {per_second:12,.0f} "
                f"{found['rss_mb']:8.0f}",
                flush=True,
            )
        current.unlink()
    return results


def figures(results: dict[int, dict[str, dict[str, float]]]) -> dict[str, float | None]:
    """The figures of the last line."""
    million = results.get(1_000_000, {})
    mine = million.get("creditmodel-drift")

    def ratio(name: str, mine_over: bool, of: str = "seconds") -> float | None:
        other = million.get(name)
        if mine is None or other is None:
            return None
        return mine[of] / other[of] if mine_over else other[of] / mine[of]

    large = results.get(20_000_000, {}).get("creditmodel-drift")
    return {
        "rows_per_s_1m": None if mine is None else 1_000_000 / mine["seconds"],
        "ratio_read_1m": ratio("reading the file once", mine_over=True),
        "ratio_evidently_1m": ratio("Evidently", mine_over=False),
        # Of processor time, which other work on the machine does not lengthen.
        "cpu_ratio_read_1m": ratio("reading the file once", mine_over=True, of="cpu_seconds"),
        "cpu_ratio_duckdb_reading_1m": ratio("DuckDB's own reading", mine_over=True, of="cpu_seconds"),
        "cpu_ratio_evidently_1m": ratio("Evidently", mine_over=False, of="cpu_seconds"),
        "rss_mb_1m": None if mine is None else mine["rss_mb"],
        "rss_mb_20m": None if large is None else large["rss_mb"],
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="100000,1000000,20000000", help="table sizes, comma-separated (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--evidently-rows", type=int, default=1_000_000, help="most rows for Evidently (%(default)s)")
    parser.add_argument("--windows", type=int, default=1_000, help="windows per cell of the statistics (%(default)s)")
    parser.add_argument("--skip-statistics", action="store_true")
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        name, reference, current = arguments.contestant
        contest(name, Path(reference), Path(current))
        return
    with tempfile.TemporaryDirectory(prefix="creditmodel-bench-") as directory:
        sizes = [int(size) for size in arguments.rows.split(",")]
        found = figures(speed(Path(directory), sizes, arguments.rounds, arguments.evidently_rows))
    rates: dict[str, float | None] = {"false_alarm_rate": None, "power_shift_03": None}
    if not arguments.skip_statistics:
        import rates as statistics_of  # type: ignore[import-not-found]  # found beside the script when it runs

        print(f"\nshare of windows that each rule flags, of {arguments.windows:,} without drift and a fifth with it")
        rates = statistics_of.figures(statistics_of.table(arguments.windows, print))
    print(json.dumps({key: None if value is None else round(value, 4) for key, value in (found | rates).items()}))


if __name__ == "__main__":
    main()
