"""The conditions: all of them on every pass, each a pure function of what was found.

Old conditions are used for one thing: the transition time stays while the status stays. Nothing is decided from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["TYPES", "Aspect", "dated", "truth"]

TYPES: tuple[str, ...] = (
    "Ready",
    "Reconciling",
    "Stalled",
    "ArtifactVerified",
    "ParityPassed",
    "BenchmarkPassed",
    "QualityPassed",
    "ApprovalGranted",
    "Available",
    "DriftDetected",
    "QualityDegraded",
    "RetrainingRequired",
)
"""In the order in which status has them."""

MAX_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Aspect:
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str


def truth(value: bool | None) -> str:
    """A condition's status: None is Unknown."""
    return "Unknown" if value is None else str(value)


def dated(aspects: Iterable[Aspect], old: Iterable[Mapping[str, Any]], generation: int, now: datetime) -> list[Any]:
    """Conditions as status has them, in the order of TYPES."""
    before = {condition.get("type"): condition for condition in old}
    found = {aspect.type: aspect for aspect in aspects}
    return [_dated(found[name], before.get(name, {}), generation, now) for name in TYPES]


def _dated(aspect: Aspect, before: Mapping[str, Any], generation: int, now: datetime) -> dict[str, Any]:
    same = before.get("status") == aspect.status and "lastTransitionTime" in before
    return {
        "type": aspect.type,
        "status": aspect.status,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if same else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reason": aspect.reason,
        "message": aspect.message[:MAX_MESSAGE],
    }
