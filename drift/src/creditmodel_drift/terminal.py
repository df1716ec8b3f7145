"""The verdict for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from creditmodel_bundle.measurement import Calibration, Estimate, Quality
from creditmodel_drift.check import Checked
from creditmodel_drift.insights import Insights
from creditmodel_drift.measure import notes
from creditmodel_drift.verdict import ColumnVerdict, Outcome, Verdict

__all__ = ["HEADLINE", "render"]

HEADLINE: dict[Outcome, str] = {"drift": "Drift", "no_drift": "No drift", "inconclusive": "Inconclusive"}

_SHOWN = 15


def render(checked: Checked, insights: Insights, reports: Mapping[str, str]) -> str:
    """Headline, table of columns by falling PSI, notes on the data, quality and where the reports lie."""
    verdict = checked.verdict
    lines = [f"{HEADLINE[verdict.outcome]}: {verdict.reason}"]
    lines.append(f"{verdict.rows:,} rows against {verdict.reference_rows:,} reference rows")
    if verdict.rows:
        lines += ["", *_table(verdict)]
    lines += [f"note: {note}" for note in notes(checked, insights.realised)]
    if insights.realised is not None:
        lines += _realised(insights.realised.figures)
    if insights.estimated is not None:
        expected = insights.estimated
        lines.append(
            f"estimated quality, if the probabilities are right: {_figures(expected)}, {expected.bad_rate:.1%} bad"
        )
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


def _realised(quality: Quality) -> list[str]:
    of = "" if quality.matured is None else f"{quality.matured:,} "
    lines = [f"realised quality on the labels of {quality.rows:,} of {of}matured rows: {_figures(quality)}"]
    return lines if quality.calibration is None else [*lines, _calibration(quality.calibration)]


def _calibration(found: Calibration) -> str:
    return (
        f"calibration: probabilities {found.mean_probability:.2%} in the mean, {found.bad_rate:.2%} went bad; of "
        f"{found.bands} bands {found.too_low} too low, {found.too_high} too high"
    )


def _figures(quality: Quality | Estimate) -> str:
    figures = (("AUC", quality.auc), ("KS", quality.ks), ("Gini", quality.gini), ("Brier", quality.brier))
    return ", ".join(f"{name} {value:.4f}" for name, value in figures if value is not None) or "not defined"
