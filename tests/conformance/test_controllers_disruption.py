"""What Kubernetes documents of the status of PodDisruptionBudgets."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("budget", "ready", "desired", "allowed"),
    [
        ({"minAvailable": 2}, 3, 2, 1),
        ({"minAvailable": 2}, 2, 2, 0),
        ({"minAvailable": "50%"}, 3, 2, 1),
        ({"maxUnavailable": 1}, 3, 2, 1),
        ({"maxUnavailable": "30%"}, 3, 2, 1),
    ],
)
def test_a_budget_counts_its_pods(cluster: Any, budget: Any, ready: int, desired: int, allowed: int) -> None:
    selector = {"matchLabels": {"app": "web"}}
    spec = {"replicas": 3, "selector": selector, "template": cluster.template(app="web")}
    cluster.create("deployments", "web", spec)
    cluster.create("poddisruptionbudgets", "web", {"selector": selector, **budget})
    pods = cluster.until(lambda: (found := cluster.all("pods", app="web")) and len(found) == 3 and found)
    for pod in pods[:ready]:
        cluster.set_pod(pod["metadata"]["name"], "Running", ready=True)

    def status() -> Any:
        return cluster.get("poddisruptionbudgets", "web").get("status") or {}

    counts = {"expectedPods": 3, "currentHealthy": ready, "desiredHealthy": desired, "disruptionsAllowed": allowed}
    cluster.until(lambda: counts.items() <= status().items())
    assert status()["observedGeneration"] == 1
    expected = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    assert cluster.condition(cluster.get("poddisruptionbudgets", "web"), "DisruptionAllowed") == expected
