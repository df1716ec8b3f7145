"""Side by side on one core: the floors, and the scoring server with everything on.

Servers take the first core and the load generator the second. Rounds go forward and back, so that a slow minute of
the machine touches all alike, and medians are reported. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONNECTIONS = (1, 8, 32, 128)
Figures = dict[str, float]


@dataclass
class Subject:
    """A server under load, and what was measured of it."""

    name: str
    url: str
    pid: int
    cold_start_s: float
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    rss_mb: float = 0.0

    def median(self, case: str, figure: str) -> float:
        """Median over the rounds."""
        return statistics.median(measured[figure] for measured in self.figures[case])


def cores() -> tuple[int, int]:
    """A core for the servers and one for the load; the same where there is but one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


@contextmanager
def running(name: str, command: list[str], path: str, ready: str) -> Iterator[Subject]:
    """Start a server on its core and wait until it answers; cold start is measured from before the process exists."""
    core = cores()[0]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        _wait(f"{url}{ready}")
        yield Subject(name, f"{url}{path}", process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def _wait(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - a loopback address of our own
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def measure(subject: Subject, case: str, body: Path, connections: int, seconds: float) -> None:
    """One case of one round."""
    core = cores()[1]
    before = _cpu_seconds(subject.pid)
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), subject.url, str(body), str(connections), str(seconds)],
        capture_output=True, text=True, timeout=seconds + 120, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failed"] or not found["requests"]:
        raise SystemExit(f"{subject.name}, {case}: {found['failed']} requests failed")
    found["rps"] = found["requests"] / found["seconds"]
    found["cpu_us"] = (_cpu_seconds(subject.pid) - before) / found["requests"] * 1e6
    subject.figures.setdefault(case, []).append({k: v for k, v in found.items() if isinstance(v, int | float)})
    subject.rss_mb = max(subject.rss_mb, _rss_mb(subject.pid))


def bodies(bundle: Path, directory: Path) -> dict[int, Path]:
    """Request bodies by number of applicants, from the bundle's golden rows."""
    golden = [row["features"] for row in json.loads((bundle / "golden.json").read_bytes())["rows"]]
    made = {}
    for count in (1, 100, 10_000):
        made[count] = directory / f"{count}.json"
        made[count].write_text(json.dumps({"applicants": [golden[i % len(golden)] for i in range(count)]}))
    return made


def serve_command(bundle: Path, log: Path) -> list[str]:
    """The scoring server with logging, metrics, reasons and validation on, as in production."""
    return [
        str(Path(sys.executable).with_name("creditmodel-serve")), "--bundle", bundle.resolve().as_uri(), "--port", "0",
        "--scoring-log", log.as_uri(), "--max-connection-age", "86400", "--drain-seconds", "0",
    ]  # fmt: skip


def ort_floor(bundle: Path) -> Figures:
    """The model called in a loop, on the servers' core."""
    core = cores()[0]
    done = subprocess.run(
        [sys.executable, str(HERE / "floors.py"), "ort", str(bundle)],
        capture_output=True, text=True, timeout=300, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    found: Figures = json.loads(done.stdout)
    return found


def table(subjects: list[Subject]) -> None:
    """What was measured, to read."""
    print(f"\n{'':22}{'case':>12}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'p99.9':>9}{'CPU µs':>9}")
    for subject in subjects:
        for case in subject.figures:
            rps, p50, p99, p999, cpu = (
                subject.median(case, f) for f in ("rps", "p50_ms", "p99_ms", "p999_ms", "cpu_us")
            )
            print(f"{subject.name:22}{case:>12}{rps:10.0f}{p50:9.3f}{p99:9.3f}{p999:9.3f}{cpu:9.1f}")
        print(f"{subject.name:22}{'':12} cold start {subject.cold_start_s:.2f} s, RSS {subject.rss_mb:.0f} MB")


def summary(constant: Subject, ours: Subject, ort: Figures) -> dict[str, float | None]:
    """The figures by which a run is judged. Peers are null where they were not measured."""
    floor, rps = constant.median("c32", "rps"), ours.median("c32", "rps")
    batch = ours.median("batch 10000", "p50_ms") / 1e3
    return {
        "floor_rps_32": round(floor),
        "ort_calls_per_s": round(ort["calls_per_s"]),
        "rps_32": round(rps),
        "ratio_floor_32": round(rps / floor, 3),
        "cpu_ratio_floor_32": round(constant.median("c32", "cpu_us") / ours.median("c32", "cpu_us"), 3),
        "best_peer": None,
        "best_peer_rps_32": None,
        "ratio_best_peer_32": None,
        "p99_ms_1": round(ours.median("c1", "p99_ms"), 3),
        "batch_10000_ratio_ort": round(batch / (ort["batch_10000_s"] + ort["parse_10000_s"]), 2),
        "cold_start_s": round(ours.cold_start_s, 2),
        "rss_mb": round(ours.rss_mb),
    }


def _cases(subjects: list[Subject], made: dict[int, Path], seconds: float, forward: bool) -> None:
    ordered = subjects if forward else subjects[::-1]
    for connections in CONNECTIONS:
        for subject in ordered:
            measure(subject, f"c{connections}", made[1], connections, seconds)
    for count in (100, 10_000):
        measure(subjects[-1], f"batch {count}", made[count], 1, seconds)


def main() -> int:
    """Run the bench; 0 when everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="a bundle's directory (default: the sample bundle)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each case of a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        bundle = arguments.bundle or Path(temporary) / "bundle"
        if arguments.bundle is None:
            subprocess.run([sys.executable, str(HERE / "sample_bundle.py"), str(bundle)], check=True, timeout=120)
        made = bodies(bundle, Path(temporary))
        ort = ort_floor(bundle)
        constant = stack.enter_context(
            running("floor: constant", [sys.executable, str(HERE / "floors.py"), "constant"], "/", "/")
        )
        command = serve_command(bundle, Path(temporary) / "log")
        ours = stack.enter_context(running("creditmodel-serve", command, "/v1/score", "/healthz/ready"))
        for number in range(arguments.rounds):
            _cases([constant, ours], made, arguments.seconds, forward=number % 2 == 0)
            if sys.stderr.isatty():
                print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        table([constant, ours])
        model, parsing = ort["batch_10000_s"] * 1e3, ort["parse_10000_s"] * 1e3
        print(f"\nfloor: ONNX Runtime in a loop {ort['calls_per_s']:.0f} calls/s")
        print(f"floor: 10,000 rows {model:.1f} ms in ONNX Runtime, {parsing:.1f} ms to parse")
        print(json.dumps(summary(constant, ours, ort)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
