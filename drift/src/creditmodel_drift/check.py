"""One drift check: find, look, count, judge. A broken part is named and left out, and the rest counted again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from creditmodel_drift.baseline import Baseline
from creditmodel_drift.engine import Engine
from creditmodel_drift.errors import NoUsableData
from creditmodel_drift.parts import Survey, find
from creditmodel_drift.scan import Census, Counts, Scan, around_broken_parts, open_scan
from creditmodel_drift.verdict import Settings, Verdict, judge
from creditmodel_drift.window import Period

__all__ = ["Checked", "check"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A verdict with everything it was drawn from. `scan` is None when there was no row to read."""

    verdict: Verdict
    counts: Counts
    survey: Survey
    scan: Scan | None
    period: Period | None


def check(
    engine: Engine,
    baseline: Baseline,
    uri: str,
    settings: Settings,
    period: Period | None = None,
    revision: str | None = None,
) -> Checked:
    """Check the current data at a URI. Raises NoUsableData when files are there and none of them can be used."""

    def judged(found: Survey) -> Checked:
        if not found.usable:
            return _without_rows(found, baseline, settings, period)
        scan = open_scan(engine, found, baseline, period, revision)
        counts = scan.counts()
        return Checked(judge(baseline, counts, _schema_changes(found), settings), counts, found, scan, period)

    return around_broken_parts(engine, baseline, uri, find(uri, period, revision), judged)


def _schema_changes(found: Survey) -> Mapping[str, str]:
    """By feature: its column is gone, or every part stores it as another type."""
    return {name: _absence(found, name) for name in found.absent} | found.wrong_types


def _absence(found: Survey, name: str) -> str:
    in_paths = any(f"/{name}=" in part.path for part in found.usable)
    return "the column is missing" + (f" (paths have {name}=…, which is not read)" if in_paths else "")


def _without_rows(found: Survey, baseline: Baseline, settings: Settings, period: Period | None) -> Checked:
    """Nothing to count: inconclusive where there is nothing, an error where there is something that cannot be used."""
    unusable = found.corrupt | found.foreign
    if unusable:
        name, why = next(iter(unusable.items()))
        raise NoUsableData(f"{found.uri}: none of {len(unusable)} parts can be used; {name} {why}")
    counts = Counts(0, {c.name: [0] * len(c.table.counts) for c in baseline.features}, Census(0))
    verdict = replace(judge(baseline, counts, {}, settings), reason=f"there are no rows at {found.uri} for this window")
    return Checked(verdict, counts, found, None, period)
