from __future__ import annotations
import ipaddress
from dataclasses import dataclass
from typing import Any
from creditmodel_sandbox.apiserver.errors import required, FieldError
from creditmodel_sandbox.apiserver.crd import CRD_STORAGE
JSON = dict[str, Any]
NAME_REQUIRED = required("metadata.name", "name or generateName is required")
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"

@dataclass
class Addresses:
    services: ipaddress.IPv4Network

def keeps_status(resource: Any) -> bool:
    return False

def prepare_create(resource: Any, obj: JSON, objects: Any) -> None:
    if resource.storage == "namespaces":
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    if resource.storage == "pods":
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    if resource.storage == CRD_STORAGE:
        obj["metadata"]["finalizers"] = [CRD_FINALIZER]
        obj["status"] = {"conditions": [{"type": t, "status": "True", "reason": r, "message": "", "lastTransitionTime": obj["metadata"]["creationTimestamp"]} for t, r in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))], "acceptedNames": obj["spec"]["names"], "storedVersions": [v["name"] for v in obj["spec"]["versions"] if v["storage"]]}

def prepare_update(resource: Any, new: JSON, old: JSON) -> None:
    pass

def default(resource: Any, obj: JSON) -> None:
    pass

def relevant(resource: Any, errors: list[FieldError]) -> list[FieldError]:
    return [e for e in errors if resource.custom is not None or not e.field.startswith("status")]

def check(resource: Any, obj: JSON, old: JSON | None) -> list[FieldError]:
    return []

def allocate(resource: Any, obj: JSON, addresses: Any, store: Any) -> None:
    if resource.storage == "services" and "clusterIP" not in obj["spec"]:
        used = {r.fields.get("spec.clusterIP") for r in store.collection("services").records.values()}
        for a in addresses.services.hosts():
            if str(a) not in used:
                obj["spec"]["clusterIP"] = str(a)
                obj["spec"]["clusterIPs"] = [str(a)]
                break

def grace_period(resource: Any, obj: JSON, asked: int | None) -> int:
    if resource.storage != "pods":
        return 0
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return asked if asked is not None else obj["spec"].get("terminationGracePeriodSeconds", 30)

def holds(resource: Any, obj: JSON) -> bool:
    return resource.storage == "namespaces" and bool(obj.get("spec", {}).get("finalizers"))

def begin_delete(resource: Any, obj: JSON) -> None:
    if resource.storage == "namespaces":
        obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
