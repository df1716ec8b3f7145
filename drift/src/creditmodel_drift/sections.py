"""Sections of the page beside the verdict's own: PSI over time, decisions at the cut-offs, quality."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from creditmodel_bundle.measurement import Estimate, Quality
from creditmodel_drift.calibration import Band
from creditmodel_drift.decisions import Decision
from creditmodel_drift.quality import Realised
from creditmodel_drift.trend import Point
from creditmodel_drift.verdict import Verdict

__all__ = ["decisions_section", "quality_section", "trend_section"]

_COLOURS = ("#1c2733", "#c4302b", "#b7791f", "#1f5f99", "#2e7d4f", "#7b4fa3")
_WIDE, _TALL, _LEFT = 620, 150, 40


def trend_section(points: Sequence[Point], verdict: Verdict) -> str:
    """PSI of the score and of the features that moved most, one dot a span of time; hollow where rows are too few."""
    if len(points) < 2:
        return ""
    names = [column.column.name for column in ([verdict.score] if verdict.score else []) + list(verdict.features[:5])]
    lines = {name: [_psi(point, name) for point in points] for name in names}
    top = max(1.1 * verdict.settings.alarm_psi, *(value or 0.0 for line in lines.values() for value in line))
    marks = "".join(_line(line, points, top, colour) for line, colour in zip(lines.values(), _COLOURS, strict=False))
    keys = "".join(
        f"<i class='key' style='background:{colour}'></i>{escape('score' if name.startswith('_') else name)}"
        for name, colour in zip(lines, _COLOURS, strict=False)
    )
    limits = "".join(_limit(value, top) for value in (verdict.settings.psi, verdict.settings.alarm_psi) if value <= top)
    days = "".join(
        f"<text x='{_x(i, len(points)):.1f}' y='{_TALL + 24}' text-anchor='middle'>{points[i].start:%d %b %H:%M}</text>"
        for i in (0, len(points) - 1)
    )
    return (
        "<section><h2>PSI over time</h2><p class='muted'>Each dot is a span of time as long as the window; a hollow "
        f"one has too few applicants to tell a shift from chance. Dashed: the limits.{keys}</p>"
        f"<svg viewBox='0 0 {_WIDE + 2 * _LEFT} {_TALL + 32}' role='img'>{limits}{marks}{days}</svg></section>"
    )


def _psi(point: Point, name: str) -> float | None:
    columns = (*point.verdict.features, *([point.verdict.score] if point.verdict.score else []))
    return next((column.psi for column in columns if column.column.name == name), None)


def _x(i: int, points: int) -> float:
    return _LEFT + _WIDE * i / max(points - 1, 1)


def _y(value: float, top: float) -> float:
    return 10 + _TALL * (1 - value / top)


def _line(line: Sequence[float | None], points: Sequence[Point], top: float, colour: str) -> str:
    places = [(_x(i, len(line)), _y(psi, top), i, psi) for i, psi in enumerate(line) if psi is not None]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in places)
    dots = "".join(
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' stroke='{colour}' "
        f"fill='{'#fff' if points[i].verdict.outcome == 'inconclusive' else colour}'>"
        f"<title>{points[i].start:%Y-%m-%d %H:%M}: PSI {psi:.3f}, {points[i].verdict.rows:,} applicants</title>"
        "</circle>"
        for x, y, i, psi in places
    )
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'/>{dots}"


def _limit(value: float, top: float) -> str:
    y = _y(value, top)
    return (
        f"<line x1='{_LEFT}' x2='{_LEFT + _WIDE}' y1='{y:.1f}' y2='{y:.1f}' stroke='#9fb0c3' stroke-dasharray='4'/>"
        f"<text x='4' y='{y + 3:.1f}'>{value:g}</text>"
    )


def decisions_section(decisions: Sequence[Decision]) -> str:
    """Shares of the decisions before and now, and what the shift swaps at each cut-off."""
    if not decisions:
        return ""
    rows = "".join(_decision(decision) for decision in decisions)
    return (
        "<section><h2>Decisions at the cut-offs</h2><p class='muted'>The same cut-offs give today's applicants other "
        "decisions than the reference's where scores have shifted. Swapped: the share of today's applicants who are "
        "beyond the cut-off now (+), or no longer (−), beside what the reference's share would be; the last column is "
        "the probability of default at which a cut-off would give the reference's share again.</p>"
        "<table><tr><th>decision<th>from a PD of<th>reference<th>current<th>swapped<th>same share from a PD of</tr>"
        f"{rows}</table></section>"
    )


def _decision(decision: Decision) -> str:
    swapped = "" if decision.swapped is None else f"{decision.swapped:+.1%}"
    same = "" if decision.same_share_at is None else f"{decision.same_share_at:.3f}"
    return (
        f"<tr><td>{escape(decision.name)}<td>{decision.min_probability:g}<td>{decision.reference_share:.1%}"
        f"<td>{decision.current_share:.1%}<td>{swapped}<td>{same}</tr>"
    )


def quality_section(realised: Realised | None, estimated: Estimate | None) -> str:
    """Realised quality with calibration by band, and apart from it the estimate from probabilities alone."""
    sections = ""
    if realised is not None:
        sections += (
            f"<section><h2>Realised quality</h2><p>{realised.figures.rows:,} applicants whose outcome is known by now."
            f"</p>{_figures(realised.figures)}{_calibration(realised.bands)}</section>"
        )
    if estimated is not None:
        sections += (
            "<section><h2>Estimated quality</h2><p>What to expect of this window's "
            f"{estimated.rows:,} applicants, whose outcomes are not known, if the model's probabilities are "
            f"right: {estimated.bad_rate:.1%} bad ones. It shows what another mix of applicants does, and cannot show "
            f"that the model has become wrong.</p>{_figures(estimated)}</section>"
        )
    return sections


def _figures(quality: Quality | Estimate) -> str:
    figures = (("AUC", quality.auc), ("KS", quality.ks), ("Gini", quality.gini), ("Brier", quality.brier))
    cells = "".join(f"<td>{name} {'not defined' if value is None else f'{value:.4f}'}" for name, value in figures)
    return (
        f"<table><tr>{cells}</tr></table><p class='muted'>AUC: of a good and a bad applicant, how often the bad one "
        "has the higher probability (0.5 is guessing, 1 is perfect). KS and Gini say the same on other scales. Brier: "
        "the mean squared error of the probabilities, lower is better.</p>"
    )


def _calibration(bands: Sequence[Band]) -> str:
    if not bands:
        return ""
    rows = "".join(
        f"<tr{' class=drifted' if band.finding else ''}><td>{band.lowest:.3f} to {band.highest:.3f}<td>{band.rows:,}"
        f"<td>{band.mean_probability:.2%}<td>{band.bad_rate:.2%}<td>{band.lower:.2%} to {band.upper:.2%}"
        f"<td>{band.p_value:.3f}<td>{band.finding and f'probabilities are {band.finding}'}</tr>"
        for band in bands
    )
    return (
        "<h3>Calibration by band</h3><table><tr><th>probability<th>applicants<th>mean<th>bad<th>95 % interval"
        f"<th>Jeffreys p<th>finding</tr>{rows}</table>"
    )
