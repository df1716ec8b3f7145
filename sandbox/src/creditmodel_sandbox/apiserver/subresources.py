"""The subresources that are more than a part of their object: scale, binding, eviction, finalize, token."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from creditmodel_sandbox.apiserver.access import BINDABLE
from creditmodel_sandbox.apiserver.credentials import Credentials
from creditmodel_sandbox.apiserver.errors import ApiError, Invalid, bad_request, conflict, invalid_value
from creditmodel_sandbox.apiserver.objects import DeleteOptions, Objects, Options
from creditmodel_sandbox.apiserver.resources import Resource, Scale
from creditmodel_sandbox.apiserver.storage import Key, Record
from creditmodel_sandbox.notation import format_selector, format_time, matches

__all__ = ["bind", "evict", "finalize", "issue_token", "scale_of", "set_scale"]

JSON = dict[str, Any]
BUDGETS = "poddisruptionbudgets.policy"
DEFAULT_TOKEN_SECONDS, LEAST_TOKEN_SECONDS = 3600, 600


def success(code: int = 200) -> JSON:
    """The Status of an operation that has no object to show."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


# Scale


def _at(obj: JSON, path: str | None) -> Any:
    value: Any = obj
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def scale_of(resource: Resource, record: Record) -> JSON:
    """The autoscaling/v1 Scale of an object."""
    scale, obj = resource.scale or Scale(), record.object()
    meta = obj["metadata"]
    metadata = {
        name: meta[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in meta
    }
    selector = _at(obj, scale.selector)
    status = {"replicas": _at(obj, scale.status) or 0}
    if selector:
        status["selector"] = selector if isinstance(selector, str) else format_selector(selector)
    spec = {"replicas": replicas} if (replicas := _at(obj, scale.spec)) is not None else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def set_scale(objects: Objects, resource: Resource, key: Key, change: Callable[[JSON], JSON], options: Options) -> JSON:
    """Change an object's replica count through its Scale."""
    wanted = change(scale_of(resource, objects.read(resource, key)))
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        error = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise Invalid(resource, key[1], [error])
    version = (wanted.get("metadata") or {}).get("resourceVersion")

    def put_count(obj: JSON) -> JSON:
        if version and version != obj["metadata"]["resourceVersion"]:
            raise conflict(resource, key[1])
        _put(obj, resource.scale or Scale(), replicas)
        return obj

    return scale_of(resource, objects.update(resource, key, put_count, options, "scale"))


def _put(obj: JSON, scale: Scale, replicas: int) -> None:
    *parents, last = scale.spec.split(".")
    for name in parents:
        obj = obj.setdefault(name, {})
    obj[last] = replicas


# Pods


def set_condition(obj: JSON, kind: str, status: str, reason: str = "", message: str = "") -> None:
    """Set one condition of a pod, keeping its place."""
    conditions = obj.setdefault("status", {}).setdefault("conditions", [])
    new = {"type": kind, "status": status, "lastTransitionTime": format_time()}
    new |= {name: text for name, text in (("reason", reason), ("message", message)) if text}
    for condition in conditions:
        if condition["type"] == kind:
            condition.update(new)
            return
    conditions.append(new)


def bind(objects: Objects, resource: Resource, key: Key, binding: JSON) -> JSON:
    """Assign a pod to a node."""
    node = (binding.get("target") or {}).get("name")
    if not node:
        raise bad_request("binding: target.name: Required value")
    obj = objects.typed(resource, objects.read(resource, key))
    if obj["metadata"].get("deletionTimestamp"):
        raise conflict(resource, key[1], f"pod {key[1]} is being deleted, cannot be assigned to a host")
    if obj["spec"].get("nodeName"):
        why = f'pod {key[1]} is already assigned to node "{obj["spec"]["nodeName"]}"'
        raise conflict(resource, key[1], why)
    obj["spec"]["nodeName"] = node
    set_condition(obj, "PodScheduled", "True")
    objects.store.put(resource.storage, key, obj)
    return success(201)


def evict(objects: Objects, resource: Resource, key: Key, options: DeleteOptions) -> JSON:
    """Delete a pod if its disruption budget allows."""
    pod = objects.typed(resource, objects.read(resource, key))
    if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed", "Pending"):
        _spend_budget(objects, key, pod, options.dry_run)
    if not options.dry_run:
        set_condition(pod, "DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting")
        objects.store.put(resource.storage, key, pod)
    objects.delete(resource, key, options)
    return success(201)


def _spend_budget(objects: Objects, key: Key, pod: JSON, dry_run: bool) -> None:
    labels = pod["metadata"].get("labels") or {}
    budgets = [
        (name, budget)
        for name, record in objects.store.collection(BUDGETS).records.items()
        if name[0] == key[0] and matches((budget := record.object()).get("spec", {}).get("selector"), labels)
    ]
    if len(budgets) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", message)
    for name, budget in budgets:
        status = budget.get("status") or {}
        if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
            raise _too_many(f"The disruption budget {name[1]} is still being processed by the server.", 10)
        if status.get("disruptionsAllowed", 0) <= 0:
            healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
            raise _too_many(f"The disruption budget {name[1]} needs {wanted} healthy pods and has {healthy} currently")
        status["disruptionsAllowed"] -= 1
        status.setdefault("disruptedPods", {})[key[1]] = format_time()
        if not dry_run:
            objects.store.put(BUDGETS, name, budget)


def _too_many(cause: str, retry: int = 0) -> ApiError:
    details: JSON = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    if retry:
        details["retryAfterSeconds"] = retry
    return ApiError(
        429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", details
    )


# Namespaces and service accounts


def finalize(objects: Objects, resource: Resource, key: Key, body: JSON) -> Record:
    """Replace a namespace's spec.finalizers; the namespace goes when the last one of a terminating one is taken."""
    obj = objects.typed(resource, objects.read(resource, key))
    obj["spec"] = {"finalizers": (body.get("spec") or {}).get("finalizers") or []}
    if not obj["spec"]["finalizers"]:
        del obj["spec"]["finalizers"]
    record = objects.store.put(resource.storage, key, obj)
    if "deletionTimestamp" in obj["metadata"] and not obj["spec"] and not obj["metadata"].get("finalizers"):
        return objects.store.remove(resource.storage, key)
    return record


def issue_token(objects: Objects, resource: Resource, key: Key, request: JSON, credentials: Credentials) -> JSON:
    """A TokenRequest with its token."""
    account = objects.read(resource, key).object()
    spec = request.get("spec") or {}
    seconds = spec.setdefault("expirationSeconds", DEFAULT_TOKEN_SECONDS)
    if seconds < LEAST_TOKEN_SECONDS:
        why = "may not specify a duration less than 10 minutes"
        raise Invalid(resource, key[1], [invalid_value("spec.expirationSeconds", seconds, why)])
    now = int(time.time())
    identity = {"namespace": key[0], "serviceaccount": {"name": key[1], "uid": account["metadata"]["uid"]}}
    if bound := spec.get("boundObjectRef"):
        identity |= _bound_to(objects, key[0], bound)
    claims = {
        "iss": "https://kubernetes.default.svc",
        "sub": f"system:serviceaccount:{key[0]}:{key[1]}",
        "iat": now,
        "nbf": now,
        "exp": now + seconds,
        "aud": spec.get("audiences") or ["https://kubernetes.default.svc"],
        "kubernetes.io": identity,
    }
    status = {
        "token": credentials.sign(claims),
        "expirationTimestamp": format_time(datetime.fromtimestamp(now + seconds, UTC)),
    }
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": status,
    }


def _bound_to(objects: Objects, namespace: str, reference: JSON) -> JSON:
    """The claim that binds a token to an object: it dies with it."""
    kind, name = reference.get("kind", ""), reference.get("name", "")
    if kind not in BINDABLE:
        raise bad_request(f"cannot bind token to object of type {kind}")
    resource = objects.registry.builtin(BINDABLE[kind])
    uid = objects.read(resource, (namespace if resource.namespaced else "", name)).object()["metadata"]["uid"]
    if reference.get("uid", uid) != uid:
        why = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record ({uid})"
        raise conflict(resource, name, why)
    return {kind.lower(): {"name": name, "uid": uid}}
