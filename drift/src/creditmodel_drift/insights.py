"""What is said beside the verdict. A verdict must not depend on an illustration: one that fails is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from creditmodel_bundle.measurement import Estimate
from creditmodel_drift.check import Checked
from creditmodel_drift.decisions import Decision, decisions
from creditmodel_drift.errors import DriftError, transport_errors
from creditmodel_drift.quality import Realised, estimated
from creditmodel_drift.reference import Reference
from creditmodel_drift.trend import Point, trend

__all__ = ["Insights", "look_closer"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Insights:
    """PSI over time, decisions at the cut-offs, estimated and realised quality; `problems` says what failed."""

    trend: tuple[Point, ...] = ()
    decisions: tuple[Decision, ...] = ()
    estimated: Estimate | None = None
    realised: Realised | None = None
    problems: list[str] = field(default_factory=list)


def look_closer(
    checked: Checked, reference: Reference, realised: Realised | None, revision: str | None, *, reported: bool
) -> Insights:
    """What can be said of these data: for a report all of it, for a measurement the quality alone.

    Never raises for what the data lack.
    """
    scan, problems = checked.scan, list[str]()
    if scan is None or not checked.verdict.rows:
        return Insights(realised=realised)

    def attempt(what: str, make: Callable[[], T], otherwise: T) -> T:
        try:
            return make()
        except transport_errors(DriftError) as e:
            problems.append(f"{what} could not be made: {' '.join(str(e).split())[:200]}")
            return otherwise

    expected = attempt("estimated quality", lambda: estimated(scan), None)
    if not reported:
        return Insights(estimated=expected, realised=realised, problems=problems)
    settings, uri = checked.verdict.settings, checked.survey.uri
    return Insights(
        attempt("PSI over time", lambda: trend(scan.engine, reference.baseline, uri, settings, checked, revision), ()),
        attempt("decisions", lambda: decisions(scan, reference), ()),
        expected,
        realised,
        problems,
    )
