"""The defaults of built-in kinds: what clients and controllers find filled in, as Kubernetes documents it."""

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
    _add(
        spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst", securityContext={},
        schedulerName="default-scheduler",
    )  # fmt: skip
    if "serviceAccountName" in spec:
        _add(spec, serviceAccount=spec["serviceAccountName"])
    for _, _, container in containers(spec):
        _container(container)
    for volume in spec.get("volumes") or ():
        if set(volume) == {"name"}:
            volume["emptyDir"] = {}
        for source in ("secret", "configMap", "downwardAPI", "projected"):
            if source in volume:
                _add(volume[source], defaultMode=0o644)
        if "hostPath" in volume:
            _add(volume["hostPath"], type="")


def _container(container: JSON) -> None:
    _add(
        container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File", resources={},
        imagePullPolicy=_pull_policy(container.get("image", "")),
    )  # fmt: skip
    for port in container.get("ports") or ():
        _add(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _add(container[name], timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _http_get(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _http_get(handler)
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            _add(reference, apiVersion="v1")


def _http_get(handler: JSON) -> None:
    if "httpGet" in handler:
        _add(handler["httpGet"], path="/", scheme="HTTP")
    if "grpc" in handler:
        _add(handler["grpc"], service="")


def _pull_policy(image: str) -> str:
    _, _, tag = image.rpartition("/")[2].partition(":")
    return "IfNotPresent" if "@" in image or tag not in ("", "latest") else "Always"


def _template(spec: JSON) -> JSON:
    template: JSON = spec.setdefault("template", {})
    _add(template, metadata={}, spec={})
    _pod_spec(template["spec"])
    return template


def _pod(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    _add(spec, enableServiceLinks=True)
    for _, _, container in containers(spec):
        resources = container["resources"]
        if resources.get("limits"):
            requests = resources.setdefault("requests", {})
            _add(requests, **resources["limits"])


def _deployment(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    _add(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec["strategy"]
    _add(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _add(strategy, rollingUpdate={})
        _add(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _replica_set(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    _add(spec, replicas=1)
    _template(spec)


def _job(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    replacement = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    _add(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy=replacement,
    )
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            _add(pattern, status="True")
    labels = _template(spec)["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def _cron_job(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    _add(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = spec.setdefault("jobTemplate", {})
    _add(template, metadata={}, spec={})
    _template(template["spec"])


def _service(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    _add(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] != "ExternalName":
        _add(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    for port in spec.get("ports") or ():
        _add(port, protocol="TCP", targetPort=port.get("port"))


def _autoscaler(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    _add(spec, minReplicas=1, metrics=[{"type": "Resource", "resource": cpu}])


def _endpoint_slice(obj: JSON) -> None:
    for port in obj.get("ports") or ():
        _add(port, name="", protocol="TCP")


def _secret(obj: JSON) -> None:
    _add(obj, type="Opaque")
    for name, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[name] = b64encode(text.encode()).decode()


def _binding(obj: JSON) -> None:
    _add(obj.setdefault("roleRef", {}), apiGroup="rbac.authorization.k8s.io")
    for subject in obj.get("subjects") or ():
        if subject.get("kind") != "ServiceAccount":
            _add(subject, apiGroup="rbac.authorization.k8s.io")


def _definition(obj: JSON) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind", "")
    _add(names, singular=kind.lower(), listKind=f"{kind}List")
    _add(spec, conversion={"strategy": "None"})


def _claim(obj: JSON) -> None:
    _add(obj.setdefault("spec", {}), volumeMode="Filesystem")


_BY_STORAGE: dict[str, Callable[[JSON], None]] = {
    "pods": _pod,
    "services": _service,
    "secrets": _secret,
    "persistentvolumeclaims": _claim,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
}


def apply_defaults(storage: str, obj: JSON) -> None:
    """Fill in place what the kind's clients may leave out."""
    found = _BY_STORAGE.get(storage)
    if found is not None:
        found(obj)
