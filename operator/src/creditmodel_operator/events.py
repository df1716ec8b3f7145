"""What happened between two statuses that a person would want to see in kubectl describe. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from creditmodel_operator import reasons
from creditmodel_operator.observed import Model
from creditmodel_operator.plan import Event
from creditmodel_operator.retraining import events as retraining_events

__all__ = ["events", "of_conditions"]

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
_PROMOTION = frozenset({"Available", "Ready"})
"""What Promoted says too, in the same moment."""
_NAMES = {
    ("ArtifactVerified", "False"): "ArtifactRefused",
    ("ParityPassed", "False"): "ParityFailed",
    ("BenchmarkPassed", "False"): "BenchmarkFailed",
    ("QualityPassed", "False"): "QualityFailed",
    ("ApprovalGranted", "False"): "ApprovalRejected",
}


def events(model: Model, new: Mapping[str, Any]) -> Iterator[Event]:
    """What a person would want to hear of the change from the model's status to a new one."""
    old = model.status
    before, after = _revision(old, "active"), _revision(new, "active")
    promoted = after is not None and before != after
    told = of_conditions(old.get("conditions") or (), new["conditions"])
    if promoted:
        ready = "; it is gated, rolled and serving" if any(event.reason == "Ready" for event in told) else ""
        yield Event("Promoted", f"{after} takes the requests" + (f" from {before}" if before else "") + ready)
    challenger = _revision(old, "candidate")
    if challenger is not None and challenger not in (after, _revision(new, "candidate")):
        yield Event("Superseded", f"{challenger} was given up for what spec names now")
    yield from (event for event in told if not (promoted and event.reason in _PROMOTION))
    yield from retraining_events(old.get("retraining") or {}, new.get("retraining") or {}, model)


def _revision(status: Mapping[str, Any], role: str) -> str | None:
    revision: str | None = (status.get(role) or {}).get("revision")
    return revision


def of_conditions(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Only a change of status is an event, besides a Stalled that goes on for another reason, and a person's turn."""
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
