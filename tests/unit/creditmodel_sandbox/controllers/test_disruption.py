"""The PodDisruptionBudget controller, as a table of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import disruption
from creditmodel_sandbox.controllers.runtime import Action
from creditmodel_sandbox.objects import DEPLOYMENTS, JOBS, PDBS, PODS, REPLICA_SETS, condition, format_time

LABELS = {"app": "web"}


def act(world: Any) -> Sequence[Action]:
    snapshot = disruption.observe(world.cache, "ns/budget")
    return disruption.reconcile(snapshot, world.now) if snapshot else []


def a_budget(world: Any, **spec: Any) -> Obj:
    made: Obj = world.add(PDBS, "budget", spec={"selector": {"matchLabels": LABELS}, **spec})
    return made


def a_workload(world: Any, replicas: int, ready: int) -> None:
    deployment = world.add(DEPLOYMENTS, "web", spec={"replicas": replicas})
    rs = world.add(REPLICA_SETS, "web-1", owner=deployment, spec={"replicas": replicas})
    for number in range(replicas):
        world.pod(f"pod-{number}", owner=rs, labels=LABELS, ready=number < ready)


def status_of(world: Any) -> Obj:
    found: Obj = world.get(PDBS, "budget")["status"]
    return found


# Each case: a budget, replicas and how many are ready; pods expected, healthy ones desired, disruptions allowed.
BUDGETS = [
    ({"minAvailable": 2}, 3, 3, 3, 2, 1),
    ({"minAvailable": 2}, 3, 2, 3, 2, 0),
    ({"minAvailable": "50%"}, 3, 3, 3, 2, 1),
    ({"minAvailable": "100%"}, 3, 3, 3, 3, 0),
    ({"maxUnavailable": 1}, 3, 3, 3, 2, 1),
    ({"maxUnavailable": 1}, 3, 2, 3, 2, 0),
    ({"maxUnavailable": "30%"}, 4, 4, 4, 2, 2),
    ({"maxUnavailable": 5}, 3, 3, 3, 0, 3),
    ({"minAvailable": 1}, 0, 0, 0, 1, 0),
]


@pytest.mark.parametrize(("spec", "replicas", "ready", "expected", "desired", "allowed"), BUDGETS)
def test_a_budget(world: Any, spec: Obj, replicas: int, ready: int, expected: int, desired: int, allowed: int) -> None:
    a_budget(world, **spec)
    a_workload(world, replicas, ready)
    world.settle(act)
    status = status_of(world)
    assert (status["expectedPods"], status["currentHealthy"]) == (expected, ready)
    assert (status["desiredHealthy"], status["disruptionsAllowed"]) == (desired, allowed)
    assert status["observedGeneration"] == 1
    found = condition(world.get(PDBS, "budget"), "DisruptionAllowed")
    assert (found["status"], found["reason"]) == (
        ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    )


def test_a_share_of_pods_leaves_out_the_one_that_has_no_controller(world: Any) -> None:
    a_budget(world, maxUnavailable=1)
    a_workload(world, 2, 2)
    world.pod("alone", labels=LABELS)
    world.settle(act)
    assert (status_of(world)["expectedPods"], status_of(world)["disruptionsAllowed"]) == (2, 1)


def test_a_share_of_pods_of_what_cannot_scale_is_an_error(world: Any) -> None:
    a_budget(world, maxUnavailable=1)
    a_workload(world, 2, 2)
    world.pod("measuring", owner=world.add(JOBS, "gate"), labels=LABELS)
    world.settle(act)
    assert status_of(world)["disruptionsAllowed"] == 0
    assert condition(world.get(PDBS, "budget"), "DisruptionAllowed")["reason"] == "SyncFailed"


def test_an_eviction_under_way_spends_the_budget_until_it_is_over(world: Any) -> None:
    budget = a_budget(world, maxUnavailable=1)
    a_workload(world, 3, 3)
    world.change(PDBS, budget, status={"disruptedPods": {"pod-0": format_time(world.now)}})
    world.settle(act)
    assert status_of(world)["disruptionsAllowed"] == 0
    world.pass_time(minutes=3)
    world.settle(act)
    assert "disruptedPods" not in status_of(world)
    assert status_of(world)["disruptionsAllowed"] == 1


def test_a_terminating_pod_is_not_healthy(world: Any) -> None:
    a_budget(world, minAvailable=1)
    a_workload(world, 2, 2)
    world.delete(PODS, world.get(PODS, "pod-0"), grace=True)
    world.settle(act)
    assert status_of(world)["currentHealthy"] == 1
