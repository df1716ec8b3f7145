"""The report's documents: the verdict as JSON, and as one page that opens offline with Evidently's report inside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from creditmodel_bundle.measurement import Drift
from creditmodel_drift.check import Checked
from creditmodel_drift.evidently_report import EvidentlyReport
from creditmodel_drift.insights import Insights
from creditmodel_drift.keep import Mark
from creditmodel_drift.measure import notes
from creditmodel_drift.trend import Point
from creditmodel_drift.verdict import ColumnVerdict

__all__ = ["report_json"]


def report_json(
    checked: Checked, measured: Drift, evidently: EvidentlyReport, insights: Insights, mark: Mark, created: datetime
) -> bytes:
    """Everything that the verdict was drawn from, bins and parts included, and Evidently's document beside it."""
    verdict = checked.verdict
    document: dict[str, Any] = {
        "schema_version": 1,
        "report": asdict(mark),
        "created": created.isoformat(timespec="seconds"),
        "tool": measured.tool,
        "digest": measured.digest,
        "window": measured.window.model_dump(),
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "notes": notes(checked, insights.realised),
        "rows": verdict.rows,
        "reference_rows": verdict.reference_rows,
        "min_rows": verdict.min_rows,
        "settings": asdict(verdict.settings),
        "drifted_share": verdict.drifted_share,
        "psi_max": verdict.psi_max if verdict.rows else None,
        "score": None if verdict.score is None else _column(verdict.score),
        "features": [_column(feature) for feature in verdict.features],
        "quality": _quality(insights),
        "trend": [_point(point) for point in insights.trend],
        "decisions": [asdict(decision) for decision in insights.decisions],
        "data": _data(checked),
        "evidently": _evidently(evidently),
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1, default=str).encode()


def _quality(insights: Insights) -> dict[str, Any]:
    realised, estimated = insights.realised, insights.estimated
    return {
        "realised": realised and realised.figures.model_dump(exclude={"calibration"}),
        "calibration": [asdict(band) | {"finding": band.finding} for band in realised.bands] if realised else [],
        "estimated": estimated and estimated.model_dump(),
    }


def _point(point: Point) -> dict[str, Any]:
    verdict = point.verdict
    return {
        "start": point.start.isoformat(),
        "end": point.end.isoformat(),
        "rows": verdict.rows,
        "verdict": verdict.outcome,
        "psi_max": verdict.psi_max,
        "drifted_share": verdict.drifted_share,
        "psi_score": None if verdict.score is None else verdict.score.psi,
        "psi": {feature.column.name: feature.psi for feature in verdict.features},
    }


def _column(verdict: ColumnVerdict) -> dict[str, Any]:
    table = verdict.column.table
    bins = zip(table.labels(), table.counts, verdict.counts, strict=True)
    return {
        "name": verdict.column.name,
        "drifted": verdict.drifted,
        "causes": verdict.causes,
        "psi": verdict.psi,
        "threshold": verdict.threshold,
        "sampling_threshold": verdict.noise,
        "missing_rate": verdict.missing_rate,
        "unseen_rate": verdict.unseen_rate,
        "reference_missing_rate": verdict.reference_missing_rate,
        "reference_unseen_rate": verdict.reference_unseen_rate,
        "bins": [{"bin": label, "reference": before, "current": after} for label, before, after in bins],
    }


def _data(checked: Checked) -> dict[str, Any]:
    found, census = checked.survey, checked.counts.census
    return {
        "uri": found.uri,
        "parts": {"used": len(found.usable), "empty": found.empty, "corrupt": found.corrupt, "foreign": found.foreign},
        "schema": {"missing": found.absent, "wrong_types": found.wrong_types, "extra": found.extra},
        "rows": asdict(census) | {"refusals": [{"error": e, "rows": n} for e, n in census.refusals]},
    }


def _evidently(evidently: EvidentlyReport) -> Mapping[str, Any]:
    return {
        "rows": {"reference": evidently.rows[0], "current": evidently.rows[1]},
        "left_out": evidently.left_out,
        "problem": evidently.problem,
        "report": _finite(evidently.document),
    }


def _finite(value: Any) -> Any:
    """The document with null for what JSON cannot say."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
