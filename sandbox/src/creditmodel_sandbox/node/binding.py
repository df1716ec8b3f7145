"""Binding of pending pods to this node, for an API server that has no scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from creditmodel_sandbox.client import STRATEGIC_PATCH, ApiError, Client, ClientError, Resource
from creditmodel_sandbox.node.environment import quantity
from creditmodel_sandbox.node.events import Recorder
from creditmodel_sandbox.node.lifecycle import rfc3339
from creditmodel_sandbox.node.register import LEASES

__all__ = ["Binder", "misfit", "requests_of"]

Obj = Mapping[str, Any]
PODS = Resource("v1", "pods", "Pod")
LOOK_AGAIN_SECONDS = 5.0
_OWN_TAINT = "node.kubernetes.io/not-ready"
log = logging.getLogger(__name__)


def requests_of(pod: Obj, resource: str) -> float:
    """What a scheduler counts: the containers together, or the largest init container if that is more."""
    spec = pod["spec"]

    def of(container: Obj) -> float:
        given = container.get("resources") or {}
        amounts = {**(given.get("limits") or {}), **(given.get("requests") or {})}
        return quantity(amounts.get(resource, "0"))

    largest = max(map(of, spec.get("initContainers") or []), default=0.0)
    return max(sum(map(of, spec["containers"])), largest)


def misfit(pod: Obj, node: Obj, others: Iterable[Obj]) -> str:
    """Why the pod cannot run on the node, "" when it can. `others` are the pods that run there."""
    spec = pod["spec"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "1 node(s) didn't match Pod's node affinity/selector"
    if node.get("spec", {}).get("unschedulable"):
        return "1 node(s) were unschedulable"
    for taint in node.get("spec", {}).get("taints") or []:
        # Nobody may be there to remove the taint of a new node; the binder itself is proof that it is ready.
        if taint["effect"] != "PreferNoSchedule" and taint["key"] != _OWN_TAINT and not _tolerates(spec, taint):
            return f"1 node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    running = list(others)
    for resource in ("cpu", "memory"):
        free = quantity(node["status"]["allocatable"][resource]) - sum(requests_of(p, resource) for p in running)
        if requests_of(pod, resource) > free:
            return f"1 Insufficient {resource}"
    return "" if len(running) < quantity(node["status"]["allocatable"]["pods"]) else "1 Too many pods"


def _tolerates(spec: Obj, taint: Obj) -> bool:
    for toleration in spec.get("tolerations") or []:
        key_fits = toleration.get("key", taint["key"]) == taint["key"]
        any_value = toleration.get("operator") == "Exists"
        value_fits = any_value or toleration.get("value", "") == taint.get("value", "")
        if key_fits and value_fits and toleration.get("effect", taint["effect"]) == taint["effect"]:
            return True
    return False


class Binder:
    """Binds pods that nobody else binds. `mode` is auto (only while no scheduler is alive), always or never."""

    def __init__(
        self,
        client: Client,
        events: Recorder,
        mode: str,
        node: Callable[[], Obj | None],
        pods: Callable[[], Iterable[Obj]],
    ) -> None:
        self._client, self._events, self._mode, self._node, self._pods = client, events, mode, node, pods
        self._wake = asyncio.Event()

    def pod_is_pending(self) -> None:
        """A pod without a node was seen, or room was made."""
        self._wake.set()

    async def run(self) -> None:
        """Bind until cancelled."""
        left = False
        while self._mode != "never":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS if left else None):
                    await self._wake.wait()
            self._wake.clear()
            left = await self._round()

    async def _round(self) -> bool:
        """Bind what is pending; say whether pods are left to look at again."""
        pending, node = [pod for pod in self._pods() if _waits_for_a_node(pod)], self._node()
        if not pending:
            return False
        if node is None:  # deleted by somebody; it is registered again soon
            return True
        try:
            if self._mode == "auto" and await self._scheduler_is_alive():
                return True
            name = node["metadata"]["name"]
            running = [p for p in self._pods() if p["spec"].get("nodeName") == name and not _is_over(p)]
            for pod in pending:
                if await self._bind(pod, node, running):
                    running.append(pod)
        except ClientError as e:
            log.warning("binding: %s", e)
        return True

    async def _scheduler_is_alive(self) -> bool:
        try:
            lease = await self._client.get(LEASES, "kube-system", "kube-scheduler")
        except ApiError as e:
            if e.code == 404:
                return False
            raise
        spec = lease.get("spec") or {}
        if not spec.get("renewTime") or not spec.get("holderIdentity"):
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])
        return age.total_seconds() < 2 * float(spec.get("leaseDurationSeconds") or 15)

    async def _bind(self, pod: Obj, node: Obj, running: list[Obj]) -> bool:
        metadata, name = pod["metadata"], node["metadata"]["name"]
        if reason := misfit(pod, node, running):
            await self._unschedulable(pod, f"0/1 nodes are available: {reason}.")
            return False
        target = {"apiVersion": "v1", "kind": "Node", "name": name}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"], "uid": metadata["uid"]}}
        try:
            await self._client.create(
                PODS, metadata["namespace"], {**body, "target": target}, metadata["name"], "binding"
            )
        except ApiError as e:
            if e.code not in {404, 409}:  # gone, or bound by another: both are fine
                raise
            return False
        message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {name}"
        self._events.emit(pod, "Normal", "Scheduled", message)
        return True

    async def _unschedulable(self, pod: Obj, message: str) -> None:
        old = [c for c in pod.get("status", {}).get("conditions") or [] if c["type"] == "PodScheduled"]
        if old and old[0].get("message") == message:
            return
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        condition["lastTransitionTime"] = rfc3339(time.time())
        metadata = pod["metadata"]
        patch = {"status": {"conditions": [condition]}}
        self._events.emit(pod, "Warning", "FailedScheduling", message)
        await self._client.patch(PODS, metadata["namespace"], metadata["name"], patch, "status", STRATEGIC_PATCH)


def _waits_for_a_node(pod: Obj) -> bool:
    spec = pod["spec"]
    ours = spec.get("schedulerName", "default-scheduler") == "default-scheduler"
    free = not (spec.get("nodeName") or spec.get("schedulingGates") or pod["metadata"].get("deletionTimestamp"))
    return ours and free


def _is_over(pod: Obj) -> bool:
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
