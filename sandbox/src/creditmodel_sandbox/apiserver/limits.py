"""What the sandbox would store without doing: refused where the result would be wrong, warned of where it may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from creditmodel_sandbox.apiserver.defaults import containers
from creditmodel_sandbox.apiserver.errors import not_implemented
from creditmodel_sandbox.apiserver.resources import Resource

__all__ = ["refuse", "warnings"]

JSON = dict[str, Any]

_TEMPLATES = {
    "pods": ("spec",),
    "deployments.apps": ("spec", "template", "spec"),
    "replicasets.apps": ("spec", "template", "spec"),
    "jobs.batch": ("spec", "template", "spec"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template", "spec"),
}
_UNUSED = {
    "affinity": "the sandbox's scheduler does not look at it",
    "hostAliases": "a pod of the sandbox uses the machine's name resolution",
    "dnsConfig": "a pod of the sandbox uses the machine's name resolution",
}


def refuse(resource: Resource, obj: JSON) -> None:
    """Raises ApiError 501 for what would be wrong if it were only stored."""
    if resource.custom is None:
        for what in _missing(resource.storage, obj.get("spec") or {}):
            raise not_implemented(what)
        if obj.get("aggregationRule"):
            raise not_implemented("aggregation of ClusterRoles: list the rules")


def _missing(storage: str, spec: JSON) -> Iterator[str]:
    match storage:
        case "services":
            if spec.get("type", "ClusterIP") != "ClusterIP":
                yield f"Services of type {spec['type']}: use ClusterIP"
            if spec.get("sessionAffinity", "None") != "None":
                yield "session affinity: leave sessionAffinity out"
            if "IPv6" in (spec.get("ipFamilies") or ()) or spec.get("ipFamilyPolicy") == "RequireDualStack":
                yield "IPv6: use the family IPv4"
            if spec.get("externalIPs"):
                yield "external addresses of Services: leave externalIPs out"
            for port in spec.get("ports") or ():
                if port.get("protocol", "TCP") != "TCP":
                    yield f"Service ports with {port['protocol']}: use TCP"
        case "jobs.batch" if spec.get("completionMode") == "Indexed":
            yield "Indexed Jobs: use the completion mode NonIndexed"
        case "horizontalpodautoscalers.autoscaling" if spec.get("behavior"):
            yield "an autoscaler's behavior: leave it out, for Kubernetes' defaults"
        case "cronjobs.batch":
            yield from _missing("jobs.batch", (spec.get("jobTemplate") or {}).get("spec") or {})
        case _:
            pass


def warnings(resource: Resource, obj: JSON, old: JSON | None) -> list[str]:
    """What the answer to a write warns of: fields that are kept and have no effect. `old` is None for a new object."""
    return list(_warnings(resource.storage, obj, old)) if resource.custom is None else []


def _warnings(storage: str, obj: JSON, old: JSON | None) -> Iterator[str]:
    if storage == "pods" and old is not None:
        if _images(obj) != _images(old):
            yield "spec.containers[*].image: the sandbox's node does not start a container again for another image"
    elif path := _TEMPLATES.get(storage):
        yield from _pod_warnings(".".join(path), _at(obj, path))
    elif storage == "services" and _is_served(obj["spec"]) and not obj["spec"].get("selector"):
        yield "spec.selector: the sandbox forwards to pods that a selector finds, so this Service refuses connections"


def _images(pod: JSON) -> list[Any]:
    return [container.get("image") for _, _, container in containers(pod["spec"])]


def _is_served(spec: JSON) -> bool:
    return spec.get("clusterIP") != "None"


def _pod_warnings(path: str, spec: JSON) -> Iterator[str]:
    for name, why in _UNUSED.items():
        if spec.get(name):
            yield f"{path}.{name}: no effect: {why}"
    if any(port.get("hostPort") for _, _, container in containers(spec) for port in container.get("ports") or ()):
        yield f"{path}.containers[*].ports[*].hostPort: no effect: a pod has an address of its own"
    rules = spec.get("topologySpreadConstraints") or ()
    if any(rule.get("whenUnsatisfiable") == "DoNotSchedule" for rule in rules):
        yield f"{path}.topologySpreadConstraints: no effect: the sandbox's scheduler does not look at them"


def _at(obj: JSON, path: tuple[str, ...]) -> JSON:
    for name in path:
        obj = obj.get(name) or {}
    return obj
