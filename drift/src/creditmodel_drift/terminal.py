"""The verdict for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from creditmodel_bundle.measurement import Quality
from creditmodel_drift.check import Checked
from creditmodel_drift.measure import notes
from creditmodel_drift.quality import Realised
from creditmodel_drift.verdict import ColumnVerdict, Outcome, Verdict

__all__ = ["HEADLINE", "render"]

HEADLINE: dict[Outcome, str] = {"drift": "Drift", "no_drift": "No drift", "inconclusive": "Inconclusive"}

_SHOWN = 15


def render(checked: Checked, outcomes: Realised | None, reports: Mapping[str, str]) -> str:
    """Headline, table of columns by falling PSI, notes on the data, quality and where the reports lie."""
    verdict = checked.verdict
    lines = [f"{HEADLINE[verdict.outcome]}: {verdict.reason}"]
    lines.append(f"{verdict.rows:,} rows against {verdict.reference_rows:,} reference rows")
    if verdict.rows:
        lines += ["", *_table(verdict)]
    lines += [f"note: {note}" for note in notes(checked, outcomes)]
    if outcomes is not None:
        lines.append(_quality(outcomes.figures))
    lines += [f"{kind} report: {uri}" for kind, uri in reports.items()]
    return "\n".join(lines)


def _table(verdict: Verdict) -> list[str]:
    features = verdict.features[: max(_SHOWN, len(verdict.drifted))]
    shown = ([verdict.score] if verdict.score is not None else []) + list(features)
    width = max(len(_name(column)) for column in shown)
    lines = [f"{'':{width}}     PSI  threshold  missing  unseen"]
    lines += [
        f"{_name(c):{width}}  {c.psi:6.3f}  {c.threshold:9.3f}  {_percent(c.missing_rate)}  {_percent(c.unseen_rate)}"
        + (f"  drifted: {', '.join(c.causes)}" if c.drifted else "")
        for c in shown
    ]
    hidden = len(verdict.features) - len(features)
    return [*lines, f"{hidden} more not shown: not drifted, smaller PSI"] if hidden > 0 else lines


def _name(verdict: ColumnVerdict) -> str:
    return "score" if verdict.column.name.startswith("_") else verdict.column.name


def _percent(rate: float) -> str:
    return f"{100 * rate:5.1f} %"


def _quality(quality: Quality) -> str:
    figures = (("AUC", quality.auc), ("KS", quality.ks), ("Gini", quality.gini), ("Brier", quality.brier))
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures if value is not None)
    return f"quality on {quality.rows:,} matured rows: {shown or 'not defined'}"
