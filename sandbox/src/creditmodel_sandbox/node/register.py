"""The Node object and its Lease: registered once, then kept fresh as the kubelet does."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from creditmodel_sandbox.client import STRATEGIC_PATCH, ApiError, Client, ClientError
from creditmodel_sandbox.node.lifecycle import rfc3339
from creditmodel_sandbox.objects import LEASES, NAMESPACES, NODES, is_ready

__all__ = ["Registration", "capacity", "node_object"]

_LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS, RENEW_SECONDS, STATUS_SECONDS = 40, 10, 300
KUBELET_VERSION = "v1.36.0"
log = logging.getLogger(__name__)


def capacity() -> dict[str, str]:
    """What this machine has, in Kubernetes' quantities."""
    disk = os.statvfs("/")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki",
        "ephemeral-storage": f"{disk.f_frsize * disk.f_blocks // 1024}Ki",
        "pods": "500",
    }


def node_object(name: str, address: str, port: int, now: float, *, ready: bool, since: str = "") -> dict[str, Any]:
    """The Node as it should be. `port` is the kubelet's; `since` is when its readiness last changed."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture}
    rows = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "the node has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "the node has sufficient process ids available"),
        ("Ready", "True", "KubeletReady", "the node runs pods as local processes")
        if ready
        else ("Ready", "False", "NodeShutdown", "the node was stopped"),
    ]
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": rfc3339(now),
            "lastTransitionTime": since or rfc3339(now),
        }
        for kind, status, reason, message in rows
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {
            "capacity": capacity(),
            "allocatable": capacity(),
            "addresses": [{"type": "InternalIP", "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": conditions,
            "nodeInfo": _node_info(architecture),
        },
    }


def _node_info(architecture: str) -> dict[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = Path("/etc/machine-id")
    return {
        "machineID": machine.read_text().strip() if machine.exists() else "",
        "systemUUID": "",
        "bootID": boot,
        "kernelVersion": platform.release(),
        "osImage": "Linux",
        "containerRuntimeVersion": "creditmodel-sandbox://0.1.0",
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture,
    }


class Registration:
    """Keeps one Node and its Lease. `period` is between two renewals, in seconds."""

    def __init__(self, client: Client, name: str, address: str, port: int, period: float = RENEW_SECONDS) -> None:
        self._client, self._name, self._address, self._port = client, name, address, port
        self._period = period
        self._since = rfc3339(time.time())

    async def register(self) -> dict[str, Any]:
        """Create the Node, or take over the one of this name; then say that it is ready."""
        body = self._node(ready=True)
        try:
            await self._client.create(NODES, "", {**body, "status": {}})
        except ApiError as e:
            if e.reason != "AlreadyExists":
                raise
            await self._client.patch(NODES, "", self._name, {"metadata": {"labels": body["metadata"]["labels"]}})
        await self._renew()
        return await self._report(ready=True)

    def _node(self, *, ready: bool) -> dict[str, Any]:
        return node_object(self._name, self._address, self._port, time.time(), ready=ready, since=self._since)

    async def _report(self, *, ready: bool) -> dict[str, Any]:
        patch = {"status": self._node(ready=ready)["status"]}
        return await self._client.patch(NODES, "", self._name, patch, "status", STRATEGIC_PATCH)

    async def run(self) -> None:
        """Renew the Lease and, rarely, the Node's status, until cancelled. A node that the control plane has come to
        think lost, or that was deleted, says at once that it is there.
        """
        reported = time.monotonic()
        while True:
            await asyncio.sleep(self._period)
            try:
                await self._renew()
                node = await self._client.get(NODES, "", self._name)
                if not is_ready(node) or time.monotonic() - reported >= STATUS_SECONDS:
                    await self._report(ready=True)
                    reported = time.monotonic()
            except ClientError as e:
                log.warning("node %s: %s", self._name, e)
                if isinstance(e, ApiError) and e.code == 404:
                    await self._register_again()

    async def _register_again(self) -> None:
        try:
            await self.register()
        except ClientError as e:
            log.warning("node %s: %s", self._name, e)

    async def stop(self) -> None:
        """Say that the node is not ready any more."""
        self._since = rfc3339(time.time())
        try:
            async with asyncio.timeout(2):
                await self._report(ready=False)
        except (ClientError, TimeoutError) as e:
            log.info("node %s: its end could not be reported: %s", self._name, e)

    async def _renew(self) -> None:
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renewed}
        try:
            await self._client.patch(LEASES, _LEASE_NAMESPACE, self._name, {"spec": spec})
        except ApiError as e:
            if e.code != 404:
                raise
            await self._create_lease(spec)

    async def _create_lease(self, spec: dict[str, Any]) -> None:
        node = await self._client.get(NODES, "", self._name)
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": node["metadata"]["uid"]}
        metadata = {"name": self._name, "namespace": _LEASE_NAMESPACE, "ownerReferences": [owner]}
        body = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
        try:
            await self._client.create(LEASES, _LEASE_NAMESPACE, body)
        except ApiError as e:
            if e.code != 404:
                raise
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _LEASE_NAMESPACE}}
            await self._client.create(NAMESPACES, "", namespace)
            await self._client.create(LEASES, _LEASE_NAMESPACE, body)
