"""Prometheus metrics. Labels are bounded: no object's name is ever one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, TypeAlias

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "API_REQUESTS",
    "BUILD",
    "CONDITIONS",
    "GATES",
    "LEADER",
    "PASSES",
    "PASS_SECONDS",
    "PHASES",
    "QUEUE",
    "TRIGGERS",
    "Models",
]

QUEUE = Gauge("creditmodel_operator_queue_depth", "CreditModels that wait for a pass.")
PASS_SECONDS = Histogram(
    "creditmodel_operator_pass_seconds",
    "Duration of one pass over one CreditModel, its API calls included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PASSES = Counter("creditmodel_operator_passes", "Passes by outcome.", ["outcome"])
API_REQUESTS = Counter(
    "creditmodel_operator_api_requests", "Requests to the API server, watches aside.", ["verb", "code"]
)
GATES = Counter("creditmodel_operator_gate_verdicts", "Final verdicts of gates.", ["gate", "verdict"])
CONDITIONS = Gauge("creditmodel_operator_conditions", "CreditModels by condition and status.", ["type", "status"])
PHASES = Gauge("creditmodel_operator_phases", "CreditModels by phase.", ["phase"])
TRIGGERS = Gauge(
    "creditmodel_operator_retraining_triggers",
    "CreditModels in an episode, by the kind of Job that it started and what became of it.",
    ["kind", "state"],
)
LEADER = Gauge("creditmodel_operator_leader", "1 while this replica acts.")
BUILD = Gauge("creditmodel_operator_build_info", "1, with the version.", ["version"])
BUILD.labels(version("creditmodel-operator")).set(1)

Counted: TypeAlias = tuple[Gauge, tuple[str, ...]]


class Models:
    """Keeps the gauges that count CreditModels: each object counts once for every thing that its status says."""

    def __init__(self) -> None:
        self._seen: dict[object, tuple[Counted, ...]] = {}

    def update(self, key: object, status: Mapping[str, Any]) -> None:
        """Count an object by its status in place of what it had before; an empty status forgets it."""
        for gauge, labels in self._seen.pop(key, ()):
            gauge.labels(*labels).dec()
        counted = tuple(_counted(status))
        for gauge, labels in counted:
            gauge.labels(*labels).inc()
        if counted:
            self._seen[key] = counted


def _counted(status: Mapping[str, Any]) -> Iterator[Counted]:
    for condition in status.get("conditions") or ():
        yield CONDITIONS, (condition["type"], condition["status"])
    if status.get("phase"):
        yield PHASES, (status["phase"],)
    trigger = (status.get("retraining") or {}).get("trigger")
    if trigger:
        yield TRIGGERS, (trigger["kind"], trigger["state"])
