"""ReplicaSet → Pods: adopt and release by selector, create and delete to the wanted number, count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers.runtime import (
    Action,
    Cache,
    Controller,
    Create,
    Delete,
    Event,
    Patch,
    Replace,
    Wake,
)
from creditmodel_sandbox.objects import (
    PODS,
    REPLICA_SETS,
    age_of,
    condition,
    controller_of,
    format_time,
    is_active,
    is_available,
    is_deleting,
    is_ready,
    matches,
    namespace_of,
    owner_reference,
    phase,
    pod_from_template,
    ready_since,
)

__all__ = ["CONTROLLER", "Snapshot", "observe", "reconcile"]

FAILURE = "ReplicaFailure"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True)
class Snapshot:
    """A ReplicaSet, the pods that it controls, and those without a controller that its selector matches."""

    replica_set: Obj
    pods: tuple[Obj, ...]
    adoptable: tuple[Obj, ...] = ()


def observe(cache: Cache, key: str) -> Snapshot | None:
    """The snapshot of the ReplicaSet `key`, None when it is gone."""
    rs = cache.get(REPLICA_SETS, key)
    if rs is None:
        return None
    adoptable = (
        p for p in cache.orphans(PODS, namespace_of(rs)) if is_active(p) and matches(rs["spec"]["selector"], p)
    )
    return Snapshot(rs, tuple(cache.controlled(PODS, rs)), tuple(adoptable))


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """Claim pods, then create or delete, then say how many there are."""
    rs = snapshot.replica_set
    if not is_deleting(rs) and (claims := list(_claims(snapshot))):
        return claims  # their answers bring the next pass
    active = [pod for pod in snapshot.pods if is_active(pod)]
    status = _status(snapshot, active, now)
    if is_deleting(rs):
        return _write(rs, status)
    resized = _resize(rs, active, lambda why: _write(rs, _with_failure(rs, status, why, now)))
    return [*resized, *_write(rs, status), *_wakes(rs, active, now)]


def _claims(snapshot: Snapshot) -> Iterator[Patch]:
    rs = snapshot.replica_set
    for pod in snapshot.adoptable:
        references = [*(pod["metadata"].get("ownerReferences") or []), owner_reference(rs)]
        yield Patch(PODS, pod, {"metadata": {"ownerReferences": references}})
    for pod in snapshot.pods:
        if not matches(rs["spec"]["selector"], pod) and not is_deleting(pod):
            others = [ref for ref in pod["metadata"]["ownerReferences"] if ref["uid"] != rs["metadata"]["uid"]]
            yield Patch(PODS, pod, {"metadata": {"ownerReferences": others}})


def _resize(rs: Obj, active: list[Obj], refused: Callable[[str], Sequence[Action]]) -> Iterator[Action]:
    missing = rs["spec"].get("replicas", 1) - len(active)
    for _ in range(missing):
        event = Event(rs, "SuccessfulCreate", "Created pod: {name}")
        yield Create(PODS, pod_from_template(rs["spec"]["template"], rs), event, refused)
    on_node = Counter(pod["spec"].get("nodeName") for pod in active)
    for pod in sorted(active, key=lambda pod: _removal_rank(pod, on_node))[: max(-missing, 0)]:
        yield Delete(PODS, pod)
        yield Event(rs, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")


def _removal_rank(pod: Obj, on_node: Counter[str | None]) -> tuple[Any, ...]:
    """Least worth keeping first: not placed, not running, not ready, cheap, crowded, fresh, often restarted."""
    status = pod.get("status") or {}
    node = pod["spec"].get("nodeName")
    cost = int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, 0))
    restarts = sum(container.get("restartCount", 0) for container in status.get("containerStatuses") or [])
    return (
        bool(node),
        {"Pending": 0, "Unknown": 1}.get(status.get("phase", "Pending"), 2),
        is_ready(pod),
        cost,
        -on_node[node],
        -(ready_since(pod) or datetime.min.replace(tzinfo=UTC)).timestamp(),
        -restarts,
        -age_of(pod).timestamp(),
    )


def _status(snapshot: Snapshot, active: list[Obj], now: datetime) -> Obj:
    """What the status says when nothing is refused: no condition."""
    rs = snapshot.replica_set
    delay = rs["spec"].get("minReadySeconds", 0)
    terminating = [p for p in snapshot.pods if is_deleting(p) and phase(p) not in ("Succeeded", "Failed")]
    template_labels = {"matchLabels": (rs["spec"]["template"].get("metadata") or {}).get("labels") or {}}
    counts = {
        "fullyLabeledReplicas": sum(matches(template_labels, pod) for pod in active),
        "readyReplicas": sum(map(is_ready, active)),
        "availableReplicas": sum(is_available(pod, delay, now) for pod in active),
        "observedGeneration": rs["metadata"].get("generation", 0),
    }
    status = {name: count for name, count in counts.items() if count}
    return status | {"replicas": len(active), "terminatingReplicas": len(terminating)}


def _with_failure(rs: Obj, status: Obj, message: str, now: datetime) -> Obj:
    """The status after a pod was refused. The first refusal stays, until there is none."""
    new = {"type": FAILURE, "status": "True", "reason": "FailedCreate", "message": message}
    return status | {"conditions": [condition(rs, FAILURE) or new | {"lastTransitionTime": format_time(now)}]}


def _write(rs: Obj, status: Obj) -> list[Action]:
    unchanged = status == (rs.get("status") or {})
    return [] if unchanged else [Replace(REPLICA_SETS, rs | {"status": status}, "status")]


def _wakes(rs: Obj, active: list[Obj], now: datetime) -> Iterator[Wake]:
    delay = rs["spec"].get("minReadySeconds", 0)
    for pod in active if delay else ():
        if (since := ready_since(pod)) and not is_available(pod, delay, now):
            yield Wake(since + timedelta(seconds=delay))


def _of_pod(cache: Cache, pod: Obj) -> Iterator[str]:
    owner = controller_of(pod)
    if owner.get("kind") == "ReplicaSet":
        yield f"{namespace_of(pod)}/{owner['name']}"
    elif not owner:
        yield from (
            key_of(r) for r in cache.all(REPLICA_SETS, namespace_of(pod)) if matches(r["spec"]["selector"], pod)
        )


CONTROLLER = Controller(
    "replicaset-controller",
    {REPLICA_SETS: lambda _, obj: [key_of(obj)], PODS: _of_pod},
    observe,
    reconcile,
)
