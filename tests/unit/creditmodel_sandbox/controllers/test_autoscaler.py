"""The autoscaler: proposals, stabilisation and limits as tables, passes in a world."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import autoscaler
from creditmodel_sandbox.controllers.autoscaler import Memory, Metrics, NoMetrics, Snapshot
from creditmodel_sandbox.controllers.runtime import Event, Replace, Wake
from creditmodel_sandbox.objects import HPAS, condition


def pods(
    world: Any, count: int, *, ready: bool = True, age: float = 3600, prefix: str = "p", **options: Any
) -> list[Obj]:
    """Pods that ask for 100m, started `age` seconds ago."""
    world.pass_time(seconds=-age)
    started = world.now.isoformat()
    made = [
        world.pod(
            f"{prefix}{n}", ready=ready, requests={"cpu": "100m"}, **{"status": {"startTime": started}, **options}
        )
        for n in range(count)
    ]
    world.pass_time(seconds=age)
    return made


def usage(world: Any, *millicores: float, prefix: str = "p") -> Metrics:
    return Metrics({f"{prefix}{number}": (amount / 1000, world.now) for number, amount in enumerate(millicores)})


# (case, used millicores per pod of 100m, target percent, expected replicas)
PROPOSALS = [
    ("on target nothing changes", [50, 50], 50, 2),
    ("within a tenth of the target nothing changes", [54, 54], 50, 2),
    ("twice the target doubles", [100, 100], 50, 4),
    ("a fraction rounds up", [60, 60, 60], 50, 4),
    ("half the target halves", [25, 25, 25, 25], 50, 2),
    ("idle pods shrink to nothing, which the bounds prevent", [0, 0], 50, 0),
    ("only the sum counts", [190, 10], 50, 4),
]


@pytest.mark.parametrize(("used", "target", "expected"), [c[1:] for c in PROPOSALS], ids=[c[0] for c in PROPOSALS])
def test_a_proposal(world: Any, used: list[float], target: int, expected: int) -> None:
    targeted = pods(world, len(used))
    found = autoscaler.propose(targeted, usage(world, *used), target, len(used), world.now)
    assert found.replicas == expected


def test_a_pod_that_is_not_ready_yet_counts_as_idle_when_scaling_up(world: Any) -> None:
    starting = pods(world, 2, ready=False, age=10, prefix="q", phase="Running")
    found = autoscaler.propose([*pods(world, 2), *starting], usage(world, 100, 100), 50, 4, world.now)
    assert found.replicas == 4


@pytest.mark.parametrize(("ready_for", "expected"), [(5, 2), (20, 4)], ids=["partly before", "after"])
def test_what_a_young_pod_used_counts_only_when_all_of_it_was_measured_after_it_was_ready(
    world: Any, ready_for: float, expected: int
) -> None:
    ready = pods(world, 1, age=3600)
    young = pods(world, 1, age=30, prefix="q")[0]
    at = (world.now - timedelta(seconds=ready_for)).isoformat()
    condition(young, "Ready")["lastTransitionTime"] = at
    item = {"timestamp": world.now.isoformat(), "window": "15s", "containers": [{"usage": {"cpu": "100m"}}]}
    items = [{**item, "metadata": {"name": name, "namespace": "default"}} for name in ("p0", "q0")]
    found = autoscaler.propose([*ready, young], autoscaler.measured(items), 50, 2, world.now)
    assert found.replicas == expected


def test_a_pod_without_metrics_counts_as_idle_when_scaling_up(world: Any) -> None:
    found = autoscaler.propose(pods(world, 2), usage(world, 120), 50, 2, world.now)
    assert found.replicas == 3


def test_a_pod_without_metrics_counts_as_busy_when_scaling_down(world: Any) -> None:
    found = autoscaler.propose(pods(world, 4), usage(world, 10, 10, 10), 80, 4, world.now)
    assert found.replicas == 2
    assert found.utilization == 10


def test_failed_and_deleted_pods_do_not_count(world: Any) -> None:
    gone = pods(world, 1, prefix="q", phase="Failed")
    found = autoscaler.propose([*pods(world, 2), *gone], usage(world, 100, 100), 50, 2, world.now)
    assert found.replicas == 4


def test_a_container_without_request_has_no_utilisation(world: Any) -> None:
    pod = world.pod("p0", ready=True)
    with pytest.raises(NoMetrics, match="missing request for cpu in container main of Pod p0"):
        autoscaler.propose([pod], usage(world, 10), 50, 1, world.now)


def an_hpa(world: Any, least: int = 1, most: int = 10, **status: Any) -> Obj:
    target = {"type": "Utilization", "averageUtilization": 50}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    made: Obj = world.add(HPAS, "web", spec=spec, status=status)
    return made


# (case, current, wanted, changes [(seconds ago, pods)], expected, reason), between 2 and 30
LIMITS: list[tuple[str, int, int, list[tuple[int, int]], int, str]] = [
    ("at most four pods in 15 s", 1, 20, [], 5, "ScaleUpLimit"),
    ("or double, which is more than four for many pods", 8, 40, [], 16, "ScaleUpLimit"),
    ("what was added in the period counts", 5, 20, [(5, 4)], 5, "ScaleUpLimit"),
    ("what was added before the period does not", 5, 20, [(20, 4)], 10, "ScaleUpLimit"),
    ("never more than the maximum", 25, 99, [], 30, "TooManyReplicas"),
    ("never less than the minimum", 5, 0, [], 2, "TooFewReplicas"),
    ("scaling down may go at once", 20, 3, [], 3, "DesiredWithinRange"),
]


@pytest.mark.parametrize(
    ("current", "wanted", "changes", "expected", "reason"), [c[1:] for c in LIMITS], ids=[c[0] for c in LIMITS]
)
def test_limits(
    world: Any, current: int, wanted: int, changes: list[tuple[int, int]], expected: int, reason: str
) -> None:
    memory = Memory(changes=[(world.now - timedelta(seconds=ago), change) for ago, change in changes])
    assert autoscaler.limit(wanted, current, (2, 30), memory, world.now)[:2] == (expected, reason)


# (case, current, wanted, recommendations [(seconds ago, replicas)], expected)
STABLE: list[tuple[str, int, int, list[tuple[int, int]], int]] = [
    ("scaling down waits for the highest of five minutes", 5, 1, [(200, 4), (100, 2)], 4),
    ("what is older is forgotten", 5, 1, [(301, 5), (100, 2)], 2),
    ("what is higher than now does not scale up", 5, 1, [(100, 9)], 5),
    ("scaling up does not wait", 2, 6, [(200, 1)], 6),
]


@pytest.mark.parametrize(
    ("current", "wanted", "recommendations", "expected"), [c[1:] for c in STABLE], ids=[c[0] for c in STABLE]
)
def test_stabilisation(
    world: Any, current: int, wanted: int, recommendations: list[tuple[int, int]], expected: int
) -> None:
    memory = Memory([(world.now - timedelta(seconds=ago), replicas) for ago, replicas in recommendations])
    assert autoscaler.stabilize(wanted, current, memory, world.now) == expected


def a_snapshot(world: Any, hpa: Obj, replicas: int, metrics: Metrics, memory: Memory | None = None) -> Snapshot:
    scale = {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"replicas": replicas}}
    found = pods(world, replicas, prefix="p")
    return Snapshot(hpa, scale, "", tuple(found), metrics, memory or Memory())


def writes(actions: Any) -> tuple[int | None, Obj]:
    """(replicas written to the scale, the status written)."""
    replaced = {action.subresource: action.body for action in actions if isinstance(action, Replace)}
    return (replaced["scale"]["spec"]["replicas"] if "scale" in replaced else None), replaced["status"]


def test_load_above_target_scales_up_and_says_so(world: Any) -> None:
    actions = autoscaler.reconcile(a_snapshot(world, an_hpa(world), 2, usage(world, 100, 100)), world.now)
    replicas, hpa = writes(actions)
    assert replicas == 4
    assert (hpa["status"]["currentReplicas"], hpa["status"]["desiredReplicas"]) == (2, 4)
    (metric,) = hpa["status"]["currentMetrics"]
    assert metric["resource"] == {"name": "cpu", "current": {"averageUtilization": 100, "averageValue": "100m"}}
    reasons = {kind: condition(hpa, kind)["reason"] for kind in ("AbleToScale", "ScalingActive", "ScalingLimited")}
    assert reasons == {
        "AbleToScale": "SucceededRescale", "ScalingActive": "ValidMetricFound", "ScalingLimited": "DesiredWithinRange"
    }  # fmt: skip
    (event,) = [action for action in actions if isinstance(action, Event)]
    message = "New size: 4; reason: cpu resource utilization (percentage of request) above target"
    assert (event.reason, event.message) == ("SuccessfulRescale", message)
    assert Wake(world.now + timedelta(seconds=15)) in actions


@pytest.mark.parametrize(
    "metrics",
    [
        [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "50m"}}}],
        [{"type": "Resource", "resource": {"name": "memory", "target": {"averageUtilization": 50}}}],
        [{"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": {"averageValue": "5"}}}],
    ],
)
def test_what_is_not_the_utilisation_of_cpu_scales_nothing_and_says_so(world: Any, metrics: list[Obj]) -> None:
    hpa = an_hpa(world)
    hpa["spec"]["metrics"] = metrics
    replicas, after = writes(autoscaler.reconcile(a_snapshot(world, hpa, 2, usage(world, 100, 100)), world.now))
    assert replicas is None
    active = condition(after, "ScalingActive")
    assert active["status"] == "False"
    assert active["message"].endswith("the sandbox scales on one metric, the averageUtilization of cpu")


def test_without_metrics_nothing_is_scaled(world: Any) -> None:
    snapshot = a_snapshot(world, an_hpa(world), 2, Metrics(error="the metrics API is not there"))
    replicas, hpa = writes(autoscaler.reconcile(snapshot, world.now))
    assert replicas is None
    active = condition(hpa, "ScalingActive")
    assert (active["status"], active["reason"]) == ("False", "FailedGetResourceMetric")
    assert active["message"].endswith("failed to get cpu utilization: the metrics API is not there")
    again = autoscaler.reconcile(a_snapshot(world, hpa, 2, Metrics(error="the metrics API is not there")), world.now)
    assert [type(action) for action in again] == [Wake]


@pytest.mark.parametrize(("current", "expected"), [(12, 10), (1, 2)])
def test_the_bounds_hold_even_without_metrics(world: Any, current: int, expected: int) -> None:
    snapshot = a_snapshot(world, an_hpa(world, 2, 10), current, Metrics(error="none"))
    assert writes(autoscaler.reconcile(snapshot, world.now))[0] == expected


def test_a_target_at_zero_is_left_there(world: Any) -> None:
    replicas, hpa = writes(autoscaler.reconcile(a_snapshot(world, an_hpa(world), 0, Metrics()), world.now))
    assert replicas is None
    assert condition(hpa, "ScalingActive")["reason"] == "ScalingDisabled"


def test_a_missing_target_is_said(world: Any) -> None:
    snapshot = Snapshot(an_hpa(world), None, "deployments.apps 'web' not found")
    _, hpa = writes(autoscaler.reconcile(snapshot, world.now))
    found = condition(hpa, "AbleToScale")
    assert (found["status"], found["reason"]) == ("False", "FailedGetScale")


def test_a_controller_that_starts_anew_does_not_scale_down_at_once(world: Any) -> None:
    memory = Memory()
    hpa = an_hpa(world)
    snapshot = a_snapshot(world, hpa, 4, usage(world, 10, 10, 10, 10), memory)
    replicas, written = writes(autoscaler.reconcile(snapshot, world.now))
    assert replicas is None
    assert condition(written, "AbleToScale")["reason"] == "ScaleDownStabilized"
    world.pass_time(seconds=301)
    later = Snapshot(written, snapshot.scale, "", snapshot.pods, usage(world, 10, 10, 10, 10), memory)
    assert writes(autoscaler.reconcile(later, world.now))[0] == 1
