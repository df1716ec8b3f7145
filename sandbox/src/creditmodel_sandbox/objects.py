"""Reading and building objects, for controllers and node: kinds, time, owners, selectors, conditions, pods, numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from creditmodel_sandbox import notation
from creditmodel_sandbox.client import Obj, Resource
from creditmodel_sandbox.notation import format_time, parse_quantity

__all__ = [
    "CONFIG_MAPS",
    "CRDS",
    "CRON_JOBS",
    "DEPLOYMENTS",
    "ENDPOINT_SLICES",
    "HPAS",
    "JOBS",
    "LEASES",
    "NAMESPACES",
    "NODES",
    "PDBS",
    "PODS",
    "REPLICA_SETS",
    "SECRETS",
    "SERVICES",
    "SERVICE_ACCOUNTS",
    "age_of",
    "condition",
    "condition_time",
    "controller_of",
    "format_time",
    "int_or_percent",
    "is_active",
    "is_available",
    "is_deleting",
    "is_ready",
    "matches",
    "namespace_of",
    "owner_reference",
    "parse_time",
    "phase",
    "pod_from_template",
    "quantity",
    "ready_since",
    "resource_total",
    "short_hash",
    "with_condition",
    "without_zeros",
]

PODS = Resource("v1", "pods", "Pod")
NODES = Resource("v1", "nodes", "Node", namespaced=False)
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
SECRETS = Resource("v1", "secrets", "Secret")
SERVICES = Resource("v1", "services", "Service")
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps/v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch/v1", "jobs", "Job")
CRON_JOBS = Resource("batch/v1", "cronjobs", "CronJob")
HPAS = Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
PDBS = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)

# --- time ------------------------------------------------------------------------------------------------------------


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time of the API, or None."""
    return datetime.fromisoformat(text) if text else None


def age_of(obj: Obj) -> datetime:
    """When the object was created."""
    return parse_time(obj["metadata"].get("creationTimestamp")) or datetime.min.replace(tzinfo=UTC)


# --- identity and ownership ------------------------------------------------------------------------------------------


def namespace_of(obj: Obj) -> str:
    """The namespace, "" for what has none."""
    return obj["metadata"].get("namespace") or ""


def is_deleting(obj: Obj) -> bool:
    """Whether deletion has begun."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_of(obj: Obj) -> Obj:
    """The owner reference with controller: true, {} without one."""
    return next((ref for ref in obj["metadata"].get("ownerReferences") or [] if ref.get("controller")), {})


def owner_reference(owner: Obj, *, controller: bool = True) -> Obj:
    """A reference that makes `owner` the controller and holds back its foreground deletion."""
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def short_hash(text: str, length: int = 10) -> str:
    """Letters and digits that spell no word, as Kubernetes has them in generated names."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(alphabet[byte % len(alphabet)] for byte in hashlib.sha256(text.encode()).digest()[:length])


# --- selectors -------------------------------------------------------------------------------------------------------


def matches(selector: Obj | None, obj: Obj) -> bool:
    """A LabelSelector against an object's labels. No selector matches nothing, an empty one everything."""
    return notation.matches(selector, obj["metadata"].get("labels") or {})


# --- conditions ------------------------------------------------------------------------------------------------------


def condition(obj: Obj, kind: str) -> Obj:
    """One condition of an object's status, {} without it."""
    return next((c for c in (obj.get("status") or {}).get("conditions") or [] if c["type"] == kind), {})


def condition_time(found: Obj) -> datetime | None:
    """When the condition last changed its status."""
    return parse_time(found.get("lastTransitionTime"))


def with_condition(conditions: Iterable[Obj], new: Obj, now: datetime) -> list[Obj]:
    """The list with `new` in its place; lastTransitionTime moves only when the status does."""
    result, placed = [], False
    for old in conditions:
        if old["type"] == new["type"]:
            same = old.get("status") == new["status"]
            old = new | {"lastTransitionTime": old.get("lastTransitionTime") if same else format_time(now)}
            placed = True
        result.append(old)
    return result if placed else [*result, new | {"lastTransitionTime": format_time(now)}]


def without_zeros(status: Obj) -> Obj:
    """The status as Kubernetes writes it: counts of zero and empty lists are left out."""
    return {name: value for name, value in status.items() if value not in (None, 0, [], {})}


# --- pods ------------------------------------------------------------------------------------------------------------


def phase(pod: Obj) -> str:
    """The pod's phase, "" before it has one."""
    return str((pod.get("status") or {}).get("phase") or "")


def is_active(pod: Obj) -> bool:
    """Neither finished nor being deleted."""
    return phase(pod) not in ("Succeeded", "Failed") and not is_deleting(pod)


def is_ready(pod: Obj) -> bool:
    """Whether the Ready condition is True."""
    return condition(pod, "Ready").get("status") == "True"


def ready_since(pod: Obj) -> datetime | None:
    """Since when the pod is ready, None while it is not."""
    return condition_time(condition(pod, "Ready")) if is_ready(pod) else None


def is_available(pod: Obj, min_ready_seconds: int, now: datetime) -> bool:
    """Ready for at least `min_ready_seconds`."""
    if not min_ready_seconds:
        return is_ready(pod)
    since = ready_since(pod)
    return since is not None and since + timedelta(seconds=min_ready_seconds) <= now


def pod_from_template(template: Obj, owner: Obj, *, finalizers: Sequence[str] = ()) -> Obj:
    """A new pod of `owner`, its name generated by the API server."""
    meta = template.get("metadata") or {}
    metadata = {
        "generateName": owner["metadata"]["name"] + "-",
        "namespace": namespace_of(owner),
        "labels": dict(meta.get("labels") or {}),
        "annotations": dict(meta.get("annotations") or {}),
        "finalizers": [*(meta.get("finalizers") or []), *finalizers],
        "ownerReferences": [owner_reference(owner)],
    }
    metadata = {name: value for name, value in metadata.items() if value}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


# --- numbers ---------------------------------------------------------------------------------------------------------


def quantity(value: str | float) -> float:
    """A resource quantity ("100m", "1Gi", "2e3") as a number."""
    return float(parse_quantity(value))


def int_or_percent(value: Any, total: int, *, round_up: bool) -> int:
    """An absolute number, or a share of `total` such as "25%"."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int(value)


def resource_total(pod: Obj, name: str, field: str = "requests") -> float:
    """What a pod's containers ask for together; an init container that asks for more counts instead."""

    def amount(container: Obj) -> float:
        return quantity(((container.get("resources") or {}).get(field) or {}).get(name) or 0)

    spec = pod["spec"]
    running = sum(amount(container) for container in spec.get("containers") or [])
    return max([running, *(amount(container) for container in spec.get("initContainers") or [])])
