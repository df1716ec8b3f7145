"""PSI over time, from the scoring log's own times: the window beside those before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from creditmodel_drift.baseline import Baseline
from creditmodel_drift.check import Checked
from creditmodel_drift.engine import Engine
from creditmodel_drift.parts import Survey, find
from creditmodel_drift.scan import Counts, around_broken_parts, open_scan
from creditmodel_drift.verdict import Settings, Verdict, judge
from creditmodel_drift.window import Period

__all__ = ["POINTS", "Point", "trend"]

POINTS = 14
"""Spans of time that are looked at; further back is left to earlier reports."""


@dataclass(frozen=True, slots=True)
class Point:
    """What the check would have said of one span of time, from `start` (within) to `end` (without)."""

    start: datetime
    end: datetime
    verdict: Verdict


def trend(
    engine: Engine,
    baseline: Baseline,
    uri: str,
    settings: Settings,
    checked: Checked,
    revision: str | None = None,
) -> tuple[Point, ...]:
    """The last POINTS spans that end with the window, each as long as it, or as long as whole days where it has no end.

    Spans without rows have no point. Data without times has none at all. Raises NoUsableData.
    """
    spans = _spans(checked)
    if spans is None:
        return ()
    whole, length = spans

    def judged(found: Survey) -> tuple[Point, ...]:
        if not found.usable or "_time" not in found.names or whole.start is None:
            return ()
        counted = open_scan(engine, found, baseline, whole, revision).counts_by(whole.start, length)
        return tuple(
            _point(baseline, settings, whole.start + i * length, length, counts) for i, counts in counted.items()
        )

    return around_broken_parts(engine, baseline, uri, find(uri, whole, revision), judged)


def _spans(checked: Checked) -> tuple[Period, timedelta] | None:
    """The time to look at and the length of one span in it."""
    period, first, last = checked.period, checked.counts.first, checked.counts.last
    if period is not None and period.start is not None:
        length = period.end - period.start
        return Period(period.end - POINTS * length, period.end), length
    if first is None or last is None:
        return None
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    days = math.floor((last - midnight) / timedelta(days=1)) + 1
    length = timedelta(days=math.ceil(days / POINTS))
    return Period(midnight, midnight + POINTS * length), length


def _point(baseline: Baseline, settings: Settings, start: datetime, length: timedelta, counts: Counts) -> Point:
    return Point(start, start + length, judge(baseline, counts, {}, settings))
