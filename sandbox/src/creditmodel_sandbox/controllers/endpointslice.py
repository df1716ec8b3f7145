"""EndpointSlices of each Service with a selector: which pods stand behind it, and in what state they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Create, Delete, Replace
from creditmodel_sandbox.objects import (
    ENDPOINT_SLICES,
    PODS,
    SERVICES,
    is_deleting,
    is_ready,
    matches,
    namespace_of,
    owner_reference,
    phase,
)

__all__ = ["CONTROLLER", "MANAGER", "Snapshot", "observe", "reconcile"]

MANAGER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
LARGEST = 100  # endpoints in a slice, Kubernetes' default

Ports = tuple[tuple[str, int, str, str | None], ...]  # name, port, protocol, appProtocol


@dataclass(frozen=True)
class Snapshot:
    """A Service with a selector, the pods that it selects, and the slices that it has."""

    service: Obj
    pods: tuple[Obj, ...]
    slices: tuple[Obj, ...] = ()


def observe(cache: Cache, key: str) -> Snapshot | None:
    """The snapshot of the Service `key`; None when it is gone (its slices go with it) or selects nothing by itself."""
    service = cache.get(SERVICES, key)
    if service is None or is_deleting(service) or not service["spec"].get("selector"):
        return None
    pods = tuple(pod for pod in cache.all(PODS, namespace_of(service)) if _selects(service, pod))
    slices = (s for s in cache.controlled(ENDPOINT_SLICES, service) if _is_ours(s) and not is_deleting(s))
    return Snapshot(service, pods, tuple(slices))


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:  # noqa: ARG001 - every controller's signature
    """Bring the slices to what the pods say."""
    return list(_update(snapshot))


def _selects(service: Obj, pod: Obj) -> bool:
    return matches({"matchLabels": service["spec"]["selector"]}, pod)


def _is_ours(endpoint_slice: Obj) -> bool:
    return (endpoint_slice["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER


def _update(snapshot: Snapshot) -> Iterator[Action]:
    free = sorted(snapshot.slices, key=key_of)
    for ports, endpoints in _wanted(snapshot):
        # The slice with these ports changes least; any other is better than a new one.
        present = next((s for s in free if _ports_of(s) == ports), free[0] if free else None)
        body = _body(snapshot.service, ports, endpoints)
        if present is None:
            yield Create(ENDPOINT_SLICES, body)
            continue
        free.remove(present)
        changed = {name: body[name] for name in ("endpoints", "ports") if body[name] != (present.get(name) or [])}
        labels = body["metadata"]["labels"]
        if changed or (present["metadata"].get("labels") or {}) != labels:
            yield Replace(ENDPOINT_SLICES, present | {"metadata": present["metadata"] | {"labels": labels}} | changed)
    for left in free:
        yield Delete(ENDPOINT_SLICES, left)


def _wanted(snapshot: Snapshot) -> Iterator[tuple[Ports, list[Obj]]]:
    """Each slice's ports and endpoints: pods whose named ports differ go apart. A Service always has a slice."""
    by_ports: defaultdict[Ports, list[Obj]] = defaultdict(list)
    for pod in sorted(snapshot.pods, key=key_of):
        if phase(pod) not in ("Succeeded", "Failed") and (pod.get("status") or {}).get("podIP"):
            by_ports[_ports(snapshot.service, pod)].append(_endpoint(snapshot.service, pod))
    for ports, endpoints in by_ports.items() or [((), [])]:
        for start in range(0, max(len(endpoints), 1), LARGEST):
            yield ports, endpoints[start : start + LARGEST]


def _ports(service: Obj, pod: Obj) -> Ports:
    """The Service's ports on this pod; a named target that the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        number = _target(port, pod)
        if number:
            found.append((port.get("name") or "", number, port.get("protocol") or "TCP", port.get("appProtocol")))
    return tuple(found)


def _target(port: Obj, pod: Obj) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or []:
        for named in container.get("ports") or []:
            same_protocol = (named.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
            if named.get("name") == target and same_protocol:
                return int(named["containerPort"])
    return None


def _endpoint(service: Obj, pod: Obj) -> Obj:
    serving, terminating = is_ready(pod), is_deleting(pod)
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    ready = published or (serving and not terminating)
    meta = pod["metadata"]
    endpoint = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": published or serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
    }
    return endpoint | ({"nodeName": pod["spec"]["nodeName"]} if pod["spec"].get("nodeName") else {})


def _ports_of(endpoint_slice: Obj) -> Ports:
    ports = endpoint_slice.get("ports") or []
    return tuple((p.get("name") or "", p["port"], p.get("protocol") or "TCP", p.get("appProtocol")) for p in ports)


def _body(service: Obj, ports: Ports, endpoints: list[Obj]) -> Obj:
    meta = service["metadata"]
    labels = {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    listed = [{"name": name, "port": port, "protocol": protocol} | ({"appProtocol": app} if app else {})
              for name, port, protocol, app in ports]  # fmt: skip
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": listed,
    }


def _of_pod(cache: Cache, pod: Obj) -> Iterator[str]:
    for service in cache.all(SERVICES, namespace_of(pod)):
        if service["spec"].get("selector") and _selects(service, pod):
            yield key_of(service)


def _of_slice(_: Cache, endpoint_slice: Obj) -> Iterator[str]:
    if _is_ours(endpoint_slice):
        yield f"{namespace_of(endpoint_slice)}/{endpoint_slice['metadata']['labels'].get(SERVICE_NAME)}"


CONTROLLER = Controller(
    "endpoint-slice-controller",
    {SERVICES: lambda _, obj: [key_of(obj)], PODS: _of_pod, ENDPOINT_SLICES: _of_slice},
    observe,
    reconcile,
)
