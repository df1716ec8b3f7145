"""The scheduler: where a pod goes, and why it goes nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import scheduler
from creditmodel_sandbox.controllers.objects import NODES, PODS, condition
from creditmodel_sandbox.controllers.runtime import Action, Create, Event, Replace


def a_node(
    world: Any, name: str = "node", *, ready: bool = True, labels: Any = None, pods: int = 10, **spec: Any
) -> Obj:
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": str(pods)}
    status = {"allocatable": allocatable, "conditions": [world.ready(ready)]}
    made: Obj = world.add(NODES, name, meta={"labels": labels or {}}, spec=spec, status=status)
    return made


def act(world: Any) -> Sequence[Action]:
    snapshot = scheduler.observe(world.cache, "pending")
    return scheduler.reconcile(snapshot, world.now) if snapshot else []


def bound(actions: Sequence[Action]) -> dict[str, str]:
    return {a.name: a.body["target"]["name"] for a in actions if isinstance(a, Create) and a.subresource == "binding"}


def reason(actions: Sequence[Action]) -> str:
    """The message of the one pod that could not be placed."""
    (replace,) = [action for action in actions if isinstance(action, Replace)]
    found = condition(replace.body, "PodScheduled")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    assert any(
        isinstance(a, Event) and a.reason == "FailedScheduling" and a.message == found["message"] for a in actions
    )
    return str(found["message"])


def test_a_pending_pod_is_bound_to_a_ready_node(world: Any) -> None:
    a_node(world)
    world.pod("a")
    actions = act(world)
    assert bound(actions) == {"a": "node"}
    messages = [(action.reason, action.message) for action in actions if isinstance(action, Event)]
    assert messages == [("Scheduled", "Successfully assigned ns/a to node")]


# Each case: a node, a pod, and the obstacle between them.
OBSTACLES: list[tuple[str, Obj, Obj, str]] = [
    ("a node that is not ready", {"ready": False}, {}, "1 node(s) were not ready"),
    ("a cordoned node", {"unschedulable": True}, {}, "1 node(s) were unschedulable"),
    ("a taint", {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, {}, "1 node(s) had untolerated taint(s)"),
    ("too little CPU", {}, {"requests": {"cpu": "2001m"}}, "1 Insufficient cpu"),
    ("too little memory", {}, {"requests": {"memory": "2Gi"}}, "1 Insufficient memory"),
    ("too many pods", {"pods": 0}, {}, "1 Too many pods"),
]


@pytest.mark.parametrize(("node", "pod", "message"), [c[1:] for c in OBSTACLES], ids=[c[0] for c in OBSTACLES])
def test_why_a_pod_is_not_placed(world: Any, node: Obj, pod: Obj, message: str) -> None:
    a_node(world, **node)
    world.pod("a", **pod)
    assert reason(act(world)) == f"0/1 nodes are available: {message}."


def test_without_any_node_it_says_so(world: Any) -> None:
    world.pod("a")
    assert reason(act(world)) == "no nodes available to schedule pods"


def test_the_same_reason_is_written_once(world: Any) -> None:
    world.pod("a")
    world.settle(act)
    assert act(world) == []


def test_a_node_selector_chooses_by_label(world: Any) -> None:
    a_node(world, "plain")
    a_node(world, "fast", labels={"disk": "ssd"})
    pod = world.pod("a")
    world.change(PODS, pod, spec={**pod["spec"], "nodeSelector": {"disk": "ssd"}})
    assert bound(act(world)) == {"a": "fast"}


@pytest.mark.parametrize(
    ("toleration", "placed"),
    [
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(world: Any, toleration: Obj, placed: bool) -> None:
    a_node(world, taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    pod = world.pod("a")
    world.change(PODS, pod, spec={**pod["spec"], "tolerations": [toleration]})
    assert bool(bound(act(world))) is placed


def test_pods_placed_in_one_pass_share_the_room(world: Any) -> None:
    a_node(world)
    for name in ("a", "b", "c"):
        world.pod(name, requests={"cpu": "800m"})
    actions = act(world)
    assert bound(actions) == {"a": "node", "b": "node"}
    assert reason(actions) == "0/1 nodes are available: 1 Insufficient cpu."


def test_pods_spread_over_nodes(world: Any) -> None:
    a_node(world, "one")
    a_node(world, "two")
    world.pod("there", node="one", requests={"cpu": "1"})
    world.pod("a", requests={"cpu": "100m"})
    assert bound(act(world)) == {"a": "two"}


def test_a_finished_pod_takes_no_room(world: Any) -> None:
    a_node(world, pods=1)
    world.pod("done", node="node", phase="Succeeded")
    world.pod("a")
    assert bound(act(world)) == {"a": "node"}


@pytest.mark.parametrize(
    "spec", [{"schedulerName": "other"}, {"schedulingGates": [{"name": "wait"}]}, {"nodeName": "x"}]
)
def test_pods_that_are_not_its_business_are_left_alone(world: Any, spec: Obj) -> None:
    a_node(world)
    pod = world.pod("a")
    world.change(PODS, pod, spec={**pod["spec"], **spec})
    assert list(act(world)) == []
