"""The parity gate: the ONNX graph is the same model as the PyTorch one."""

from __future__ import annotations

from typing import Any

from creditmodel_bundle.measurement import Measurement, Parity
from creditmodel_operator import reasons
from creditmodel_operator.api.spec import Parity as Limits
from creditmodel_operator.api.status import Number
from creditmodel_operator.gates.base import Gate, Judgement, Subject, Verdict
from creditmodel_operator.narrow import expect

__all__ = ["PARITY"]


def _measured(subject: Subject) -> Any:
    return {"uri": subject.spec.model.uri, "digest": subject.digest, "rows": subject.spec.gates.parity.rows}


def _command(subject: Subject) -> list[str]:
    model, rows = subject.spec.model, subject.spec.gates.parity.rows
    return ["creditmodel-parity", "--bundle", model.uri, "--digest", str(subject.digest), "--rows", str(rows)]


def _judge(subject: Subject, found: Measurement | None) -> Judgement:
    measurement = expect(Parity, found)
    limits = subject.spec.gates.parity
    breaches = _breaches(measurement, limits)
    seen = f"{measurement.rows:,} reference rows and {measurement.edge_rows:,} edge rows"
    if breaches:
        verdict, reason, message = Verdict.FAILED, reasons.LIMIT_EXCEEDED, f"{'; '.join(breaches)} ({seen})"
    else:
        verdict, reason = Verdict.PASSED, reasons.PASSED
        message = (
            f"largest difference {measurement.max_abs_diff:.3g} within atol {limits.atol:g} + rtol "
            f"{limits.rtol:g}·|pytorch|, "
            f"{measurement.decision_flips} decisions flipped, at most {limits.max_decision_flips} ({seen})"
        )
    return Judgement(verdict, reason, message, f"{measurement.max_abs_diff:.1e}", _numbers(measurement, limits))


def _breaches(measurement: Parity, limits: Limits) -> list[str]:
    excess = measurement.excess(limits.rtol, limits.atol)
    found = []
    if measurement.not_finite:
        found.append(f"{measurement.not_finite} outputs are not finite, limit 0")
    if not excess <= 0:
        found.append(
            f"the worst element differs by {excess:.3g} more than atol {limits.atol:g} + rtol "
            f"{limits.rtol:g}·|pytorch| allows "
            f"(largest difference {measurement.max_abs_diff:.3g})"
        )
    if measurement.decision_flips > limits.max_decision_flips:
        found.append(f"{measurement.decision_flips} decisions flip, limit {limits.max_decision_flips}")
    return found


def _numbers(measurement: Parity, limits: Limits) -> tuple[Number, ...]:
    return (
        Number(name="excess", value=measurement.excess(limits.rtol, limits.atol), limit=0),
        Number(name="maxAbsDiff", value=measurement.max_abs_diff),
        Number(name="maxRelDiff", value=measurement.max_rel_diff),
        Number(name="decisionFlips", value=measurement.decision_flips, limit=limits.max_decision_flips),
        Number(name="reasonDiffs", value=measurement.reason_diffs),
        Number(name="notFinite", value=measurement.not_finite, limit=0),
        Number(name="rows", value=measurement.rows + measurement.edge_rows),
    )


PARITY = Gate(name="parity", condition="ParityPassed", judge=_judge, measured=_measured, command=_command)
