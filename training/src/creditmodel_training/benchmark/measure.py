"""The benchmark of two models at several batch sizes, and the document that the operator judges."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle import measurement
from creditmodel_training.benchmark.statistics import Speedup, speedup
from creditmodel_training.benchmark.timing import Loader, Round, plan, quiet, timed_rounds
from creditmodel_training.parity.rows import random_rows, reference_rows
from creditmodel_training.runners import FloatArray, Runner, load_runner, pinned_threads
from creditmodel_training.subject import Subject, feature_count

__all__ = ["BatchResult", "BenchmarkResult", "Settings", "Timing", "benchmark", "breaches", "document"]

RANDOM_ROWS = 1024
DEADLINE_FACTOR = 1.5
"""A batch size that takes this many times its share of the budget ends with fewer rounds."""

Track = Callable[[Iterable[Round], str, int], Iterable[Round]]
"""Shows progress over rounds, given what is being timed and how many are planned."""


@dataclass(frozen=True)
class Settings:
    """How to measure. The budget, in seconds, is for everything together."""

    batch_sizes: tuple[int, ...] = (1, 32, 1024)
    rounds: int = 30
    threads: int = 1
    budget: float = 10.0
    seed: int = 0
    self_check: bool = False


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call, and rows per second over all calls."""

    median: float
    p99: float
    rows_per_s: float


@dataclass(frozen=True)
class BatchResult:
    """One batch size. `noise` is what the second model measures against itself, where that was asked for."""

    batch: int
    rounds: int
    first: Timing
    second: Timing
    speedup: Speedup
    noise: Speedup | None = None


@dataclass(frozen=True)
class BenchmarkResult:
    """Every batch size, and the machine. `kinds` says what either side really was."""

    kinds: tuple[str, str]
    threads: int
    cpu: str
    batches: tuple[BatchResult, ...]

    @property
    def rounds(self) -> int:
        """The fewest rounds that any batch size had."""
        return min(batch.rounds for batch in self.batches)


def _untracked(rounds: Iterable[Round], _label: str, _total: int) -> Iterable[Round]:
    return rounds


def benchmark(subject: Subject, settings: Settings, track: Track = _untracked) -> BenchmarkResult:
    """Measure the subject's two models. Raises ModelError, ReferenceUnreadable."""
    with pinned_threads(settings.threads):
        pair = subject.runners(settings.threads)
        rows = _rows(subject, pair)
        comparisons = len(settings.batch_sizes)
        share = settings.budget / comparisons / (2 if settings.self_check else 1)
        paths = (subject.pytorch, subject.onnx)
        batches = []
        for batch in settings.batch_sizes:
            rounds = _timed(paths, batch, rows, settings, share, track)
            noise = None
            if settings.self_check:
                same = _timed((subject.onnx, subject.onnx), batch, rows, settings, share, track)
                noise = speedup([r.log_ratio() for r in same], comparisons, settings.seed)
            batches.append(_result(batch, rounds, comparisons, settings.seed, noise))
    return BenchmarkResult((pair[0].name, pair[1].name), settings.threads, cpu_name(), tuple(batches))


def document(result: BenchmarkResult, digest: str, tool: str) -> measurement.Benchmark:
    """The measurement for the operator: numbers, no verdict."""
    return measurement.Benchmark(
        tool=tool,
        digest=digest,
        rounds=result.rounds,
        threads=result.threads,
        cpu=result.cpu,
        batches=[
            measurement.Batch(
                batch=batch.batch,
                pytorch_ms=measurement.Timing(median=batch.first.median, p99=batch.first.p99),
                onnx_ms=measurement.Timing(median=batch.second.median, p99=batch.second.p99),
                onnx_rows_per_s=batch.second.rows_per_s,
                speedup=batch.speedup.ratio,
                speedup_low=batch.speedup.low,
                speedup_high=batch.speedup.high,
            )
            for batch in result.batches
        ],
    )


def breaches(result: BenchmarkResult, min_speedup: float) -> list[str]:
    """A sentence for each batch size whose speedup is not surely at the limit; none is a pass.

    The interval's lower end is what counts, as it does for the operator.
    """
    return [
        f"at batch {batch.batch} the speedup is {batch.speedup.ratio:.2f}, at least {batch.speedup.low:.2f}, "
        f"which is below {min_speedup:g}"
        for batch in result.batches
        if batch.speedup.low < min_speedup
    ]


def cpu_name() -> str:
    """The processor's name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor() or platform.machine())[:120]


def _rows(subject: Subject, pair: tuple[Runner, Runner]) -> FloatArray:
    if subject.contract is not None and subject.reference is not None:
        return reference_rows(subject.reference, subject.contract, RANDOM_ROWS, seed=0).values
    return random_rows(feature_count(subject.contract, pair), RANDOM_ROWS, seed=0).values


def _timed(
    paths: tuple[Path, Path], batch: int, rows: FloatArray, settings: Settings, share: float, track: Track
) -> list[Round]:
    """Time one pair of files at one batch size, in about `share` seconds."""
    first, second = (_loader(path, batch, rows, settings) for path in paths)
    with quiet():
        sizes = plan(first, second, settings.rounds, share)
        timed = timed_rounds(first, second, settings.rounds, sizes, settings.seed, share * DEADLINE_FACTOR)
        return list(track(timed, f"batch {batch}", settings.rounds))


def _loader(path: Path, batch: int, rows: FloatArray, settings: Settings) -> Loader:
    """Fresh instances of a model file; both sides of a round score the same rows."""

    def load(index: int) -> Callable[[], object]:
        rng = np.random.default_rng([settings.seed, batch, index])
        taken = rows[rng.integers(0, len(rows), batch)]
        return load_runner(path, settings.threads).prepared(taken)

    return load


def _result(batch: int, rounds: Sequence[Round], comparisons: int, seed: int, noise: Speedup | None) -> BatchResult:
    return BatchResult(
        batch=batch,
        rounds=len(rounds),
        first=_timing(batch, np.concatenate([block for r in rounds for block in r.first])),
        second=_timing(batch, np.concatenate([block for r in rounds for block in r.second])),
        speedup=speedup([r.log_ratio() for r in rounds], comparisons, seed),
        noise=noise,
    )


def _timing(batch: int, nanoseconds: NDArray[np.int64]) -> Timing:
    milliseconds = nanoseconds / 1e6
    return Timing(
        median=float(np.median(milliseconds)),
        p99=float(np.quantile(milliseconds, 0.99)),
        rows_per_s=float(batch * 1e3 / milliseconds.mean()),
    )
