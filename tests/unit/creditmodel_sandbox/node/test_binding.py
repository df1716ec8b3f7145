"""Binding: which pods wait, and why one does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from creditmodel_sandbox.node.binding import obstacles, pending, used

JSON = dict[str, Any]


def a_node(*, ready: bool = True, labels: JSON | None = None, pods: int = 10, **spec: Any) -> JSON:
    status = {
        "allocatable": {"cpu": "2", "memory": "1Gi", "pods": str(pods)},
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    return {"metadata": {"name": "node", "labels": labels or {}}, "spec": spec, "status": status}


def a_pod(name: str = "a", *, phase: str = "Pending", requests: JSON | None = None, **spec: Any) -> JSON:
    containers = [{"name": "main", "resources": {"requests": requests or {}}}]
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}, "status": {"phase": phase}}


# Each case: a node, a pod, and the obstacle between them.
OBSTACLES: list[tuple[str, JSON, JSON, str]] = [
    ("a node that is not ready", {"ready": False}, {}, "node(s) were not ready"),
    ("a cordoned node", {"unschedulable": True}, {}, "node(s) were unschedulable"),
    ("a taint", {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, {}, "node(s) had untolerated taint(s)"),
    ("a label", {}, {"nodeSelector": {"disk": "ssd"}}, "node(s) didn't match Pod's node affinity/selector"),
    ("too little CPU", {}, {"requests": {"cpu": "2001m"}}, "Insufficient cpu"),
    ("too little memory", {}, {"requests": {"memory": "2Gi"}}, "Insufficient memory"),
    ("too many pods", {"pods": 0}, {}, "Too many pods"),
]


@pytest.mark.parametrize(("node", "pod", "message"), [c[1:] for c in OBSTACLES], ids=[c[0] for c in OBSTACLES])
def test_why_a_pod_does_not_fit(node: JSON, pod: JSON, message: str) -> None:
    assert obstacles(a_pod(**pod), a_node(**node), {}) == [message]


def test_a_pod_fits_a_node_of_its_label_with_just_enough_room() -> None:
    pod = a_pod(requests={"cpu": "500m", "memory": "512Mi"}, nodeSelector={"disk": "ssd"})
    others = [a_pod("b", phase="Running", requests={"cpu": "1500m", "memory": "512Mi"}, nodeName="node")]
    assert obstacles(pod, a_node(labels={"disk": "ssd"}, pods=2), used(others, "node")) == []


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: JSON, fits: bool) -> None:
    node = a_node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert (obstacles(a_pod(tolerations=[toleration]), node, {}) == []) is fits


def test_the_taint_of_a_new_node_and_a_mere_preference_do_not_matter() -> None:
    new = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert obstacles(a_pod(), a_node(taints=[new, {"key": "gpu", "effect": "PreferNoSchedule"}]), {}) == []


def test_the_largest_init_container_counts_when_it_needs_more() -> None:
    pod = a_pod(initContainers=[{"name": "init", "resources": {"requests": {"cpu": "3"}}}])
    assert obstacles(pod, a_node(), {}) == ["Insufficient cpu"]


def test_what_is_finished_or_elsewhere_takes_no_room() -> None:
    pods = [a_pod("done", phase="Succeeded", nodeName="node"), a_pod("away", phase="Running", nodeName="other")]
    assert used([*pods, a_pod("here", phase="Running", nodeName="node")], "node")["pods"] == 1


@pytest.mark.parametrize(
    "spec", [{"schedulerName": "other"}, {"schedulingGates": [{"name": "wait"}]}, {"nodeName": "x"}]
)
def test_pods_that_are_not_its_business_are_left_alone(spec: JSON) -> None:
    waiting = a_pod("waiting")
    assert pending([a_pod("not-mine", **spec), waiting]) == [waiting]
