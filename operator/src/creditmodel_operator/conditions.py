"""The conditions: all of them on every pass, each a pure function of what was found.

Old conditions are used for one thing: the transition time stays while the status stays. Nothing is decided from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from creditmodel_operator import reasons
from creditmodel_operator.plan import Event

__all__ = ["TYPES", "Aspect", "dated", "events", "truth"]

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


_NORMAL = {
    ("ArtifactVerified", "True"),
    ("ParityPassed", "True"),
    ("BenchmarkPassed", "True"),
    ("QualityPassed", "True"),
    ("ApprovalGranted", "True"),
    ("Ready", "True"),
    ("Available", "True"),
}
_WARNING = {
    ("ArtifactVerified", "False"),
    ("ParityPassed", "False"),
    ("BenchmarkPassed", "False"),
    ("QualityPassed", "False"),
    ("ApprovalGranted", "False"),
    ("Stalled", "True"),
    ("DriftDetected", "True"),
    ("QualityDegraded", "True"),
    ("RetrainingRequired", "True"),
}
_NAMES = {
    ("ArtifactVerified", "False"): "ArtifactRefused",
    ("ParityPassed", "False"): "ParityFailed",
    ("BenchmarkPassed", "False"): "BenchmarkFailed",
    ("QualityPassed", "False"): "QualityFailed",
    ("ApprovalGranted", "False"): "ApprovalRejected",
}


def events(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Event]:
    """What a person would want to hear of the change from the old conditions to the new ones.

    Only a change of status is an event, besides a Stalled that goes on for another reason, and a person's turn.
    """
    before = {condition.get("type"): condition for condition in old}
    return [event for condition in new if (event := _event(before.get(condition["type"], {}), condition)) is not None]


def _event(before: Mapping[str, Any], after: Mapping[str, Any]) -> Event | None:
    if (after["type"], after["reason"]) == ("ApprovalGranted", reasons.AWAITING_APPROVAL):
        return None if before.get("reason") == after["reason"] else Event(after["reason"], after["message"])
    key = (after["type"], after["status"])
    same = before.get("status") == after["status"]
    if same and not (key == ("Stalled", "True") and before.get("reason") != after["reason"]):
        return None
    if key not in _NORMAL and key not in _WARNING:
        return _ending(before, after)
    reason = after["reason"] if key == ("Stalled", "True") else _NAMES.get(key, after["type"])
    return Event(reason, after["message"], warning=key in _WARNING)


def _ending(before: Mapping[str, Any], after: Mapping[str, Any]) -> Event | None:
    """The end of something that was worth an event."""
    if before.get("status") != "True" or after["status"] != "False":
        return None
    match after["type"]:
        case "Available":
            return Event("ChampionUnavailable", after["message"], warning=True)
        case "DriftDetected" | "QualityDegraded" | "RetrainingRequired" as name:
            return Event(f"{name}Cleared", after["message"])
        case _:
            return None
