"""What Kubernetes' admission plugins decide on a new pod: its account and token, its priority, its tolerations.

Nobody owns what is added here: field ownership is settled before admission.
"""

from __future__ import annotations

import random
from typing import Any

from creditmodel_sandbox.apiserver.defaults import containers
from creditmodel_sandbox.apiserver.errors import forbidden
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.storage import Store

__all__ = ["SUFFIX", "admit", "needs_default_account"]

JSON = dict[str, Any]

SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated names, which spell no word."""
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path, not a password
_PRIORITIES = {"": 0, "system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_UNHEALTHY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def admit(resource: Resource, namespace: str, obj: JSON, store: Store) -> None:
    """Complete a new pod in place. Raises 403."""
    if resource.storage == "pods":
        spec = obj.setdefault("spec", {})
        _give_account(resource, namespace, obj, spec, store)
        _give_priority(resource, obj, spec)
        if runtime := spec.get("runtimeClassName"):
            raise _refuse(resource, obj, f'pod rejected: RuntimeClass "{runtime}" not found')
        _tolerate_unhealthy_nodes(spec)


def needs_default_account(obj: JSON) -> bool:
    """Whether a new pod is to run under the account that a controller makes in every namespace."""
    spec = obj.get("spec")
    return not isinstance(spec, dict) or spec.get("serviceAccountName") in (None, "", "default")


def _refuse(resource: Resource, obj: JSON, why: str) -> Exception:
    return forbidden(resource, obj["metadata"]["name"], why)


# ServiceAccount


def _give_account(resource: Resource, namespace: str, obj: JSON, spec: JSON, store: Store) -> None:
    name = spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName") or "default"
    found = store.get("serviceaccounts", (namespace, name))
    if found is None:
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise _refuse(resource, obj, why)
    account = found.object()
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
        _mount_token(spec)


def _mount_token(spec: JSON) -> None:
    """Mount the account's token in every container that has nothing mounted where clients look for it."""
    without = [
        container
        for _, _, container in containers(spec)
        if all(mount.get("mountPath") != TOKEN_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not without:
        return
    name = "kube-api-access-" + "".join(random.choices(SUFFIX, k=5))  # noqa: S311 - a name, not a secret
    for container in without:
        container.setdefault("volumeMounts", []).append({"name": name, "mountPath": TOKEN_PATH, "readOnly": True})
    field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [field]}},
    ]
    spec.setdefault("volumes", []).append({"name": name, "projected": {"sources": sources, "defaultMode": 0o644}})


# Priority and DefaultTolerationSeconds


def _give_priority(resource: Resource, obj: JSON, spec: JSON) -> None:
    name = spec.get("priorityClassName", "")
    if name not in _PRIORITIES:
        raise _refuse(resource, obj, f"no PriorityClass with name {name} was found")
    spec["priority"] = _PRIORITIES[name]
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _tolerate_unhealthy_nodes(spec: JSON) -> None:
    tolerations = spec.setdefault("tolerations", [])
    for key in _UNHEALTHY:
        if not any(_tolerates(toleration, key) for toleration in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def _tolerates(toleration: JSON, key: str) -> bool:
    return toleration.get("key") in (key, None) and toleration.get("effect") in ("NoExecute", None)
