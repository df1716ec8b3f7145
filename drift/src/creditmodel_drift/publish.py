"""Reports made and stored: each a whole file under its URI, or the one that was there before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from creditmodel_bundle.errors import BundleError
from creditmodel_bundle.measurement import Drift
from creditmodel_bundle.storage import local_path, write_bytes
from creditmodel_drift.baseline import Baseline, Column
from creditmodel_drift.check import Checked
from creditmodel_drift.errors import BadInput, EngineFailed, ReportFailed
from creditmodel_drift.evidently_report import EvidentlyReport, evidently_report
from creditmodel_drift.insights import Insights
from creditmodel_drift.keep import Mark, prune
from creditmodel_drift.page import page
from creditmodel_drift.reference import Reference
from creditmodel_drift.report import report_json

__all__ = ["Destinations", "clean_up", "publish"]


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where reports go, how large and which the sample is that Evidently gets, and how many checks' reports stay."""

    html: str | None = None
    json: str | None = None
    sample_rows: int = 50_000
    seed: int = 0
    keep: int | None = None

    @property
    def uris(self) -> dict[str, str]:
        """The URI of each report asked for. Raises BadInput for one that cannot be written to."""
        given = {"html": self.html, "json": self.json}
        return {kind: _uri(place) for kind, place in given.items() if place is not None}


def publish(
    destinations: Destinations,
    checked: Checked,
    measured: Drift,
    reference: Reference,
    insights: Insights,
    now: datetime,
) -> None:
    """Make and store the reports that are asked for. Raises ReportFailed."""
    uris, baseline = destinations.uris, reference.baseline
    if not uris:
        return
    evidently = _evidently(destinations, checked, reference)
    marks = {kind: _mark(uri, baseline, now) for kind, uri in uris.items()}
    try:
        if "html" in uris:
            content = page(baseline.name, checked, measured, evidently, insights, marks["html"], now)
            write_bytes(uris["html"], content)
        if "json" in uris:
            write_bytes(uris["json"], report_json(checked, measured, evidently, insights, marks["json"], now))
    except (BundleError, OSError) as e:
        raise ReportFailed(f"the report could not be stored: {e}") from e


def clean_up(destinations: Destinations, baseline: Baseline) -> list[str]:
    """Remove what `keep` does not keep; returns what could not be looked at, one sentence a directory."""
    problems: list[str] = []
    for directory, uri in {uri.rpartition("/")[0]: uri for uri in destinations.uris.values()}.items():
        try:
            prune(uri, baseline.model, destinations.keep or 0)
        except (BundleError, OSError) as e:
            problems.append(f"older reports in {directory} could not be removed: {e}")
    return problems


def _mark(uri: str, baseline: Baseline, now: datetime) -> Mark:
    return Mark(baseline.model, now.astimezone(UTC).isoformat(timespec="microseconds"), unquote(uri.rpartition("/")[2]))


def _evidently(destinations: Destinations, checked: Checked, reference: Reference) -> EvidentlyReport:
    """Evidently's report on a sample of both; without current rows or readable reference rows it says so instead."""
    nothing = EvidentlyReport(None, None, (0, 0), {}, "there are no rows to compare")
    if checked.scan is None or not checked.verdict.rows or not reference.rows.usable:
        return nothing
    rows, seed = destinations.sample_rows, destinations.seed
    try:
        current = checked.scan.sample(rows, seed)
        before = reference.scan().sample(rows, seed)
    except EngineFailed as e:
        return EvidentlyReport(None, None, (0, 0), {}, f"the sample could not be read: {e}"[:300])
    return evidently_report(before, current, _worst_first(checked, reference))


def _worst_first(checked: Checked, reference: Reference) -> list[Column]:
    """The score and the features as the verdict has them, then what it has not judged."""
    verdict = checked.verdict
    judged = [found.column for found in (*([verdict.score] if verdict.score else []), *verdict.features)]
    names = {column.name for column in judged}
    return [*judged, *(column for column in reference.baseline.columns if column.name not in names)]


def _uri(place: str) -> str:
    if urlsplit(place).scheme in ("http", "https"):
        raise BadInput(f"{place!r}: a report goes to a path, file://, s3:// or gs://")
    try:
        path = local_path(place)
    except BundleError as e:
        raise BadInput(str(e)) from e
    return place if path is None else path.as_uri()
