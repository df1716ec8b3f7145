"""PodDisruptionBudget status: how many of its pods are healthy, must be, and may be disturbed now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Event, Replace, Wake
from creditmodel_sandbox.objects import (
    DEPLOYMENTS,
    PDBS,
    PODS,
    REPLICA_SETS,
    controller_of,
    int_or_percent,
    is_deleting,
    is_ready,
    matches,
    namespace_of,
    parse_time,
    with_condition,
)

__all__ = ["CONTROLLER", "Snapshot", "observe", "reconcile"]

# An eviction is noted in disruptedPods and forgotten if the pod is still there this long after.
DISRUPTION_TIMEOUT = timedelta(minutes=2)


@dataclass(frozen=True)
class Snapshot:
    """A budget, the pods that it covers, and the size their controllers want (None: one of them cannot scale)."""

    budget: Obj
    pods: tuple[Obj, ...]
    scale: int | None


def observe(cache: Cache, key: str) -> Snapshot | None:
    """The snapshot of the budget `key`, None when it is gone."""
    budget = cache.get(PDBS, key)
    if budget is None:
        return None
    pods = tuple(p for p in cache.all(PODS, namespace_of(budget)) if matches(budget["spec"].get("selector"), p))
    return Snapshot(budget, pods, _scale(cache, pods))


def _scale(cache: Cache, pods: Sequence[Obj]) -> int | None:
    """The replicas that the pods' controllers want together; a pod without one does not count."""
    sizes: dict[str, int] = {}
    for pod in filter(controller_of, pods):
        controller = _top_controller(cache, pod)
        if controller is None:
            return None
        sizes[controller["metadata"]["uid"]] = int(controller["spec"].get("replicas", 1))
    return sum(sizes.values())


def _top_controller(cache: Cache, pod: Obj) -> Obj | None:
    """The Deployment or ReplicaSet whose size counts."""
    owner = controller_of(pod)
    rs = cache.get(REPLICA_SETS, f"{namespace_of(pod)}/{owner['name']}") if owner.get("kind") == "ReplicaSet" else None
    above = controller_of(rs) if rs else {}
    deployment = cache.get(DEPLOYMENTS, f"{namespace_of(pod)}/{above['name']}") if above else None
    return deployment or rs


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """Bring the status up to date."""
    return list(_update(snapshot, now))


def _update(snapshot: Snapshot, now: datetime) -> Iterator[Action]:
    budget = snapshot.budget
    old = budget.get("status") or {}
    expected, desired = _expected(snapshot)
    disrupted = _still_disrupted(snapshot, now)
    healthy = sum(
        is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in disrupted for pod in snapshot.pods
    )
    failed = expected is None
    allowed = max(healthy - desired, 0) if expected else 0
    reason = "SyncFailed" if failed else "SufficientPods" if allowed else "InsufficientPods"
    generation = budget["metadata"].get("generation", 0)
    condition = {
        "type": "DisruptionAllowed", "status": "True" if allowed else "False", "reason": reason,
        "message": "found no controller with a scale for a pod" if failed else "", "observedGeneration": generation,
    }  # fmt: skip
    status = {
        "expectedPods": expected or 0,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "observedGeneration": generation,
        "conditions": with_condition(old.get("conditions") or [], condition, now),
    }
    status |= {"disruptedPods": disrupted} if disrupted else {}
    if status != old:
        yield Replace(PDBS, budget | {"status": status}, "status")
        if failed:
            yield Event(budget, "NoControllers", condition["message"], "Warning")
    for time in map(parse_time, disrupted.values()):
        if time:
            yield Wake(time + DISRUPTION_TIMEOUT)


def _expected(snapshot: Snapshot) -> tuple[int | None, int]:
    """(pods expected, pods that must be healthy); None when a share is asked of pods that nothing scales."""
    spec = snapshot.budget["spec"]
    least = spec.get("minAvailable")
    if isinstance(least, int):
        return len(snapshot.pods), least
    if snapshot.scale is None:
        return None, 0
    if least is not None:
        return snapshot.scale, int_or_percent(least, snapshot.scale, round_up=True)
    most = spec.get("maxUnavailable")
    if most is None:
        return snapshot.scale, 0
    return snapshot.scale, max(snapshot.scale - int_or_percent(most, snapshot.scale, round_up=True), 0)


def _still_disrupted(snapshot: Snapshot, now: datetime) -> dict[str, str]:
    """Pods whose eviction was granted and is not yet under way."""
    noted = (snapshot.budget.get("status") or {}).get("disruptedPods") or {}
    waiting = {pod["metadata"]["name"] for pod in snapshot.pods if not is_deleting(pod)}
    return {
        name: time
        for name, time in noted.items()
        if name in waiting and (parse_time(time) or now) + DISRUPTION_TIMEOUT > now
    }


def _of_pod(cache: Cache, pod: Obj) -> Iterator[str]:
    yield from (key_of(b) for b in cache.all(PDBS, namespace_of(pod)) if matches(b["spec"].get("selector"), pod))


def _of_scale(cache: Cache, obj: Obj) -> Iterator[str]:
    """A new size changes what is expected: the budgets that cover the template's pods look again."""
    template = {"metadata": obj["spec"]["template"].get("metadata") or {}}
    for budget in cache.all(PDBS, namespace_of(obj)):
        if matches(budget["spec"].get("selector"), template):
            yield key_of(budget)


CONTROLLER = Controller(
    "controllermanager",
    {PDBS: lambda _, obj: [key_of(obj)], PODS: _of_pod, DEPLOYMENTS: _of_scale, REPLICA_SETS: _of_scale},
    observe,
    reconcile,
)
