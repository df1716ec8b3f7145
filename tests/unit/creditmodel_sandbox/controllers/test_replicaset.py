"""The ReplicaSet controller: which pods come, which go first, what is counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.objects import PODS, REPLICA_SETS

LABELS = {"app": "web"}


def a_replica_set(world: Any, replicas: int, **spec: Any) -> Obj:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "main"}]}}
    full = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template, **spec}
    made: Obj = world.add(REPLICA_SETS, "rs", spec=full)
    return made


def names(world: Any) -> set[str]:
    return {pod["metadata"]["name"] for pod in world.all(PODS)}


def test_missing_pods_are_created_from_the_template_and_owned(world: Any, replica_sets_act: Any) -> None:
    a_replica_set(world, 3)
    world.settle(replica_sets_act)
    pods = world.all(PODS)
    assert len(pods) == 3
    assert pods[0]["metadata"]["labels"] == LABELS
    owner = pods[0]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "ReplicaSet",
        "rs",
        True,
        True,
    )
    assert ("SuccessfulCreate", f"Created pod: {pods[0]['metadata']['name']}") in world.events
    assert world.get(REPLICA_SETS, "rs")["status"]["replicas"] == 3


def test_refused_pods_are_a_condition_until_one_is_taken(world: Any, replica_sets_act: Any) -> None:
    a_replica_set(world, 2)
    for world.refusals[PODS] in ("no room in the quota", "still none"):
        world.settle(replica_sets_act)
        (failure,) = world.get(REPLICA_SETS, "rs")["status"]["conditions"]
        assert (failure["type"], failure["status"], failure["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
        assert failure["message"] == "no room in the quota"
    world.refusals.clear()
    world.settle(replica_sets_act)
    assert "conditions" not in world.get(REPLICA_SETS, "rs")["status"]


# (case, what the pod that must go is like, what the pod that stays is like)
REMOVAL = [
    ("a pod without a node before one with", {"ready": True}, {"ready": True, "node": "n"}),
    ("a pending pod before a running one", {"node": "n", "phase": "Pending"}, {"node": "n", "phase": "Running"}),
    ("a pod that is not ready before a ready one", {"node": "n", "phase": "Running"}, {"node": "n", "ready": True}),
    (
        "a cheaper pod before a dearer one",
        {"node": "n", "ready": True, "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
        {"node": "n", "ready": True},
    ),
    (
        "a pod that restarted before one that did not",
        {"node": "n", "ready": True, "status": {"containerStatuses": [{"restartCount": 2}]}},
        {"node": "n", "ready": True},
    ),
]


@pytest.mark.parametrize(("goes", "stays"), [c[1:] for c in REMOVAL], ids=[c[0] for c in REMOVAL])
@pytest.mark.parametrize("first", ["goes", "stays"])
def test_scaling_down_removes(world: Any, replica_sets_act: Any, goes: Obj, stays: Obj, first: str) -> None:
    rs = a_replica_set(world, 1)
    for name in ("goes", "stays") if first == "goes" else ("stays", "goes"):
        world.pod(name, owner=rs, labels=LABELS, **dict(goes if name == "goes" else stays))
    world.settle(replica_sets_act)
    assert names(world) == {"stays"}
    assert ("SuccessfulDelete", "Deleted pod: goes") in world.events


def test_of_two_ready_pods_the_younger_one_goes(world: Any, replica_sets_act: Any) -> None:
    rs = a_replica_set(world, 1)
    world.pod("old", owner=rs, labels=LABELS, node="n", ready=True)
    world.pass_time(hours=1)
    world.pod("young", owner=rs, labels=LABELS, node="n", ready=True)
    world.settle(replica_sets_act)
    assert names(world) == {"old"}


def test_a_deleted_or_failed_pod_is_replaced(world: Any, replica_sets_act: Any) -> None:
    a_replica_set(world, 2)
    world.settle(replica_sets_act)
    first, second = world.all(PODS)
    world.delete(PODS, first)
    world.set_phase(second, "Failed")
    world.settle(replica_sets_act)
    active = [pod for pod in world.all(PODS) if pod.get("status", {}).get("phase") != "Failed"]
    assert len(active) == 2


def test_a_terminating_pod_is_replaced_at_once_and_counted_apart(world: Any, replica_sets_act: Any) -> None:
    a_replica_set(world, 1)
    world.settle(replica_sets_act)
    world.delete(PODS, world.all(PODS)[0], grace=True)
    world.settle(replica_sets_act)
    status = world.get(REPLICA_SETS, "rs")["status"]
    assert (status["replicas"], status["terminatingReplicas"], len(world.all(PODS))) == (1, 1, 2)


def test_a_matching_pod_without_controller_is_adopted(world: Any, replica_sets_act: Any) -> None:
    a_replica_set(world, 1)
    world.pod("stray", labels=LABELS)
    world.settle(replica_sets_act)
    assert names(world) == {"stray"}
    assert world.get(PODS, "stray")["metadata"]["ownerReferences"][0]["name"] == "rs"


def test_a_pod_whose_labels_no_longer_match_is_released_and_replaced(world: Any, replica_sets_act: Any) -> None:
    rs = a_replica_set(world, 1)
    world.pod("quarantined", owner=rs, labels={"app": "other"})
    world.settle(replica_sets_act)
    assert world.get(PODS, "quarantined")["metadata"]["ownerReferences"] == []
    assert len(world.all(PODS)) == 2


def test_a_pod_is_available_when_it_was_ready_for_min_ready_seconds(world: Any, replica_sets_act: Any) -> None:
    rs = a_replica_set(world, 1, minReadySeconds=10)
    world.pod("pod", owner=rs, labels=LABELS, ready=True)
    world.settle(replica_sets_act)
    status = world.get(REPLICA_SETS, "rs")["status"]
    assert (status["readyReplicas"], status.get("availableReplicas")) == (1, None)
    assert world.wakes == [world.now + timedelta(seconds=10)]
    world.pass_time(seconds=10)
    world.settle(replica_sets_act)
    assert world.get(REPLICA_SETS, "rs")["status"]["availableReplicas"] == 1


def test_a_replica_set_that_is_being_deleted_makes_no_pods(world: Any, replica_sets_act: Any) -> None:
    rs = a_replica_set(world, 2)
    world.delete(REPLICA_SETS, rs, grace=True)
    world.settle(replica_sets_act)
    assert world.all(PODS) == []
