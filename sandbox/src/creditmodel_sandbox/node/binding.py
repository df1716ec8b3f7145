"""Binding pods to this node, for an API server that has no scheduler, or saying why one does not fit.

What does not fit here may fit another node of the cluster: each binds to itself, and the first one has the pod.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from creditmodel_sandbox.client import ApiError, Client, ClientError, Informer, Obj, key_of
from creditmodel_sandbox.events import Recorder
from creditmodel_sandbox.objects import (
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

__all__ = ["Binder", "obstacles", "pending", "used"]

SCHEDULER = "default-scheduler"
LOOK_AGAIN_SECONDS, API_PAUSE = 5.0, 1.0
log = logging.getLogger(__name__)

Room = dict[str, float]
"""Amounts of cpu, memory and pods."""


def pending(pods: Iterable[Obj]) -> list[Obj]:
    """The pods that wait for a scheduler, oldest first."""
    return sorted(filter(_is_pending, pods), key=lambda pod: (age_of(pod), key_of(pod)))


def _is_pending(pod: Obj) -> bool:
    spec = pod["spec"]
    waits = not spec.get("nodeName") and not spec.get("schedulingGates") and not is_deleting(pod)
    return waits and spec.get("schedulerName", SCHEDULER) == SCHEDULER and phase(pod) in ("", "Pending")


def needs(pod: Obj) -> Room:
    """What a pod takes."""
    return {"cpu": resource_total(pod, "cpu"), "memory": resource_total(pod, "memory"), "pods": 1}


def used(pods: Iterable[Obj], node: str) -> Room:
    """What the pods of a node take together."""
    total: Room = {}
    for pod in pods:
        if pod["spec"].get("nodeName") == node and phase(pod) not in ("Succeeded", "Failed"):
            total = add(total, needs(pod))
    return total


def add(one: Room, other: Room) -> Room:
    """Two amounts together."""
    return {resource: one.get(resource, 0) + amount for resource, amount in other.items()}


def obstacles(pod: Obj, node: Obj, taken: Room) -> list[str]:
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
    short = [r for r, need in needs(pod).items() if need and taken.get(r, 0) + need > _capacity(node, r) + 1e-9]
    return ["Too many pods" if resource == "pods" else f"Insufficient {resource}" for resource in short]


def _capacity(node: Obj, resource: str) -> float:
    return quantity(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))


def _tolerates(pod: Obj, taint: Obj) -> bool:
    for toleration in pod["spec"].get("tolerations") or []:
        key, effect = toleration.get("key", taint["key"]), toleration.get("effect", taint.get("effect"))
        exists = toleration.get("operator", "Equal") == "Exists"
        same_value = exists or toleration.get("value", "") == taint.get("value", "")
        if key == taint["key"] and effect == taint.get("effect", effect) and same_value:
            return True
    return False


class Binder:
    """Places pods on the node `name`. `mode` is auto (only while no scheduler is alive), always or never.

    `pods` are the pods of the whole cluster; whoever watches them calls `look` when one has changed.
    """

    def __init__(self, client: Client, name: str, mode: str, pods: Informer, events: Recorder) -> None:
        self._client, self._name, self._mode, self._pods, self._events = client, name, mode, pods, events
        self._node = Informer(client, NODES, lambda *_: self.look(), field_selector=f"metadata.name={name}")
        self._changed = asyncio.Event()
        self._wanted = mode == "always"
        self._told: dict[str, str] = {}
        """What was said of pods that do not fit, by uid."""

    def look(self) -> None:
        """Look again: what ended makes room, so every pod and the node matter to those that wait."""
        self._changed.set()

    async def run(self) -> None:
        """Place pods until cancelled."""
        if self._mode == "never":
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._node.run())
            group.create_task(self._place())
            if self._mode == "auto":
                group.create_task(self._look_for_a_scheduler())

    async def _look_for_a_scheduler(self) -> None:
        while True:
            try:
                self._wanted = not await _scheduler_is_alive(self._client)
            except ClientError as e:
                log.info("whether there is a scheduler is not known: %s", e)
                self._wanted = False
            self.look()
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _place(self) -> None:
        await self._node.synced.wait()
        while True:
            await self._changed.wait()
            self._changed.clear()
            node, waiting = self._node.store.get(self._name), pending(self._pods.store.values())
            if node and waiting and self._wanted:
                await self._pass(node, waiting)

    async def _pass(self, node: Obj, waiting: list[Obj]) -> None:
        taken = used(self._pods.store.values(), self._name)
        self._told = {pod["metadata"]["uid"]: self._told.get(pod["metadata"]["uid"], "") for pod in waiting}
        for pod in waiting:
            reasons = obstacles(pod, node, taken)
            try:
                await (self._report(pod, reasons) if reasons else self._bind(pod))
            except ClientError as e:
                log.info("pod %s: %s", key_of(pod), e)
                if not (isinstance(e, ApiError) and e.code in {404, 409}):  # of those the watch brings the cause
                    asyncio.get_running_loop().call_later(API_PAUSE, self.look)
                continue
            if not reasons:
                taken = add(taken, needs(pod))

    async def _bind(self, pod: Obj) -> None:
        meta = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._name},
        }
        await self._client.create(PODS, meta["namespace"], binding, meta["name"], "binding")
        message = f"Successfully assigned {key_of(pod)} to {self._name}"
        self._events.emit(SCHEDULER, pod, "Normal", "Scheduled", message)
        self._pods.observe(await self._client.get(PODS, meta["namespace"], meta["name"]))

    async def _report(self, pod: Obj, reasons: list[str]) -> None:
        """The PodScheduled condition and a FailedScheduling Event, again only when this node's reasons change."""
        message = f"0/1 nodes are available: {', '.join(f'1 {reason}' for reason in sorted(reasons))}."
        uid, status = pod["metadata"]["uid"], pod.get("status") or {}
        new = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        if self._told[uid] == message or new.items() <= condition(pod, "PodScheduled").items():
            return
        conditions = with_condition(status.get("conditions") or [], new, datetime.now(UTC))
        self._pods.observe(
            await self._client.replace(PODS, pod | {"status": status | {"conditions": conditions}}, "status")
        )
        self._told[uid] = message
        self._events.emit(SCHEDULER, pod, "Warning", "FailedScheduling", message)


async def _scheduler_is_alive(client: Client) -> bool:
    """Whether anybody holds kube-scheduler's lease. Raises ClientError."""
    try:
        spec = (await client.get(LEASES, "kube-system", "kube-scheduler")).get("spec") or {}
    except ApiError as e:
        if e.code == 404:
            return False
        raise
    renewed = parse_time(spec.get("renewTime"))
    lasts = timedelta(seconds=spec.get("leaseDurationSeconds") or 15)
    return bool(spec.get("holderIdentity")) and renewed is not None and renewed + lasts >= datetime.now(UTC)
