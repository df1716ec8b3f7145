"""Side by side on one core: the floors, the scoring server with everything on, and the servers one would pick instead.

Servers take the first core and the load generator the second. Rounds go forward and back, so that a slow minute of
the machine touches all alike, and medians are reported. Peers are started anew in each round, one at a time. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.serving.peer import PEERS, Peer, PeerUnavailable, ask, check, install

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder

HERE = Path(__file__).parent
CONNECTIONS = (1, 8, 32, 128)
PEER_CONNECTIONS = (1, 32)
READY_SECONDS = 90
Figures = dict[str, float]


class Failed(Exception):
    """A server did not start, or did not answer every request."""


@dataclass
class Subject:
    """A server under load, and what was measured of it."""

    name: str
    url: str = ""
    pid: int = 0
    cold_starts_s: list[float] = field(default_factory=list)
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    rss_mb: float = 0.0

    def median(self, case: str, figure: str) -> float:
        """Median over the rounds."""
        return statistics.median(measured[figure] for measured in self.figures[case])

    @property
    def cold_start_s(self) -> float:
        """Seconds from before the process exists to its first ready answer."""
        return statistics.median(self.cold_starts_s)


def cores() -> tuple[int, int]:
    """A core for the servers and one for the load; the same where there is but one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


@contextmanager
def running(subject: Subject, command: list[str], path: str, ready: str) -> Iterator[Subject]:
    """Start a server on its core, in a session of its own, and wait until it is ready. Raises Failed."""
    core = cores()[0]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        # A server that goes on talking must not be held up once the pipe is full.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        _wait(process, f"{address}{ready}")
        subject.cold_starts_s.append(time.perf_counter() - begun)
        subject.url, subject.pid = f"{address}{path}", process.pid
        yield subject
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Stop a server and whatever it started."""
    family = _family(process.pid)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)
    for pid in family - {process.pid}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()


def _wait(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if not url.startswith("http") or process.poll() is not None:
            raise Failed(f"it ended with exit code {process.wait(READY_SECONDS)} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - a loopback address of our own
                return
        except OSError as e:
            if time.monotonic() > deadline:
                raise Failed(f"it was not ready in {READY_SECONDS} s: {e}") from e
            time.sleep(0.005)


def _family(pid: int) -> set[int]:
    """A process and its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _cpu_seconds(pid: int) -> float:
    total = 0
    for member in _family(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, shared pages counted for each."""
    total = 0.0
    for member in _family(pid):
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{member}/status").read_text().splitlines()
            total += next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
    return total


def measure(subject: Subject, case: str, body: Path, connections: int, seconds: float) -> None:
    """One case of one round."""
    core = cores()[1]
    before = _cpu_seconds(subject.pid)
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / "load.py"), subject.url, str(body), str(connections), str(seconds)],
            capture_output=True, text=True, timeout=seconds + 120, check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
    except subprocess.SubprocessError as e:
        raise Failed(f"{case}: the load could not be measured: {e}"[:300]) from e
    found: dict[str, Any] = json.loads(done.stdout)
    if not found["requests"]:
        raise Failed(f"{case}: no request was answered in {seconds:g} s")
    if found["failed"]:
        raise Failed(f"{case}: {found['failed']} of {found['requests']} requests failed")
    found["rps"] = found["requests"] / found["seconds"]
    found["cpu_us"] = (_cpu_seconds(subject.pid) - before) / found["requests"] * 1e6
    subject.figures.setdefault(case, []).append({k: v for k, v in found.items() if isinstance(v, int | float)})
    subject.rss_mb = max(subject.rss_mb, rss_mb(subject.pid))


def golden_rows(bundle: Path) -> list[dict[str, Any]]:
    """The golden applicants, one without gaps first: peers' JSON has no way to say that a number is missing."""
    rows = [row["features"] for row in json.loads((bundle / "golden.json").read_bytes())["rows"]]
    return sorted(rows, key=lambda row: None in row.values())


def bodies(bundle: Path, directory: Path) -> dict[int, Path]:
    """Request bodies by number of applicants, from the bundle's golden rows."""
    golden = golden_rows(bundle)
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


def on_servers_core(program: str, *arguments: str) -> str:
    """What one of the programs beside this one prints, run on the servers' core."""
    core = cores()[0]
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments],
        capture_output=True, text=True, timeout=300, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    return done.stdout


def ort_floor(bundle: Path) -> Figures:
    """The model called in a loop."""
    found: Figures = json.loads(on_servers_core("floors.py", "ort", str(bundle)))
    return found


class Peers:
    """The peers that can be measured here, and why the others cannot."""

    def __init__(self, chosen: Iterable[Peer], bundle: Path, directory: Path, expected: float) -> None:
        encoder = Encoder(Contract.read(bundle / "contract.json"))
        self._row = encoder.encode(golden_rows(bundle)[0])
        self._bundle, self._directory, self._expected = bundle, directory, expected
        self.subjects: dict[Peer, Subject] = {}
        self.failures: dict[str, str] = {}
        for peer in chosen:
            try:
                install(peer)
                self.subjects[peer] = Subject(peer.name)
            except PeerUnavailable as e:
                self._give_up(peer, str(e))

    def measure(self, peer: Peer, seconds: float) -> None:
        """One round of one peer. A peer that fails twice is not measured any more, and none of its figures are kept."""
        for last_try in (False, True):
            try:
                if peer in self.subjects:
                    self._measure(peer, seconds)
                return
            except (Failed, PeerUnavailable) as e:
                if last_try:
                    self._give_up(peer, str(e))

    def _measure(self, peer: Peer, seconds: float) -> None:
        body = self._directory / f"{peer.folder}.json"
        body.write_text(json.dumps(peer.body(self._row)))
        subject = self.subjects[peer]
        with running(subject, peer.command(self._bundle), peer.path, peer.ready):
            check(peer, subject.url, body.read_bytes(), self._expected)
            for connections in PEER_CONNECTIONS:
                measure(subject, f"c{connections}", body, connections, seconds)

    def _give_up(self, peer: Peer, why: str) -> None:
        self.subjects.pop(peer, None)
        self.failures[peer.name] = why
        print(f"{peer.name} is not measured: {why}", file=sys.stderr)


def table(subjects: Iterable[Subject]) -> None:
    """What was measured, to read."""
    print(f"\n{'':22}{'case':>12}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'p99.9':>9}{'CPU µs':>9}")
    for subject in subjects:
        for case in subject.figures:
            rps, p50, p99, p999, cpu = (
                subject.median(case, f) for f in ("rps", "p50_ms", "p99_ms", "p999_ms", "cpu_us")
            )
            print(f"{subject.name:22}{case:>12}{rps:10.0f}{p50:9.3f}{p99:9.3f}{p999:9.3f}{cpu:9.1f}")
        print(f"{subject.name:22}{'':12} cold start {subject.cold_start_s:.2f} s, RSS {subject.rss_mb:.0f} MB")


def summary(constant: Subject, ours: Subject, ort: list[Figures], peers: Peers) -> dict[str, Any]:
    """The figures by which a run is judged. A peer that was not measured has no figure."""
    floor, rps = constant.median("c32", "rps"), ours.median("c32", "rps")
    batch = ours.median("batch 10000", "p50_ms") / 1e3
    taken_in = constant.median("batch 10000", "p50_ms") / 1e3
    model = {name: statistics.median(figures[name] for figures in ort) for name in ort[0]}
    measured = {subject.name: subject.median("c32", "rps") for subject in peers.subjects.values()}
    best = max(measured, key=measured.__getitem__, default=None)
    return {
        "floor_rps_32": round(floor),
        "ort_calls_per_s": round(model["calls_per_s"]),
        "rps_32": round(rps),
        "ratio_floor_32": round(rps / floor, 3),
        "cpu_ratio_floor_32": round(constant.median("c32", "cpu_us") / ours.median("c32", "cpu_us"), 3),
        "best_peer": best,
        "best_peer_rps_32": None if best is None else round(measured[best]),
        "ratio_best_peer_32": None if best is None else round(rps / measured[best], 2),
        "peers_rps_32": {name: round(found) for name, found in measured.items()},
        "peers_failed": peers.failures,
        "p99_ms_1": round(ours.median("c1", "p99_ms"), 3),
        "floor_p99_ms_1": round(constant.median("c1", "p99_ms"), 3),
        "batch_10000_ms": round(batch * 1e3, 1),
        "batch_10000_ort_ms": round(model["batch_10000_s"] * 1e3, 1),
        "batch_10000_parse_ms": round(model["parse_10000_s"] * 1e3, 1),
        "batch_10000_http_ms": round(taken_in * 1e3, 1),
        "batch_10000_ratio_ort": round(batch / (model["batch_10000_s"] + model["parse_10000_s"]), 2),
        "batch_10000_ratio_ort_http": round(batch / (model["batch_10000_s"] + model["parse_10000_s"] + taken_in), 2),
        "cold_start_s": round(ours.cold_start_s, 2),
        "rss_mb": round(ours.rss_mb),
    }


def round_of(subjects: list[Subject], peers: Peers, made: dict[int, Path], seconds: float, forward: bool) -> None:
    """One round: every case of every server, in one order or in the other."""
    ordered = subjects if forward else subjects[::-1]
    for connections in CONNECTIONS:
        for subject in ordered:
            measure(subject, f"c{connections}", made[1], connections, seconds)
        if connections == max(PEER_CONNECTIONS):
            for peer in PEERS if forward else PEERS[::-1]:
                peers.measure(peer, seconds)
    measure(subjects[0], "batch 10000", made[10_000], 1, seconds)  # what taking such a body in costs by itself
    for count in (100, 10_000):
        measure(subjects[-1], f"batch {count}", made[count], 1, seconds)


def main() -> int:
    """Run the bench; 0 when everything but a peer was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="a bundle's directory (default: the sample bundle)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each case of a round")
    parser.add_argument("--no-peers", action="store_true", help="measure the scoring server and its floors alone")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        directory = Path(temporary)
        bundle = arguments.bundle or directory / "bundle"
        if arguments.bundle is None:
            subprocess.run([sys.executable, str(HERE / "sample_bundle.py"), str(bundle)], check=True, timeout=120)
        made = bodies(bundle, directory)
        command = [sys.executable, str(HERE / "floors.py"), "constant"]
        constant = stack.enter_context(running(Subject("floor: constant"), command, "/", "/"))
        command = serve_command(bundle, directory / "log")
        ours = stack.enter_context(running(Subject("creditmodel-serve"), command, "/v1/score", "/healthz/ready"))
        expected = ask(ours.url, made[1].read_bytes())["results"][0]["probability"]
        peers = Peers(() if arguments.no_peers else PEERS, bundle, directory, expected)
        ort: list[Figures] = []
        for number in range(arguments.rounds):
            ort.append(ort_floor(bundle))
            round_of([constant, ours], peers, made, arguments.seconds, forward=number % 2 == 0)
            if sys.stderr.isatty():
                print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        table([constant, ours, *peers.subjects.values()])
        print(on_servers_core("stages.py", str(bundle)))
        for name, why in peers.failures.items():
            print(f"{name} was not measured: {why}")
        print(json.dumps(summary(constant, ours, ort, peers)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
