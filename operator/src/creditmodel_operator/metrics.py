"""Prometheus metrics. Labels are bounded: no object's name is ever one."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["API_REQUESTS", "BUILD", "CONDITIONS", "GATES", "LEADER", "PASSES", "PASS_SECONDS", "QUEUE", "Conditions"]

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
LEADER = Gauge("creditmodel_operator_leader", "1 while this replica acts.")
BUILD = Gauge("creditmodel_operator_build_info", "1, with the version.", ["version"])
BUILD.labels(version("creditmodel-operator")).set(1)


class Conditions:
    """Keeps the condition gauge: each object counts once for each of its conditions."""

    def __init__(self) -> None:
        self._seen: dict[object, dict[str, str]] = {}

    def update(self, key: object, conditions: dict[str, str]) -> None:
        """Count an object's conditions (type to status) in place of what it had before; an empty dict forgets it."""
        for type_, status in self._seen.pop(key, {}).items():
            CONDITIONS.labels(type_, status).dec()
        for type_, status in conditions.items():
            CONDITIONS.labels(type_, status).inc()
        if conditions:
            self._seen[key] = conditions
