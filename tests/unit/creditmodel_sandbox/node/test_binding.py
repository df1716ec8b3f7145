from __future__ import annotations

from typing import Any

import pytest

from creditmodel_sandbox.node.binding import misfit, requests_of


def node(*taints: Any, unschedulable: bool = False, labels: Any = None) -> Any:
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": "3"}
    spec = {"taints": list(taints), "unschedulable": unschedulable}
    return {"metadata": {"name": "n", "labels": labels or {}}, "spec": spec, "status": {"allocatable": allocatable}}


def asking(pod: Any, name: str = "p", cpu: str = "0", memory: str = "0", **spec: Any) -> Any:
    containers = [{"name": "m", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]
    return pod(name, **{"containers": containers, **spec})


def test_a_pod_that_asks_for_nothing_fits(pod: Any) -> None:
    assert misfit(pod(), node(), []) == ""


@pytest.mark.parametrize(
    ("cpu", "memory", "reason"),
    [
        ("1", "512Mi", ""),
        ("1500m", "0", "1 Insufficient cpu"),
        ("0", "600Mi", "1 Insufficient memory"),
        ("1000", "0", "1 Insufficient cpu"),
    ],
)
def test_requests_must_fit_beside_those_of_the_other_pods(pod: Any, cpu: str, memory: str, reason: str) -> None:
    assert misfit(asking(pod, cpu=cpu, memory=memory), node(), [asking(pod, "q", "1", "512Mi")]) == reason


def test_a_node_takes_so_many_pods_and_no_more(pod: Any) -> None:
    assert misfit(pod(), node(), [pod(str(n)) for n in range(2)]) == ""
    assert misfit(pod(), node(), [pod(str(n)) for n in range(3)]) == "1 Too many pods"


def test_the_largest_init_container_counts_when_it_needs_more(pod: Any) -> None:
    init = [{"name": "i", "resources": {"requests": {"cpu": "3"}}}]
    assert requests_of(asking(pod, cpu="1", initContainers=init), "cpu") == 3


def test_a_limit_stands_in_for_a_missing_request(pod: Any) -> None:
    assert requests_of(pod(containers=[{"name": "m", "resources": {"limits": {"cpu": "2"}}}]), "cpu") == 2


@pytest.mark.parametrize(("labels", "fits"), [({"zone": "a"}, True), ({"zone": "b"}, False), ({}, False)])
def test_a_node_selector_must_match(pod: Any, labels: dict[str, str], fits: bool) -> None:
    assert (misfit(pod(nodeSelector={"zone": "a"}), node(labels=labels), []) == "") is fits


def test_a_cordoned_node_takes_nothing(pod: Any) -> None:
    assert "unschedulable" in misfit(pod(), node(unschedulable=True), [])


TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        (None, False),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_taint_needs_a_toleration(pod: Any, toleration: Any, fits: bool) -> None:
    p = pod(tolerations=[toleration] if toleration else [])
    assert (misfit(p, node(TAINT), []) == "") is fits


def test_the_taint_of_a_new_node_and_a_mere_preference_do_not_matter(pod: Any) -> None:
    new = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert misfit(pod(), node(new, {**TAINT, "effect": "PreferNoSchedule"}), []) == ""
