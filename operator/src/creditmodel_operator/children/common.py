"""What every child has in common: metadata, ownership, and a pod that may do nothing it need not do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from creditmodel_operator import api, names
from creditmodel_operator.revision import Owner

__all__ = [
    "CONTAINER_SECURITY",
    "SCRATCH",
    "TERMINATION_LOG",
    "Manifest",
    "credentials",
    "field_env",
    "manifest",
    "pod_security",
    "revision_labels",
    "scratch",
]

Manifest = dict[str, Any]

SCRATCH = "/scratch"
"""The one writable directory of a container. It is not /tmp, so that a host's path beginning with /tmp stays itself."""

TERMINATION_LOG = "/dev/termination-log"

CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def manifest(
    api_version: str,
    kind: str,
    name: str,
    owner: Owner,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    spec: Manifest,
) -> Manifest:
    """A child that goes when its CreditModel goes, without the operator's help."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": dict(labels),
            "annotations": dict(annotations),
            "ownerReferences": [_reference(owner)],
        },
        "spec": spec,
    }


def _reference(owner: Owner) -> Manifest:
    return {
        "apiVersion": f"{api.GROUP}/{api.VERSION}",
        "kind": api.KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_security(service_account: str) -> Manifest:
    """Pod-level fields: who the pod is, no root, no token, no environment of other Services.

    The account is always written out: an API server fills a name that is left out from the one that was there before.
    """
    return {
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }


def scratch(size: str) -> tuple[Manifest, Manifest, list[Manifest]]:
    """The volume, its mount, and the environment that sends temporary files and caches there."""
    volume = {"name": "scratch", "emptyDir": {"sizeLimit": size}}
    mount = {"name": "scratch", "mountPath": SCRATCH}
    return volume, mount, [{"name": "TMPDIR", "value": SCRATCH}, {"name": "HOME", "value": SCRATCH}]


def field_env(name: str, path: str) -> Manifest:
    """An environment variable from the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def credentials(*secrets: str | None) -> Manifest:
    """envFrom for Secrets with a store's credentials; nothing where there is none."""
    found = [{"secretRef": {"name": secret}} for secret in secrets if secret is not None]
    return {"envFrom": found} if found else {}


def revision_labels(owner: Owner, revision: str) -> dict[str, str]:
    """Labels of a child that serves one revision."""
    return names.child_labels(owner.name, "serving", revision=revision)
