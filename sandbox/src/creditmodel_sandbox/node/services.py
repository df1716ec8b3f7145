"""Which backends a Service has: pure, from Services and Pods.

The pods that the selector matches are asked, and not EndpointSlices: a real API server refuses loopback addresses
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from creditmodel_sandbox import notation
from creditmodel_sandbox.node.probes import port_number

__all__ = ["Address", "backends", "matches"]

Obj = Mapping[str, Any]
Address = tuple[str, int]


def matches(service: Obj, pod: Obj) -> bool:
    """Whether the pod is in the Service's namespace and has every label of its selector. No selector, no match."""
    selector = service["spec"].get("selector") or {}
    if not selector or service["metadata"].get("namespace") != pod["metadata"].get("namespace"):
        return False
    return notation.matches({"matchLabels": selector}, pod["metadata"].get("labels") or {})


def _conditions(pod: Obj) -> set[str]:
    return {c["type"] for c in pod.get("status", {}).get("conditions") or [] if c["status"] == "True"}


def _serving(service: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """Ready pods; when every one of those is being deleted, these, so that a last one still answers while it drains."""
    addressed = [
        p for p in pods if p.get("status", {}).get("podIP") and p["status"].get("phase") in {"Pending", "Running"}
    ]
    if not service["spec"].get("publishNotReadyAddresses"):
        addressed = [pod for pod in addressed if "Ready" in _conditions(pod)]
    staying = [pod for pod in addressed if not pod["metadata"].get("deletionTimestamp")]
    return staying or addressed


def backends(service: Obj, pods: Iterable[Obj]) -> dict[Address, tuple[Address, ...]]:
    """Each cluster IP and TCP port of the Service, and where connections to it may go. `pods` are those that match.
    A Service without a selector is left alone."""
    spec = service["spec"]
    if not spec.get("selector"):
        return {}
    addresses = [
        ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None" and ":" not in ip
    ]
    serving = _serving(service, pods)
    found: dict[Address, tuple[Address, ...]] = {}
    for port in spec.get("ports") or []:
        if port.get("protocol", "TCP") == "TCP":
            targets = tuple(sorted(target for pod in serving for target in _target(pod, port)))
            found |= {(ip, port["port"]): targets for ip in addresses}
    return found


def _target(pod: Obj, port: Obj) -> list[Address]:
    wanted = port.get("targetPort") or port["port"]
    for container in pod["spec"]["containers"]:
        try:
            return [(pod["status"]["podIP"], port_number(container, wanted))]
        except ValueError:
            continue
    return []
