"""The benchmark gate: ONNX Runtime is as much faster than PyTorch as spec asks for, at every batch size."""

from __future__ import annotations

from typing import Any

from creditmodel_bundle.measurement import Batch, Benchmark, Measurement
from creditmodel_operator import reasons
from creditmodel_operator.api.spec import Benchmark as Limits
from creditmodel_operator.api.status import Number
from creditmodel_operator.gates.base import Gate, Judgement, Subject, Verdict
from creditmodel_operator.narrow import expect

__all__ = ["BENCHMARK"]


def _measured(subject: Subject) -> Any:
    limits = subject.spec.gates.benchmark
    return {
        "uri": subject.spec.model.uri,
        "digest": subject.digest,
        "batchSizes": sorted(limits.batch_sizes),
        "rounds": limits.rounds,
    }


def _command(subject: Subject) -> list[str]:
    limits = subject.spec.gates.benchmark
    return [
        "creditmodel-benchmark",
        *("--bundle", subject.spec.model.uri),
        *("--digest", str(subject.digest)),
        *("--batch-sizes", ",".join(str(size) for size in sorted(limits.batch_sizes))),
        *("--rounds", str(limits.rounds)),
    ]


def _judge(subject: Subject, found: Measurement | None) -> Judgement:
    measurement = expect(Benchmark, found)
    limits = subject.spec.gates.benchmark
    missing = set(limits.batch_sizes) - {batch.batch for batch in measurement.batches}
    if missing:
        return Judgement(
            Verdict.ERROR, reasons.MALFORMED_MEASUREMENT, f"batch sizes {sorted(missing)} were not measured"
        )
    verdict, message = _worst(measurement.batches, limits)
    reason = {
        Verdict.PASSED: reasons.PASSED,
        Verdict.FAILED: reasons.LIMIT_EXCEEDED,
        Verdict.INCONCLUSIVE: reasons.INCONCLUSIVE,
    }[verdict]
    slowest = min(batch.speedup for batch in measurement.batches)
    return Judgement(verdict, reason, message, f"{slowest:.1f}x", _numbers(measurement, limits))


def _worst(batches: list[Batch], limits: Limits) -> tuple[Verdict, str]:
    """Failed at one batch size is failed; else unclear at one is inconclusive; else passed."""
    failed = [text for batch in batches for text in _failures(batch, limits)]
    if failed:
        return Verdict.FAILED, "; ".join(failed)
    unclear = [_interval(batch) for batch in batches if batch.speedup_low < limits.min_speedup]
    if unclear:
        return Verdict.INCONCLUSIVE, f"{'; '.join(unclear)}: the interval contains the limit {limits.min_speedup:g}x"
    return Verdict.PASSED, f"{'; '.join(_interval(batch) for batch in batches)}, limit {limits.min_speedup:g}x"


def _failures(batch: Batch, limits: Limits) -> list[str]:
    found = []
    if batch.speedup_high < limits.min_speedup:
        found.append(f"{_interval(batch)}, limit {limits.min_speedup:g}x")
    if limits.max_p99_milliseconds is not None and batch.onnx_ms.p99 > limits.max_p99_milliseconds:
        found.append(f"batch {batch.batch}: p99 {batch.onnx_ms.p99:.3g} ms, limit {limits.max_p99_milliseconds:g} ms")
    return found


def _interval(batch: Batch) -> str:
    return f"batch {batch.batch}: speedup {batch.speedup:.2f}x [{batch.speedup_low:.2f}, {batch.speedup_high:.2f}]"


def _numbers(measurement: Benchmark, limits: Limits) -> tuple[Number, ...]:
    return tuple(number for batch in measurement.batches for number in _numbers_of(batch, limits))


def _numbers_of(batch: Batch, limits: Limits) -> list[Number]:
    tail = f"@{batch.batch}"
    return [
        Number(name=f"speedup{tail}", value=batch.speedup, limit=limits.min_speedup),
        Number(name=f"speedupLow{tail}", value=batch.speedup_low),
        Number(name=f"speedupHigh{tail}", value=batch.speedup_high),
        Number(name=f"p99Milliseconds{tail}", value=batch.onnx_ms.p99, limit=limits.max_p99_milliseconds),
        Number(name=f"pytorchP99Milliseconds{tail}", value=batch.pytorch_ms.p99),
        Number(name=f"rowsPerSecond{tail}", value=batch.onnx_rows_per_s),
    ]


BENCHMARK = Gate(name="benchmark", condition="BenchmarkPassed", judge=_judge, measured=_measured, command=_command)
