"""The parity measurement of two models: which rows, compared how, and the document that the operator judges."""

from __future__ import annotations

from dataclasses import dataclass, field

from creditmodel_bundle import measurement
from creditmodel_training.parity.compare import Comparison, Tolerance, compare
from creditmodel_training.parity.rows import (
    Rows,
    cutoff_rows,
    edge_rows,
    example_row,
    fuzz_rows,
    random_rows,
    reference_rows,
)
from creditmodel_training.runners import Runner
from creditmodel_training.subject import Subject, feature_count

__all__ = ["Limits", "ParityResult", "breaches", "document", "measure"]

RANDOM_ROWS = 4096


@dataclass(frozen=True)
class Limits:
    """What `--fail-on-breach` judges by; the defaults are the operator's."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    max_decision_flips: int = 0


@dataclass(frozen=True)
class ParityResult:
    """A comparison over `reference_rows` rows of the sample and `edge_rows` generated ones."""

    reference_rows: int
    edge_rows: int
    features: tuple[str, ...]
    comparison: Comparison


def measure(
    subject: Subject, rows: int | None = None, seed: int = 0, tolerance: Tolerance | None = None
) -> ParityResult:
    """Compare the subject's two models over at most `rows` reference rows and all edge rows.

    Raises ModelError, ReferenceUnreadable.
    """
    pytorch, onnx = subject.runners()
    width = feature_count(subject.contract, (pytorch, onnx))
    real, made = _rows(subject, pytorch, width, rows, seed)
    result = compare(pytorch, onnx, Rows.join([*real, *made]), subject.contract, tolerance, seed)
    return ParityResult(sum(map(len, real)), sum(map(len, made)), _names(subject, width), result)


def document(result: ParityResult, digest: str, tool: str) -> measurement.Parity:
    """The measurement for the operator: numbers, no verdict."""
    compared = result.comparison
    return measurement.Parity(
        tool=tool,
        digest=digest,
        rows=result.reference_rows,
        edge_rows=result.edge_rows,
        max_abs_diff=compared.max_abs_diff,
        max_rel_diff=compared.max_rel_diff,
        envelope=list(compared.envelope),
        decision_flips=compared.decision_flips,
        reason_diffs=compared.reason_diffs,
        not_finite=compared.not_finite,
    )


def breaches(comparison: Comparison, limits: Limits) -> list[str]:
    """A sentence for each limit that is exceeded; none is a pass. Reasons that differ are reported, not judged."""
    found = []
    if comparison.outside:
        rtol, atol = limits.tolerance.rtol, limits.tolerance.atol
        found.append(f"{comparison.outside} rows differ by more than rtol {rtol:g}, atol {atol:g}")
    if comparison.decision_flips > limits.max_decision_flips:
        found.append(f"{comparison.decision_flips} decisions flip, {limits.max_decision_flips} are allowed")
    if comparison.not_finite:
        found.append(f"{comparison.not_finite} rows have an output that is not finite")
    return found


def _rows(subject: Subject, pytorch: Runner, width: int, limit: int | None, seed: int) -> tuple[list[Rows], list[Rows]]:
    """Real rows and made ones. Without a contract nothing is known of a feature, so the rows are random numbers."""
    contract = subject.contract
    if contract is None:
        return [], [random_rows(width, limit or RANDOM_ROWS, seed)]
    if subject.reference is None:
        base = example_row(contract)
        return [], [edge_rows(contract, base), fuzz_rows(contract, base[None, :], seed=seed)]
    real = reference_rows(subject.reference, contract, limit, seed)
    made = [edge_rows(contract, real.values[0]), fuzz_rows(contract, real.values, seed=seed)]
    if "probability" in pytorch.outputs:
        made.append(cutoff_rows(contract, real.values, lambda rows: pytorch.run(rows)["probability"].reshape(-1), seed))
    return [real], made


def _names(subject: Subject, width: int) -> tuple[str, ...]:
    if subject.contract is None:
        return tuple(f"feature {index}" for index in range(width))
    return tuple(feature.name for feature in subject.contract.features)
