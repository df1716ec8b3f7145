"""The life of built-in kinds: what the server itself sets at creation and update, and how they are deleted."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from creditmodel_sandbox.apiserver.crd import CRD_FINALIZER, CRD_STORAGE, accept_names, check_definition
from creditmodel_sandbox.apiserver.defaults import containers
from creditmodel_sandbox.apiserver.errors import ApiError, FieldError, Invalid, forbidden, invalid_value, required
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.rules import check_kind, check_metadata
from creditmodel_sandbox.apiserver.storage import Store

__all__ = [
    "NAME_REQUIRED",
    "Addresses",
    "allocate",
    "begin_delete",
    "check",
    "check_delete",
    "grace_period",
    "holds",
    "is_replaced_by_version",
    "prepare_create",
    "prepare_update",
    "relevant",
    "start",
]

JSON = dict[str, Any]

NAME_REQUIRED = required("metadata.name", "name or generateName is required")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The range that Services get their addresses from."""

    services: ipaddress.IPv4Network


def prepare_create(resource: Resource, obj: JSON) -> None:
    """What the server adds to a new object before defaults and validation."""
    match resource.storage:
        case "namespaces":
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["status"] = {"phase": "Active"}
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        case "pods":
            obj["status"] = {"phase": "Pending", "qosClass": _quality(obj.get("spec") or {})}
        case "jobs.batch":
            _own_pods(obj)
        case storage if storage == CRD_STORAGE:
            obj["metadata"]["finalizers"] = [*obj["metadata"].get("finalizers", ()), CRD_FINALIZER]
            accept_names(obj, obj["metadata"]["creationTimestamp"])
        case _:
            pass


def _own_pods(job: JSON) -> None:
    """A Job selects its pods by its own uid, unless its author chose a selector."""
    spec = job.setdefault("spec", {})
    if spec.get("manualSelector"):
        return
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels[f"{prefix}controller-uid"] = uid
        labels[f"{prefix}job-name"] = name
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def _quality(spec: JSON) -> str:
    amounts = [container.get("resources") or {} for _, _, container in containers(spec)]
    if not any(amount.get("requests") or amount.get("limits") for amount in amounts):
        return "BestEffort"
    for amount in amounts:
        limits = amount.get("limits") or {}
        if set(limits) < {"cpu", "memory"} or {**limits, **(amount.get("requests") or {})} != limits:
            return "Burstable"
    return "Guaranteed"


def prepare_update(resource: Resource, new: JSON, old: JSON) -> None:
    """What an update may leave out and keeps."""
    match resource.storage:
        case "services":
            for name in ("clusterIP", "clusterIPs"):
                if not new.setdefault("spec", {}).get(name) and name in old["spec"]:
                    new["spec"][name] = old["spec"][name]
        case "jobs.batch":
            kept = new.setdefault("spec", {})
            kept.setdefault("selector", old["spec"].get("selector"))
            template = kept.setdefault("template", {}).setdefault("metadata", {})
            labels = old["spec"]["template"].get("metadata", {}).get("labels", {})
            owned = {key: value for key, value in labels.items() if key.endswith(("controller-uid", "job-name"))}
            template["labels"] = {**(template.get("labels") or {}), **owned}
        case "pods":
            for name in ("nodeName", "serviceAccountName"):
                if name in old.get("spec", {}):
                    new.setdefault("spec", {}).setdefault(name, old["spec"][name])
        case "namespaces":
            new["spec"] = old.get("spec", {})
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
        case _:
            pass


def start(resource: Resource, obj: JSON) -> None:
    """Give a built-in object the structs that Go writes even when they are empty."""
    if resource.custom is None:
        for name in ("spec", "status"):
            if name in resource.node.properties:
                obj.setdefault(name, {})


def relevant(resource: Resource, errors: list[FieldError]) -> list[FieldError]:
    """Of a built-in kind's schema errors, those that Kubernetes reports: it never requires a field of a status."""
    # Schemas list as required what Go always writes; where an empty value is legal there, its absence is too. Owners
    # are judged with the rest of the metadata.
    ignored = r"metadata\.(managedFields|ownerReferences)"
    if resource.custom is None:
        ignored += r"|status\b|spec\.template\.metadata"
    return [error for error in errors if not re.match(ignored, error.field)]


def check(resource: Resource, obj: JSON, old: JSON | None) -> list[FieldError]:
    """What is wrong with an object beyond its schema."""
    errors = list(check_metadata(resource.storage, obj["metadata"])) if _metadata_changed(obj, old) else []
    errors += _new_finalizers(obj["metadata"], (old or {}).get("metadata") or {})
    if resource.storage == CRD_STORAGE:
        return errors + check_definition(obj, old)
    unchanged = old is not None and obj.get("spec") == old.get("spec") and "spec" in obj
    return errors if resource.custom is not None or unchanged else errors + check_kind(resource.storage, obj, old)


def _new_finalizers(meta: JSON, before: JSON) -> list[FieldError]:
    """What is being deleted cannot be held back by more than held it."""
    added = [name for name in meta.get("finalizers") or () if name not in (before.get("finalizers") or ())]
    if not added or "deletionTimestamp" not in before:
        return []
    names = ", ".join(f'"{name}"' for name in added)
    text = "no new finalizers can be added if the object is being deleted, found new finalizers"
    return [FieldError("metadata.finalizers", "FieldValueForbidden", f"Forbidden: {text} []string{{{names}}}")]


def _metadata_changed(obj: JSON, old: JSON | None) -> bool:
    return old is None or obj["metadata"] != old["metadata"]


def allocate(resource: Resource, obj: JSON, addresses: Addresses, store: Store) -> None:
    """Give a new Service its address."""
    if resource.storage != "services":
        return
    spec = obj["spec"]
    used = {record.fields.get("spec.clusterIP") for record in store.collection("services").records.values()}
    if not spec.get("clusterIP"):
        spec["clusterIP"] = _free_address(addresses, used)
    elif spec["clusterIP"] != "None" and spec["clusterIP"] in used:
        why = f"failed to allocate IP {spec['clusterIP']}: provided IP is already allocated"
        raise Invalid(resource, obj["metadata"]["name"], [invalid_value("spec.clusterIPs", [spec["clusterIP"]], why)])
    spec["clusterIPs"] = [spec["clusterIP"]]


def _free_address(addresses: Addresses, used: set[str | None]) -> str:
    for address in addresses.services.hosts():
        if str(address) not in used:
            return str(address)
    raise ApiError(500, "InternalError", "Internal error occurred: failed to allocate a serviceIP: range is full")


def grace_period(resource: Resource, obj: JSON, asked: int | None) -> int:
    """Seconds between the order to delete and the deletion. Only a pod that may be running has any."""
    if resource.storage != "pods":
        return 0
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return asked if asked is not None else obj["spec"].get("terminationGracePeriodSeconds", 30)


_REPLACED_BY_VERSION = ("leases.coordination.k8s.io", "poddisruptionbudgets.policy", CRD_STORAGE)


def is_replaced_by_version(resource: Resource) -> bool:
    """Whether who replaces an object must name the version that it replaces."""
    return resource.custom is not None or resource.storage in _REPLACED_BY_VERSION


def holds(resource: Resource, obj: JSON) -> bool:
    """Whether the kind itself, apart from finalizers in metadata, keeps a deleted object."""
    return resource.storage == "namespaces" and bool(obj.get("spec", {}).get("finalizers"))


IMMORTAL = ("default", "kube-public", "kube-system")


def check_delete(resource: Resource, name: str) -> None:
    """Raises 403 for what every cluster keeps."""
    if resource.storage == "namespaces" and name in IMMORTAL:
        raise forbidden(resource, name, "this namespace may not be deleted")


def begin_delete(resource: Resource, obj: JSON) -> None:
    """What else changes when an object starts to be deleted."""
    if resource.storage == "namespaces":
        obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
