"""Parity for a reader at a terminal, and as one JSON document."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict
from typing import Any

from creditmodel_training.parity.compare import WorstRow
from creditmodel_training.parity.measure import Limits, ParityResult, breaches

__all__ = ["as_json", "as_text"]

_WIDTH = 110


def as_text(result: ParityResult, limits: Limits) -> str:
    """An aligned table: differences per output, what they change, the worst rows, the verdict."""
    compared = result.comparison
    rtol, atol = limits.tolerance.rtol, limits.tolerance.atol
    dependent = f"{compared.batch_dependent:,} of {compared.alone:,} rows have other bits alone than in a batch"
    lines = [
        f"{'rows':<20}{result.reference_rows:,} of the reference sample and {result.edge_rows:,} made ones",
        f"{'output':<20}{'max abs diff':>14}{'max rel diff':>14}",
        *(f"  {output.name:<18}{output.max_abs:>14.3g}{output.max_rel:>14.3g}" for output in compared.outputs),
        f"{'outside tolerance':<20}{compared.outside:,} rows (rtol {rtol:g}, atol {atol:g})",
        f"{'decision flips':<20}{compared.decision_flips:,}",
        f"{'reasons differ':<20}{compared.reason_diffs:,}",
        f"{'not finite':<20}{compared.not_finite:,}",
        f"{'batch-dependent':<20}{dependent}",
        "worst rows",
        *(line for row in compared.worst[:3] for line in _worst(row, result.features)),
    ]
    found = breaches(compared, limits)
    lines.append("verdict             " + ("breach: " + "; ".join(found) if found else "within the limits"))
    return "\n".join(lines)


def _worst(row: WorstRow, features: tuple[str, ...]) -> list[str]:
    values = " ".join(f"{name}={value:.9g}" for name, value in zip(features, row.values, strict=True))
    return [
        f"  {row.label}: {row.output} {row.pytorch:.9g} in PyTorch, {row.onnx:.9g} in ONNX, {_margin(row.excess)}",
        *textwrap.wrap(values, _WIDTH, initial_indent="    ", subsequent_indent="    "),
    ]


def _margin(excess: float) -> str:
    if math.isinf(excess):
        return "not finite"
    return f"{excess:.3g} over the tolerance" if excess > 0 else f"{-excess:.3g} inside the tolerance"


def as_json(result: ParityResult, limits: Limits) -> dict[str, Any]:
    """All that was measured, the limits and the breaches. Numbers that JSON cannot say are null."""
    document: dict[str, Any] = asdict(result.comparison) | {
        "rows": result.reference_rows,
        "edge_rows": result.edge_rows,
        "max_abs_diff": result.comparison.max_abs_diff,
        "max_rel_diff": result.comparison.max_rel_diff,
        "worst": [_worst_document(row, result.features) for row in result.comparison.worst],
        "limits": asdict(limits),
        "breaches": breaches(result.comparison, limits),
    }
    return {key: _finite(value) for key, value in document.items()}


def _worst_document(row: WorstRow, features: tuple[str, ...]) -> dict[str, Any]:
    return asdict(row) | {"values": dict(zip(features, row.values, strict=True))}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
