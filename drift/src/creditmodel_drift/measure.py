"""The check's measurement: what the operator reads, in at most measurement.MAX_BYTES bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from creditmodel_bundle.errors import MeasurementError
from creditmodel_bundle.measurement import Drift, DriftFeature, Reports, Window, dump
from creditmodel_drift.check import Checked
from creditmodel_drift.insights import Insights
from creditmodel_drift.quality import Realised
from creditmodel_drift.verdict import PSI_DIGITS, ColumnVerdict

__all__ = ["measurement", "notes"]

_MAX_REASON = 600
_MAX_NAMED = 20


def measurement(
    checked: Checked,
    tool: str,
    digest: str | None,
    reports: Mapping[str, str],
    insights: Insights,
    problem: str | None = None,
) -> Drift:
    """The whole measurement, with as many features as fit: drifted ones first, by falling PSI.

    `problem` is something that went wrong beside the verdict; it is put before the reason.
    """
    sentences = [problem] if problem else []
    reason = "; ".join([*sentences, checked.verdict.reason, *notes(checked, insights.realised)])
    for named in (_MAX_NAMED, 12, 8, 5, 3, 1, 0):
        document = _document(checked, tool, digest, reports, insights, named, reason)
        try:
            dump(document)
        except MeasurementError:
            continue
        return document
    raise AssertionError("a measurement without features fits")


def notes(checked: Checked, outcomes: Realised | None = None) -> list[str]:
    """What a reader must know about the data and the labels beside the verdict, one sentence each."""
    found, census = checked.survey, checked.counts.census
    sentences = [
        f"{len(parts)} {word} {'part' if len(parts) == 1 else 'parts'} left out ({_first(parts)})"
        for word, parts in (("corrupt", found.corrupt), ("foreign", found.foreign))
        if parts
    ]
    counted = (
        (census.refused, "requests refused by the contract or failed"),
        (census.duplicates, "duplicate rows counted once"),
        (census.other_revision, "rows of other revisions left out"),
        (census.untimed, "rows left out because no time can be read from their _time"),
        (census.future, "rows dated after this check (does the clock of what scores run ahead?)"),
    )
    sentences += [f"{rows:,} {what}" for rows, what in counted if rows]
    if found.extra:
        named = ", ".join(name or "(no name)" for name in found.extra[:5])
        sentences.append(f"columns that the model does not know: {named}")
    return [*sentences, *(outcomes.notes if outcomes is not None else ())]


def _document(
    checked: Checked,
    tool: str,
    digest: str | None,
    reports: Mapping[str, str],
    insights: Insights,
    named: int,
    reason: str,
) -> Drift:
    verdict = checked.verdict
    return Drift(
        tool=tool,
        digest=digest,
        window=_window(checked),
        rows=verdict.rows,
        reference_rows=verdict.reference_rows,
        verdict=verdict.outcome,
        reason=reason if len(reason) <= _MAX_REASON else reason[: _MAX_REASON - 1] + "…",
        psi_max=verdict.psi_max if verdict.rows else None,
        psi_score=_rounded(verdict.score.psi) if verdict.score is not None and verdict.rows else None,
        drifted_share=verdict.drifted_share if verdict.rows else None,
        drifted_features=[feature.column.name for feature in verdict.drifted[:named]],
        features=[_feature(feature) for feature in verdict.features[:named]] if verdict.rows else [],
        quality=insights.realised and insights.realised.figures,
        estimated=insights.estimated,
        report=Reports.model_validate(dict(reports)),
    )


def _feature(feature: ColumnVerdict) -> DriftFeature:
    return DriftFeature(
        name=feature.column.name,
        psi=_rounded(feature.psi),
        threshold=_rounded(feature.threshold),
        missing_rate=_rounded(feature.missing_rate),
        unseen_rate=_rounded(feature.unseen_rate),
    )


def _window(checked: Checked) -> Window:
    if checked.period is not None:
        return Window(start=_time(checked.period.start or checked.counts.first), end=_time(checked.period.end))
    return Window(start=_time(checked.counts.first), end=_time(checked.counts.last))


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _first(parts: Mapping[str, str]) -> str:
    name, why = next(iter(parts.items()))
    return f"{name[:120]} {why[:80]}" + (", …" if len(parts) > 1 else "")


def _rounded(value: float) -> float:
    return round(value, PSI_DIGITS)
