"""What Kubernetes documents of a pod that fits no node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def cluster(cluster: Any, join: Callable[[Any], object]) -> Any:
    """A cluster that schedules: one without kube-scheduler and without a node gets the sandbox's node, which binds."""
    join(cluster.api)
    return cluster


def test_a_pod_that_fits_no_node_is_unschedulable_and_says_so(cluster: Any) -> None:
    spec = cluster.template()["spec"]
    del spec["schedulerName"]
    cluster.create("pods", "nowhere", {**spec, "nodeSelector": {"conformance.test/no-such": "node"}})
    unschedulable = ("False", "Unschedulable")
    cluster.until(lambda: cluster.condition(cluster.get("pods", "nowhere"), "PodScheduled") == unschedulable)
    cluster.until(lambda: cluster.event("FailedScheduling", "nowhere"))
    assert cluster.get("pods", "nowhere")["status"]["phase"] == "Pending"


def test_a_pod_of_another_scheduler_is_left_alone(cluster: Any) -> None:
    cluster.create("pods", "other", cluster.template()["spec"])
    cluster.create(
        "pods",
        "mine",
        {**cluster.template()["spec"], "schedulerName": "default-scheduler", "nodeSelector": {"no": "node"}},
    )
    cluster.until(lambda: cluster.condition(cluster.get("pods", "mine"), "PodScheduled")[0] == "False")
    assert cluster.condition(cluster.get("pods", "other"), "PodScheduled") == ("", "")
