"""The scheduler: binds each pending pod to the emptiest Ready node that has room for it, or says why none does.

All pending pods are one key, so that two decisions never spend the same room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from creditmodel_sandbox.client import ApiError, Client, ClientError, Obj, key_of
from creditmodel_sandbox.controllers.objects import (
    LEASES,
    NODES,
    PODS,
    age_of,
    condition,
    is_deleting,
    is_ready,
    parse_time,
    phase,
    quantity,
    resource_total,
    with_condition,
)
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Create, Event, Replace

__all__ = ["CONTROLLER", "AnotherScheduler", "Snapshot", "announce", "is_alive", "observe", "reconcile"]

log = logging.getLogger(__name__)

NAME = "default-scheduler"
RESOURCES = ("cpu", "memory", "pods")


@dataclass(frozen=True)
class Snapshot:
    """The pods that wait, oldest first, the nodes, and what each node's pods take of its RESOURCES."""

    pending: tuple[Obj, ...]
    nodes: tuple[Obj, ...]
    taken: dict[str, dict[str, float]] = field(default_factory=dict)


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """Place every pod that can be placed."""
    return list(_place(snapshot, now))


def _place(snapshot: Snapshot, now: datetime) -> Iterator[Action]:
    taken = {name: dict(amounts) for name, amounts in snapshot.taken.items()}
    for pod in snapshot.pending:
        reasons = {node["metadata"]["name"]: _obstacles(pod, node, taken) for node in snapshot.nodes}
        fitting = [node for node in snapshot.nodes if not reasons[node["metadata"]["name"]]]
        if not fitting:
            yield from _report(pod, reasons.values(), now)
            continue
        name = min(fitting, key=lambda node: _fullness(node, taken))["metadata"]["name"]
        node_taken = taken.setdefault(name, {})
        for resource, amount in _needs(pod).items():
            node_taken[resource] = node_taken.get(resource, 0) + amount
        yield from _bind(pod, name)


def _needs(pod: Obj) -> dict[str, float]:
    return {"cpu": resource_total(pod, "cpu"), "memory": resource_total(pod, "memory"), "pods": 1}


def _room(node: Obj, resource: str) -> float:
    return quantity(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))


def _fullness(node: Obj, taken: dict[str, dict[str, float]]) -> tuple[float, str]:
    name = node["metadata"]["name"]
    used = taken.get(name, {})
    return sum(used.get(r, 0) / (_room(node, r) or 1) for r in RESOURCES), name


def _obstacles(pod: Obj, node: Obj, taken: dict[str, dict[str, float]]) -> list[str]:
    """Why the pod cannot run there, in the scheduler's own words; empty when it can."""
    if not is_ready(node):
        return ["node(s) were not ready"]
    spec = node.get("spec") or {}
    if spec.get("unschedulable") and not _tolerates(pod, {"key": "node.kubernetes.io/unschedulable"}):
        return ["node(s) were unschedulable"]
    for taint in spec.get("taints") or []:
        # Where nothing removes the taint of a new node, its readiness is proof enough.
        stale = taint["key"] == "node.kubernetes.io/not-ready"
        if taint["effect"] != "PreferNoSchedule" and not stale and not _tolerates(pod, taint):
            return ["node(s) had untolerated taint(s)"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    used = taken.get(node["metadata"]["name"], {})
    short = [r for r, need in _needs(pod).items() if need and used.get(r, 0) + need > _room(node, r) + 1e-9]
    return ["Too many pods" if resource == "pods" else f"Insufficient {resource}" for resource in short]


def _tolerates(pod: Obj, taint: Obj) -> bool:
    for toleration in pod["spec"].get("tolerations") or []:
        key, effect = toleration.get("key", taint["key"]), toleration.get("effect", taint.get("effect"))
        exists = toleration.get("operator", "Equal") == "Exists"
        same_value = exists or toleration.get("value", "") == taint.get("value", "")
        if key == taint["key"] and effect == taint.get("effect", effect) and same_value:
            return True
    return False


def _bind(pod: Obj, node: str) -> Iterator[Action]:
    meta = pod["metadata"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
    yield Create(PODS, binding, name=meta["name"], subresource="binding")
    yield Event(pod, "Scheduled", f"Successfully assigned {key_of(pod)} to {node}")


def _report(pod: Obj, obstacles: Iterable[list[str]], now: datetime) -> Iterator[Action]:
    """The PodScheduled condition and a FailedScheduling Event, again only when the reason changes."""
    every = list(obstacles)
    counts = Counter(reason for reasons in every for reason in reasons)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    message = f"0/{len(every)} nodes are available: {listed}." if every else "no nodes available to schedule pods"
    new = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    old = condition(pod, "PodScheduled")
    if any(old.get(name) != value for name, value in new.items()):
        status = pod.get("status") or {}
        conditions = with_condition(status.get("conditions") or [], new, now)
        yield Replace(PODS, pod | {"status": status | {"conditions": conditions}}, "status")
        yield Event(pod, "FailedScheduling", message, "Warning")


def observe(cache: Cache, _: str) -> Snapshot | None:
    """All pending pods, or None when there is none."""
    pending = [pod for pod in cache.all(PODS) if _is_pending(pod)]
    if not pending:
        return None
    taken: dict[str, dict[str, float]] = {}
    for pod in cache.all(PODS):
        if (node := pod["spec"].get("nodeName")) and phase(pod) not in ("Succeeded", "Failed"):
            amounts = taken.setdefault(node, {})
            for resource, amount in _needs(pod).items():
                amounts[resource] = amounts.get(resource, 0) + amount
    return Snapshot(tuple(sorted(pending, key=lambda pod: (age_of(pod), key_of(pod)))), tuple(cache.all(NODES)), taken)


def _is_pending(pod: Obj) -> bool:
    spec = pod["spec"]
    waits = not spec.get("nodeName") and not spec.get("schedulingGates") and not is_deleting(pod)
    return waits and spec.get("schedulerName", NAME) == NAME and phase(pod) in ("", "Pending")


# A pod that ends makes room, so every pod and every node matters to those that wait.
CONTROLLER = Controller(NAME, {PODS: lambda *_: ["pending"], NODES: lambda *_: ["pending"]}, observe, reconcile)


# --- announcement ----------------------------------------------------------------------------------------------------

HOLDER = "creditmodel-sandbox"
RENEWAL, DURATION = timedelta(seconds=30), timedelta(seconds=40)


class AnotherScheduler(Exception):
    """A scheduler that is not the sandbox's holds the lease."""


async def announce(client: Client) -> None:
    """Hold the lease by which others (a node that would bind pods itself) see that a scheduler is alive.

    Runs until cancelled, and gives the lease back then. Raises AnotherScheduler.
    """
    while True:
        renewal = asyncio.create_task(_renew(client, datetime.now(UTC)))
        try:
            try:
                await asyncio.shield(renewal)
                pause = RENEWAL
            except ClientError as e:
                log.info("lease: %s", e)
                pause = timedelta(seconds=2)
            await asyncio.sleep(pause.total_seconds())
        except asyncio.CancelledError:
            await _release(client, renewal)
            raise


async def _release(client: Client, renewal: asyncio.Task[None]) -> None:
    """Give the lease back, if it is ours. A renewal that is under way comes first: it must not take effect later."""
    with contextlib.suppress(ClientError, TimeoutError):
        async with asyncio.timeout(2):
            await asyncio.gather(renewal, return_exceptions=True)
            lease = await client.get(LEASES, "kube-system", "kube-scheduler")
            if lease["spec"].get("holderIdentity") == HOLDER:
                await client.replace(LEASES, lease | {"spec": {**lease["spec"], "holderIdentity": ""}})


async def _renew(client: Client, now: datetime) -> None:
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {
        "holderIdentity": HOLDER,
        "leaseDurationSeconds": int(DURATION.total_seconds()),
        "renewTime": stamp,
    }
    try:
        lease = await client.get(LEASES, "kube-system", "kube-scheduler")
    except ApiError as e:
        if e.code != 404:
            raise
        meta = {"name": "kube-scheduler", "namespace": "kube-system"}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta}
        await client.create(LEASES, "kube-system", body | {"spec": spec | {"acquireTime": stamp}})
        return
    if holder := _foreign_holder(lease, now):
        raise AnotherScheduler(f"the scheduler {holder} is alive on this cluster")
    await client.replace(LEASES, lease | {"spec": {**lease["spec"], **spec}})


def _foreign_holder(lease: Obj, now: datetime) -> str:
    """Who else holds the lease now, "" for nobody."""
    holder = _holder(lease, now)
    return "" if holder == HOLDER else holder


def _holder(lease: Obj, now: datetime) -> str:
    spec = lease.get("spec") or {}
    renewed = parse_time(spec.get("renewTime"))
    if renewed is None or renewed + timedelta(seconds=spec.get("leaseDurationSeconds") or 15) < now:
        return ""
    return str(spec.get("holderIdentity") or "")


async def is_alive(client: Client) -> bool:
    """Whether a scheduler, of the sandbox or not, holds the lease. Raises ClientError."""
    try:
        return bool(_holder(await client.get(LEASES, "kube-system", "kube-scheduler"), datetime.now(UTC)))
    except ApiError as e:
        if e.code == 404:
            return False
        raise
