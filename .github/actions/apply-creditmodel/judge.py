"""What a CreditModel's conditions say about one change of its spec: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Judgement", "Outcome", "condition", "judge"]


class Outcome(Enum):
    """How an application stands. The value is what the action's output `outcome` reads."""

    PENDING = "pending"
    READY = "ready"
    STALLED = "stalled"
    WAITING = "waiting-for-approval"
    SUPERSEDED = "superseded"
    TIMEOUT = "timeout"
    DELETED = "deleted"
    INVALID = "invalid"
    VALIDATED = "validated"


@dataclass(frozen=True)
class Judgement:
    """An outcome and the sentence that explains it."""

    outcome: Outcome
    message: str


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of this type, whatever generation it speaks of; None where there is none."""
    conditions = resource.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c.get("type") == kind), None)


def judge(resource: dict[str, Any], generation: int) -> Judgement:
    """Judge the spec of `generation`.

    Only conditions that were observed at this very generation count: an earlier spec's say nothing about this one.
    """
    current = resource["metadata"].get("generation", generation)
    if current > generation:
        return Judgement(
            Outcome.SUPERSEDED,
            f"generation {generation} was replaced by generation {current} while it was rolling out; "
            "see who else changes this resource (metadata.managedFields)",
        )
    for kind, outcome in (("Ready", Outcome.READY), ("Stalled", Outcome.STALLED)):
        found = condition(resource, kind)
        if found and found.get("status") == "True" and found.get("observedGeneration") == generation:
            return Judgement(outcome, _explanation(resource, found))
    ready = condition(resource, "Ready")
    if ready and ready.get("reason") == "AwaitingApproval" and ready.get("observedGeneration") == generation:
        return Judgement(Outcome.WAITING, str(ready.get("message", "")))
    return Judgement(Outcome.PENDING, _progress(resource, generation))


def _explanation(resource: dict[str, Any], found: dict[str, Any]) -> str:
    """Stalled names the obstacle in general; Ready's message has the gate and the number."""
    ready = condition(resource, "Ready")
    if found["type"] == "Stalled" and ready and ready.get("message"):
        return str(ready["message"])
    return str(found.get("message", ""))


def _progress(resource: dict[str, Any], generation: int) -> str:
    """What there is to say while nothing is decided."""
    ready = condition(resource, "Ready")
    if ready is None or ready.get("observedGeneration") != generation:
        return f"the operator has not looked at generation {generation} yet"
    return str(ready.get("message", ""))
