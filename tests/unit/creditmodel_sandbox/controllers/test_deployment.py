"""The Deployment controller: sizes as a table of cases, rollouts in a world that is driven to rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers import deployment
from creditmodel_sandbox.controllers.runtime import Action
from creditmodel_sandbox.objects import DEPLOYMENTS, PODS, REPLICA_SETS, condition, parse_time

REVISION = "deployment.kubernetes.io/revision"


def template(image: str) -> Obj:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}]}}


def a_deployment(world: Any, replicas: int = 3, **spec: Any) -> Obj:
    selector = {"matchLabels": {"app": "web"}}
    full = {"replicas": replicas, "selector": selector, "template": template("v1"), **spec}
    made: Obj = world.add(DEPLOYMENTS, "web", spec=full)
    return made


def rolling(surge: int | str, unavailable: int | str) -> Obj:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def act(world: Any) -> Sequence[Action]:
    snapshot = deployment.observe(world.cache, "ns/web")
    return deployment.reconcile(snapshot, world.now) if snapshot else []


def edit(world: Any, **spec: Any) -> None:
    current = world.get(DEPLOYMENTS, "web")
    world.change(DEPLOYMENTS, current, spec={**current["spec"], **spec})


def of_image(world: Any, image: str) -> Obj:
    found: Obj = next(
        rs for rs in world.all(REPLICA_SETS) if rs["spec"]["template"]["spec"]["containers"][0]["image"] == image
    )
    return found


def sizes(world: Any) -> dict[str, int]:
    return {
        rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["spec"]["replicas"]
        for rs in world.all(REPLICA_SETS)
    }


def test_refused_pods_of_a_revision_are_a_condition_of_the_deployment(world: Any, settle: Callable[[], None]) -> None:
    world.refusals[PODS] = "no room in the quota"
    a_deployment(world)
    settle()
    failure = condition(world.get(DEPLOYMENTS, "web"), "ReplicaFailure")
    assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
    assert failure["message"] == "no room in the quota"
    world.refusals.clear()
    settle()
    assert condition(world.get(DEPLOYMENTS, "web"), "ReplicaFailure") == {}


def start_pods(world: Any) -> None:
    for pod in world.all(PODS):
        if pod.get("status", {}).get("phase", "Pending") == "Pending":
            world.set_phase(pod, "Running")


@pytest.fixture
def settle(world: Any, replica_sets_act: Any) -> Callable[[], None]:
    """Let the Deployment and the ReplicaSet controller act until both rest."""
    return lambda: world.settle(act, replica_sets_act)


@pytest.fixture
def roll_out(world: Any, settle: Callable[[], None]) -> Callable[[], None]:
    """Let every pod become ready, wave after wave, until nothing changes."""

    def run() -> None:
        for _ in range(50):
            settle()
            before = world.writes
            start_pods(world)
            settle()
            if world.writes == before:
                return
        raise AssertionError("the rollout never ends")

    return run


def is_true(obj: Obj, kind: str) -> tuple[str, str]:
    found = condition(obj, kind)
    return found.get("status", ""), found.get("reason", "")


# (case, replicas, strategy, new (size, available), old (size, available), expected new, expected old)
ROLLING = [
    ("the new one starts with as many as maxSurge allows", 4, rolling(1, 0), (0, 0), (4, 4), 1, 4),
    ("the old one shrinks once a new pod is available", 4, rolling(1, 0), (1, 1), (4, 4), 1, 3),
    ("the old one waits while the new pod is not available", 4, rolling(1, 0), (1, 0), (4, 4), 1, 4),
    ("maxUnavailable lets the old one shrink at once", 4, rolling(0, 1), (0, 0), (4, 4), 0, 3),
    ("both work together", 10, rolling(3, 2), (3, 0), (10, 10), 3, 8),
    ("percentages: surge rounds up, unavailable rounds down", 3, rolling("25%", "25%"), (0, 0), (3, 3), 1, 3),
    ("both at zero mean one unavailable", 3, rolling(0, 0), (0, 0), (3, 3), 0, 2),
    ("broken old pods go first, without costing availability", 3, rolling(1, 0), (1, 0), (3, 1), 1, 3),
    ("broken old pods go while the rest suffices", 4, rolling(0, 2), (1, 1), (3, 1), 1, 1),
    ("nothing is left to do", 3, rolling(1, 0), (3, 3), (0, 0), 3, 0),
]


@pytest.mark.parametrize(
    ("replicas", "strategy", "new", "old", "new_after", "old_after"),
    [c[1:] for c in ROLLING],
    ids=[c[0] for c in ROLLING],
)
def test_a_step_of_a_rolling_update(
    world: Any, replicas: int, strategy: Obj, new: Any, old: Any, new_after: int, old_after: int
) -> None:
    web = a_deployment(world, replicas, strategy=strategy, template=template("v2"))
    for image, (size, available) in {"v1": old, "v2": new}.items():
        spec = {"replicas": size, "selector": web["spec"]["selector"], "template": template(image)}
        annotations = {
            "deployment.kubernetes.io/desired-replicas": str(replicas), REVISION: image[1],
        }  # fmt: skip
        status = {"replicas": size, "readyReplicas": available, "availableReplicas": available}
        world.add(REPLICA_SETS, image, owner=web, meta={"annotations": annotations}, spec=spec, status=status)
    world.change(DEPLOYMENTS, web, metadata={**web["metadata"], "annotations": {REVISION: "2"}})
    world.carry_out(act(world))
    assert sizes(world) == {"v1": old_after, "v2": new_after}


def test_a_rollout_stays_within_its_bounds_and_ends_complete(world: Any, settle: Any, roll_out: Any) -> None:
    a_deployment(world, 5, strategy=rolling(2, 1))
    roll_out()
    edit(world, template=template("v2"))
    for _ in range(30):
        settle()
        pods = world.all(PODS)
        available = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        assert len(pods) <= 7
        assert len(available) >= 4
        waiting = [pod for pod in pods if pod not in available]
        if not waiting:
            break
        world.set_phase(waiting[0], "Running")
    assert sizes(world) == {"v1": 0, "v2": 5}
    status = world.get(DEPLOYMENTS, "web")["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (5, 5, 5)
    assert status["observedGeneration"] == 2
    assert status["terminatingReplicas"] == 0
    assert "unavailableReplicas" not in status


def test_a_complete_rollout_says_so_in_its_conditions_and_events(world: Any, roll_out: Any) -> None:
    a_deployment(world)
    roll_out()
    web, rs = world.get(DEPLOYMENTS, "web"), of_image(world, "v1")
    assert is_true(web, "Available") == ("True", "MinimumReplicasAvailable")
    assert is_true(web, "Progressing") == ("True", "NewReplicaSetAvailable")
    name = rs["metadata"]["name"]
    assert condition(web, "Progressing")["message"] == f'ReplicaSet "{name}" has successfully progressed.'
    assert ("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 3") in world.events
    assert name == f"web-{rs['metadata']['labels']['pod-template-hash']}"
    assert (
        world.all(PODS)[0]["metadata"]["labels"]["pod-template-hash"] == rs["metadata"]["labels"]["pod-template-hash"]
    )


def test_pods_that_never_become_ready_exceed_the_progress_deadline(world: Any, settle: Any) -> None:
    a_deployment(world, progressDeadlineSeconds=60)
    settle()
    since = parse_time(condition(world.get(DEPLOYMENTS, "web"), "Progressing")["lastUpdateTime"])
    assert since is not None
    assert world.wakes == [since + timedelta(seconds=61)]
    world.pass_time(seconds=59)
    settle()
    assert is_true(world.get(DEPLOYMENTS, "web"), "Progressing") == ("True", "ReplicaSetUpdated")
    world.pass_time(seconds=2)
    settle()
    web = world.get(DEPLOYMENTS, "web")
    assert is_true(web, "Progressing") == ("False", "ProgressDeadlineExceeded")
    assert is_true(web, "Available") == ("False", "MinimumReplicasUnavailable")
    assert world.wakes == []


def test_progress_puts_the_deadline_off(world: Any, settle: Any) -> None:
    a_deployment(world, 2, progressDeadlineSeconds=60)
    settle()
    world.pass_time(seconds=50)
    world.set_phase(world.all(PODS)[0], "Running")
    settle()
    world.pass_time(seconds=50)
    settle()
    assert is_true(world.get(DEPLOYMENTS, "web"), "Progressing") == ("True", "ReplicaSetUpdated")


def test_pods_that_are_ready_late_end_a_missed_deadline(world: Any, settle: Any, roll_out: Any) -> None:
    a_deployment(world, progressDeadlineSeconds=1)
    settle()
    world.pass_time(seconds=5)
    settle()
    roll_out()
    assert is_true(world.get(DEPLOYMENTS, "web"), "Progressing") == ("True", "NewReplicaSetAvailable")


def test_scaling_to_zero_and_back(world: Any, roll_out: Any) -> None:
    a_deployment(world)
    roll_out()
    edit(world, replicas=0)
    roll_out()
    web = world.get(DEPLOYMENTS, "web")
    assert world.all(PODS) == []
    assert "replicas" not in web["status"]
    assert is_true(web, "Available")[0] == "True"
    edit(world, replicas=2)
    roll_out()
    assert len(world.all(PODS)) == 2


def test_scaling_during_a_rollout_spreads_the_new_pods_in_proportion(world: Any, settle: Any, roll_out: Any) -> None:
    """The example of the Kubernetes documentation: of five more, three go to the old and two to the new."""
    a_deployment(world, 10, strategy=rolling(3, 2))
    roll_out()
    edit(world, template=template("broken"))
    settle()
    assert sizes(world) == {"v1": 8, "broken": 5}
    edit(world, replicas=15)
    settle()
    assert sizes(world) == {"v1": 11, "broken": 7}


def test_recreate_starts_no_new_pod_before_the_last_old_one_is_gone(world: Any, settle: Any, roll_out: Any) -> None:
    a_deployment(world, 2, strategy={"type": "Recreate"})
    roll_out()
    edit(world, template=template("v2"))
    stuck = world.all(PODS)[0]
    world.change(PODS, stuck, metadata={**stuck["metadata"], "finalizers": ["test/hold"]})
    settle()
    assert sizes(world) == {"v1": 0}
    assert len(world.all(PODS)) == 1
    held = world.all(PODS)[0]
    world.cache.change(PODS, held, None)
    roll_out()
    assert sizes(world) == {"v1": 0, "v2": 2}


def test_a_paused_deployment_scales_but_does_not_roll(world: Any, settle: Any, roll_out: Any) -> None:
    a_deployment(world)
    roll_out()
    edit(world, paused=True, template=template("v2"), replicas=4)
    roll_out()
    assert sizes(world) == {"v1": 4}
    assert is_true(world.get(DEPLOYMENTS, "web"), "Progressing") == ("Unknown", "DeploymentPaused")
    edit(world, paused=False)
    roll_out()
    assert sizes(world) == {"v1": 0, "v2": 4}
    assert is_true(world.get(DEPLOYMENTS, "web"), "Progressing") == ("True", "NewReplicaSetAvailable")


def test_going_back_to_an_earlier_template_uses_its_replica_set_again(world: Any, roll_out: Any) -> None:
    a_deployment(world)
    roll_out()
    first = of_image(world, "v1")["metadata"]["name"]
    for image in ("v2", "v1"):
        edit(world, template=template(image))
        roll_out()
    back = of_image(world, "v1")
    assert back["metadata"]["name"] == first
    assert back["metadata"]["annotations"][REVISION] == "3"
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    assert world.get(DEPLOYMENTS, "web")["metadata"]["annotations"][REVISION] == "3"
    assert sizes(world) == {"v1": 3, "v2": 0}


def test_old_replica_sets_beyond_the_history_limit_are_deleted(world: Any, roll_out: Any) -> None:
    a_deployment(world, revisionHistoryLimit=1)
    for image in ("v1", "v2", "v3"):
        edit(world, template=template(image))
        roll_out()
    assert sizes(world) == {"v2": 0, "v3": 3}


def test_a_taken_name_raises_the_collision_count_and_the_next_name_is_free(world: Any, roll_out: Any) -> None:
    a_deployment(world)
    world.carry_out(act(world))
    taken = world.all(REPLICA_SETS)[0]
    world.cache.change(REPLICA_SETS, taken, None)
    spec = {
        **taken["spec"],
        "template": template("foreign"),
        "selector": {"matchLabels": {"app": "other"}},
        "replicas": 0,
    }
    stranger = world.add(PODS, "stranger")
    world.add(REPLICA_SETS, taken["metadata"]["name"], owner=stranger, spec=spec)
    roll_out()
    assert world.get(DEPLOYMENTS, "web")["status"]["collisionCount"] == 1
    assert len(world.all(REPLICA_SETS)) == 2


def test_an_orphaned_replica_set_that_the_selector_matches_is_adopted(world: Any, roll_out: Any) -> None:
    web = a_deployment(world)
    spec = {"replicas": 3, "selector": web["spec"]["selector"], "template": template("v1")}
    world.add(REPLICA_SETS, "orphan", meta={"labels": {"app": "web"}}, spec=spec)
    roll_out()
    assert [key_of(rs) for rs in world.all(REPLICA_SETS)] == ["ns/orphan"]
    assert world.get(REPLICA_SETS, "orphan")["metadata"]["ownerReferences"][0]["name"] == "web"


def test_a_deployment_at_rest_is_not_written(world: Any, roll_out: Any) -> None:
    a_deployment(world)
    roll_out()
    before = world.writes
    world.pass_time(hours=1)
    world.carry_out(act(world))
    assert world.writes == before


def test_annotations_of_the_deployment_reach_the_replica_set_except_kubectls_own(world: Any, roll_out: Any) -> None:
    web = a_deployment(world)
    notes = {"team": "risk", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    world.change(DEPLOYMENTS, web, metadata={**web["metadata"], "annotations": notes})
    roll_out()
    annotations = of_image(world, "v1")["metadata"]["annotations"]
    assert annotations["team"] == "risk"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations
