"""Gauges that count CreditModels: what an object counts for, and that it counts once."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY

from creditmodel_operator.metrics import Models

AWAITING: dict[str, Any] = {"phase": "AwaitingApproval", "conditions": [{"type": "Ready", "status": "False"}]}
FAILED: dict[str, Any] = {"phase": "Ready", "retraining": {"trigger": {"kind": "signal", "state": "Failed"}}}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"creditmodel_operator_{name}", labels) or 0.0


def test_an_object_counts_once_for_its_phase_its_conditions_and_its_retraining_whatever_it_was_before() -> None:
    def seen() -> tuple[float, ...]:
        return (
            value("phases", phase="AwaitingApproval"),
            value("conditions", type="Ready", status="False"),
            value("retraining_triggers", kind="signal", state="Failed"),
        )

    models, before = Models(), seen()

    def told() -> tuple[float, ...]:
        return tuple(now - then for now, then in zip(seen(), before, strict=True))

    models.update("one", AWAITING)
    models.update("one", AWAITING)
    models.update("two", AWAITING)
    assert told() == (2, 2, 0)
    models.update("one", FAILED)
    assert told() == (1, 1, 1)
    # An episode that only waits for somebody to act, and an object that has no status yet, count for nothing.
    models.update("one", {"retraining": {"episode": "0123456789abcdef"}})
    models.update("two", {})
    assert told() == (0, 0, 0)
