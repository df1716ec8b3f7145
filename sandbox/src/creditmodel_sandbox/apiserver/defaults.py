"""The defaults of built-in kinds that depend on something else; all others are in schemas.yaml."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["apply_defaults", "containers"]

JSON = dict[str, Any]


def _add(target: JSON, **defaults: Any) -> None:
    for name, value in defaults.items():
        target.setdefault(name, value)


def containers(spec: JSON) -> Iterator[tuple[str, int, JSON]]:
    """Each container of a pod's spec with the field and the index where it is."""
    for name in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(name) or ()):
            yield name, index, container


def _pod_spec(spec: JSON) -> None:
    if "serviceAccountName" in spec:
        _add(spec, serviceAccount=spec["serviceAccountName"])
    for _, _, container in containers(spec):
        _add(container, imagePullPolicy=_pull_policy(container.get("image", "")))
    for volume in spec.get("volumes") or ():
        if set(volume) == {"name"}:
            volume["emptyDir"] = {}


def _pull_policy(image: str) -> str:
    _, _, tag = image.rpartition("/")[2].partition(":")
    return "IfNotPresent" if "@" in image or tag not in ("", "latest") else "Always"


def _pod(obj: JSON) -> None:
    spec = obj["spec"]
    _pod_spec(spec)
    _add(spec, enableServiceLinks=True)
    for _, _, container in containers(spec):
        if limits := container["resources"].get("limits"):
            _add(container["resources"].setdefault("requests", {}), **limits)


def _workload(obj: JSON) -> None:
    _pod_spec(obj["spec"]["template"]["spec"])


def _deployment(obj: JSON) -> None:
    _workload(obj)
    strategy = obj["spec"]["strategy"]
    if strategy["type"] == "RollingUpdate":
        _add(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")


def _job(obj: JSON) -> None:
    _workload(obj)
    spec = obj["spec"]
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    replacement = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    _add(spec, parallelism=1, podReplacementPolicy=replacement)
    labels = spec["template"]["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def _cron_job(obj: JSON) -> None:
    _workload(obj["spec"]["jobTemplate"])


def _service(obj: JSON) -> None:
    spec = obj["spec"]
    _add(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    for port in spec.get("ports") or ():
        _add(port, targetPort=port.get("port"))


def _secret(obj: JSON) -> None:
    for name, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[name] = b64encode(text.encode()).decode()


def _binding(obj: JSON) -> None:
    for subject in obj.get("subjects") or ():
        if subject.get("kind") != "ServiceAccount":
            _add(subject, apiGroup="rbac.authorization.k8s.io")


def _definition(obj: JSON) -> None:
    names = obj["spec"].setdefault("names", {})
    kind = names.get("kind", "")
    _add(names, singular=kind.lower(), listKind=f"{kind}List")
    _add(obj["spec"], conversion={"strategy": "None"})


_BY_STORAGE: dict[str, Callable[[JSON], None]] = {
    "pods": _pod,
    "services": _service,
    "secrets": _secret,
    "deployments.apps": _deployment,
    "replicasets.apps": _workload,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
}


def apply_defaults(storage: str, obj: JSON) -> None:
    """Fill in place what the kind's clients may leave out, after the defaults of its schema."""
    found = _BY_STORAGE.get(storage)
    if found is not None:
        found(obj)
