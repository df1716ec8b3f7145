"""The benchmark for a reader at a terminal, and as one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from creditmodel_training.benchmark.measure import BatchResult, BenchmarkResult, breaches
from creditmodel_training.benchmark.statistics import CONFIDENCE, Speedup

__all__ = ["as_json", "as_text"]


def as_text(result: BenchmarkResult, min_speedup: float | None) -> str:
    """An aligned table, one line a batch size; then the verdict where there is a limit."""
    first, second = result.kinds
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    head = f"{'batch':>6}{'median ms':>21}{'p99 ms':>22}{'rows/s':>22}{'speedup':>9}  {CONFIDENCE:.0%} interval"
    sides = f"{'':>6}{first:>12}{second:>10}{first:>12}{second:>10}{first:>12}{second:>10}"
    lines = [f"{result.cpu}, {threads}, {result.rounds} rounds", head, sides, *map(_line, result.batches)]
    lines += [_noise(batch.batch, batch.noise) for batch in result.batches if batch.noise is not None]
    if min_speedup is not None:
        found = breaches(result, min_speedup)
        lines.append("breach: " + "; ".join(found) if found else f"every speedup is surely at least {min_speedup:g}")
    return "\n".join(lines)


def _line(batch: BatchResult) -> str:
    a, b = batch.first, batch.second
    return (
        f"{batch.batch:>6}{a.median:>12.4f}{b.median:>10.4f}{a.p99:>12.4f}{b.p99:>10.4f}"
        f"{a.rows_per_s:>12,.0f}{b.rows_per_s:>10,.0f}{batch.speedup.ratio:>9.2f}  {_interval(batch.speedup)}"
    )


def _noise(batch: int, noise: Speedup) -> str:
    verdict = "contains 1" if noise.low <= 1 <= noise.high else "misses 1: this machine is too uneven for small ratios"
    return f"self-check at batch {batch}: ratio {noise.ratio:.3f}, interval {_interval(noise)} {verdict}"


def _interval(value: Speedup) -> str:
    return f"[{value.low:.3f}, {value.high:.3f}]"


def as_json(result: BenchmarkResult, min_speedup: float | None) -> dict[str, Any]:
    """All that was measured, the limit and the breaches."""
    return {
        "cpu": result.cpu,
        "threads": result.threads,
        "rounds": result.rounds,
        "compared": list(result.kinds),
        "batches": [_document(batch) for batch in result.batches],
        "limits": {"min_speedup": min_speedup},
        "breaches": breaches(result, min_speedup) if min_speedup is not None else [],
    }


def _document(batch: BatchResult) -> dict[str, Any]:
    first, second = asdict(batch.first), asdict(batch.second)
    return {
        "batch": batch.batch,
        "rounds": batch.rounds,
        "pytorch_ms": {"median": first["median"], "p99": first["p99"]},
        "onnx_ms": {"median": second["median"], "p99": second["p99"]},
        "pytorch_rows_per_s": first["rows_per_s"],
        "onnx_rows_per_s": second["rows_per_s"],
        "speedup": batch.speedup.ratio,
        "speedup_low": batch.speedup.low,
        "speedup_high": batch.speedup.high,
        "self_check": None if batch.noise is None else asdict(batch.noise) | {"width": batch.noise.width},
    }
