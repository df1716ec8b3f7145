"""What must hold of built-in kinds beyond their schema: the rules that clients and controllers run into."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from creditmodel_sandbox.apiserver.defaults import containers
from creditmodel_sandbox.apiserver.errors import FieldError, invalid_value, required, show, unsupported_value
from creditmodel_sandbox.cron import Schedule, ScheduleError, time_zone
from creditmodel_sandbox.notation import QuantityError, matches, parse_quantity

__all__ = ["check_kind", "check_metadata"]

JSON = dict[str, Any]
Errors = Iterator[FieldError]

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
VALUE = rf"({QUALIFIED})?"

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED}')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', "
    f"regex used for validation is '{VALUE}')"
)
_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_LABEL_NAMED = {"namespaces", "services"}
_PATH_NAMED = "rbac.authorization.k8s.io"
MAX_ANNOTATIONS = 256 * 1024
MAX_DATA = 1024 * 1024
IMMUTABLE = "field is immutable"


def _forbidden(path: str, text: str) -> FieldError:
    return FieldError(path, "FieldValueForbidden", f"Forbidden: {text}")


def _label(path: str, value: str) -> Errors:
    if len(value) > 63:
        yield FieldError(path, "FieldValueTooLong", "Too long: may not be more than 63 bytes")
    elif not re.fullmatch(LABEL, value):
        yield invalid_value(path, value, _LABEL_TEXT)


def _unchanged(path: str, new: Any, old: Any) -> Errors:
    if new != old:
        yield invalid_value(path, new, IMMUTABLE)


# Metadata


def check_metadata(storage: str, meta: JSON) -> Errors:
    """Names, labels, annotations and owners of any object."""
    yield from _name(storage, meta["name"])
    for key, value in (meta.get("labels") or {}).items():
        yield from _qualified("metadata.labels", key)
        if len(value) > 63:
            yield invalid_value("metadata.labels", value, "must be no more than 63 bytes")
        if not re.fullmatch(VALUE, value):
            yield invalid_value("metadata.labels", value, _VALUE_TEXT)
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from _qualified("metadata.annotations", key.lower())
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        text = f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
        yield FieldError("metadata.annotations", "FieldValueTooLong", text)
    for finalizer in meta.get("finalizers") or ():
        yield from _qualified("metadata.finalizers", finalizer)
    yield from _owners(meta.get("ownerReferences") or ())


def _name(storage: str, name: str) -> Errors:
    path = "metadata.name"
    if storage.endswith(_PATH_NAMED):
        if "/" in name or "%" in name or name in (".", ".."):
            yield invalid_value(path, name, "may not contain '/' or '%', and may not be '.' or '..'")
    elif storage in _LABEL_NAMED:
        yield from _label(path, name)
    elif len(name) > 253:
        yield invalid_value(path, name, "must be no more than 253 characters")
    elif not re.fullmatch(SUBDOMAIN, name):
        yield invalid_value(path, name, _SUBDOMAIN_TEXT)


def _qualified(path: str, key: str) -> Errors:
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(SUBDOMAIN, prefix):
        yield invalid_value(path, key, f"prefix part {_SUBDOMAIN_TEXT}")
    if len(name) > 63:
        yield invalid_value(path, key, "name part must be no more than 63 bytes")
    elif not re.fullmatch(QUALIFIED, name):
        yield invalid_value(path, key, _QUALIFIED_TEXT)


def _owners(owners: Sequence[JSON]) -> Errors:
    for index, owner in enumerate(owners):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                yield invalid_value(
                    f"metadata.ownerReferences[{index}].{name}", owner.get(name, ""), "must not be empty"
                )
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        text = 'Only one reference can have Controller set to true. Found "true" in more than one reference'
        yield invalid_value("metadata.ownerReferences", list(owners), text)


# Pods


def _pod_spec(spec: JSON, path: str) -> Errors:
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    yield from _distinct(f"{path}.volumes", "name", volumes)
    names: list[str] = []
    for field, index, container in containers(spec):
        where = f"{path}.{field}[{index}]"
        name = container.get("name", "")
        if name in names:
            yield FieldError(f"{where}.name", "FieldValueDuplicate", f"Duplicate value: {show(name)}")
        names.append(name)
        yield from _container(container, where, set(volumes))


def _distinct(path: str, key: str, values: list[Any]) -> Errors:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield FieldError(f"{path}[{index}].{key}", "FieldValueDuplicate", f"Duplicate value: {show(value)}")


def _container(container: JSON, path: str, volumes: set[str]) -> Errors:
    if container.get("name"):
        yield from _label(f"{path}.name", container["name"])
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            yield FieldError(f"{where}.name", "FieldValueNotFound", f"Not found: {show(mount.get('name', ''))}")
    yield from _distinct(
        f"{path}.volumeMounts", "mountPath", [m.get("mountPath") for m in container.get("volumeMounts") or ()]
    )
    for index, variable in enumerate(container.get("env") or ()):
        if variable.get("value") and variable.get("valueFrom"):
            text = "may not be specified when `value` is not empty"
            yield invalid_value(f"{path}.env[{index}].valueFrom", variable["valueFrom"], text)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            yield from _probe(container[name], f"{path}.{name}", name)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


def _port(path: str, port: Any) -> Errors:
    if isinstance(port, int) and not 1 <= port <= 65535:
        yield invalid_value(path, port, "must be between 1 and 65535, inclusive")


def _probe(probe: JSON, path: str, name: str) -> Errors:
    handlers = [handler for handler in ("exec", "httpGet", "tcpSocket", "grpc") if handler in probe]
    if not handlers:
        yield required(path, "must specify a handler type")
    for extra in handlers[1:]:
        yield _forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _resources(resources: JSON, path: str) -> Errors:
    amounts: dict[tuple[str, str], Any] = {}
    for field in ("limits", "requests"):
        for name, text in (resources.get(field) or {}).items():
            try:
                amounts[field, name] = parse_quantity(str(text))
            except QuantityError as error:
                yield invalid_value(f"{path}.{field}[{name}]", text, str(error))
    for (field, name), amount in amounts.items():
        limit = amounts.get(("limits", name))
        if field == "requests" and limit is not None and amount > limit:
            text = f"must be less than or equal to {name} limit of {resources['limits'][name]}"
            yield invalid_value(f"{path}.requests", resources["requests"][name], text)


def _pod(obj: JSON, old: JSON | None) -> Errors:
    if old is None:
        yield from _pod_spec(obj["spec"], "spec")
    elif _fixed_spec(obj["spec"]) != _fixed_spec(old["spec"]):
        text = (
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative),`spec.tolerations` (only additions to existing tolerations)"
        )
        yield _forbidden("spec", text)


def _fixed_spec(spec: JSON) -> JSON:
    """The part of a pod's spec that never changes."""
    fixed = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    for field, index, container in containers(spec):
        fixed[field] = [*fixed[field]]
        fixed[field][index] = {
            key: value for key, value in container.items() if key not in ("image", "imagePullPolicy")
        }
    return fixed


# Workloads


def _selected_template(spec: JSON, kind: str) -> Errors:
    selector = spec.get("selector")
    if selector is None:
        yield required("spec.selector")
    elif not (selector.get("matchLabels") or selector.get("matchExpressions")):
        yield invalid_value("spec.selector", selector, f"empty selector is invalid for {kind}")
    else:
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if not matches(selector, labels):
            text = "`selector` does not match template `labels`"
            yield invalid_value("spec.template.metadata.labels", labels, text)
    yield from _pod_spec(spec["template"]["spec"], "spec.template.spec")
    if spec["template"]["spec"].get("restartPolicy") != "Always":
        yield unsupported_value(
            "spec.template.spec.restartPolicy", spec["template"]["spec"]["restartPolicy"], ["Always"]
        )


def _deployment(obj: JSON, old: JSON | None) -> Errors:
    spec = obj["spec"]
    if spec.get("progressDeadlineSeconds", 600) <= spec.get("minReadySeconds", 0):
        text = "must be greater than minReadySeconds"
        yield invalid_value("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], text)
    strategy = spec["strategy"]
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling is not None:
        yield _forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    if rolling and {str(rolling[name]).rstrip("%") for name in ("maxUnavailable", "maxSurge")} == {"0"}:
        yield invalid_value(
            "spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"
        )
    yield from _selected_template(spec, "deployment")
    if old is not None:
        yield from _unchanged("spec.selector", spec.get("selector"), old["spec"].get("selector"))


def _replica_set(obj: JSON, old: JSON | None) -> Errors:
    yield from _selected_template(obj["spec"], "replica set")
    if old is not None:
        yield from _unchanged("spec.selector", obj["spec"].get("selector"), old["spec"].get("selector"))


def _job_spec(spec: JSON, path: str) -> Errors:
    template = spec["template"]["spec"]
    yield from _pod_spec(template, f"{path}.template.spec")
    if template.get("restartPolicy") not in ("OnFailure", "Never"):
        yield required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    elif "podFailurePolicy" in spec and template["restartPolicy"] != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        yield invalid_value(f"{path}.template.spec.restartPolicy", template["restartPolicy"], text)


def _job(obj: JSON, old: JSON | None) -> Errors:
    yield from _job_spec(obj["spec"], "spec")
    if len(obj["metadata"]["name"]) > 63:
        yield invalid_value("metadata.name", obj["metadata"]["name"], "must be no more than 63 characters")
    if old is not None:
        for name in ("selector", "completionMode", "completions", "podFailurePolicy", "backoffLimitPerIndex"):
            yield from _unchanged(f"spec.{name}", obj["spec"].get(name), old["spec"].get(name))
        if not old["spec"].get("suspend"):
            yield from _unchanged("spec.template", obj["spec"]["template"], old["spec"]["template"])


def _understood(path: str, text: str, parse: Callable[[str], object]) -> Errors:
    try:
        parse(text)
    except ScheduleError as error:
        yield invalid_value(path, text, str(error))


def _cron_job(obj: JSON, _old: JSON | None) -> Errors:
    spec = obj["spec"]
    if spec.get("schedule"):
        yield from _understood("spec.schedule", spec["schedule"], Schedule.parse)
    if spec.get("timeZone") == "":
        yield invalid_value("spec.timeZone", "", "must be nil or non-empty string")
    yield from _understood("spec.timeZone", spec.get("timeZone", "UTC"), time_zone)
    if len(obj["metadata"]["name"]) > 52:
        yield invalid_value("metadata.name", obj["metadata"]["name"], "must be no more than 52 characters")
    yield from _job_spec(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")


def _autoscaler(obj: JSON, _old: JSON | None) -> Errors:
    spec = obj["spec"]
    if spec.get("maxReplicas", 0) < spec["minReplicas"]:
        text = "must be greater than or equal to `minReplicas`"
        yield invalid_value("spec.maxReplicas", spec.get("maxReplicas", 0), text)


def _budget(obj: JSON, _old: JSON | None) -> Errors:
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set")


# The rest


def _service(obj: JSON, old: JSON | None) -> Errors:
    spec = obj["spec"]
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    for index, port in enumerate(ports):
        if isinstance(port["targetPort"], int):
            yield from _port(f"spec.ports[{index}].targetPort", port["targetPort"])
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{index}].name")
    yield from _distinct("spec.ports", "name", [port["name"] for port in ports if port.get("name")])
    taken = [{"protocol": port.get("protocol"), "port": port.get("port")} for port in ports]
    for index, pair in enumerate(taken):
        if pair in taken[:index]:
            yield FieldError(f"spec.ports[{index}]", "FieldValueDuplicate", f"Duplicate value: {show(pair)}")
    if old is not None and old["spec"].get("clusterIP") and spec.get("clusterIP") != old["spec"]["clusterIP"]:
        yield invalid_value("spec.clusterIPs[0]", [spec.get("clusterIP")], "may not change once set")


def _data(obj: JSON, old: JSON | None) -> Errors:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            size += len(value)
            if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", ".."):
                yield invalid_value(f"{field}[{key}]", key, _KEY_TEXT)
    if size > MAX_DATA:
        yield FieldError("", "FieldValueTooLong", f"Too long: may not be more than {MAX_DATA} bytes")
    if old is not None and old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if obj.get(field) != old.get(field):
                yield _forbidden(field, "field is immutable when `immutable` is set")
    if old is not None:
        yield from _unchanged("type", obj.get("type"), old.get("type"))


def _role_binding(obj: JSON, old: JSON | None) -> Errors:
    if old is not None and obj["roleRef"] != old["roleRef"]:
        yield invalid_value("roleRef", obj["roleRef"], "cannot change roleRef")


def _endpoint_slice(obj: JSON, old: JSON | None) -> Errors:
    if old is not None:
        yield from _unchanged("addressType", obj["addressType"], old["addressType"])


_BY_STORAGE: dict[str, Callable[[JSON, JSON | None], Errors]] = {
    "pods": _pod,
    "services": _service,
    "configmaps": _data,
    "secrets": _data,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "poddisruptionbudgets.policy": _budget,
    "rolebindings.rbac.authorization.k8s.io": _role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_binding,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
}


def check_kind(storage: str, obj: JSON, old: JSON | None) -> list[FieldError]:
    """What is wrong with a built-in object whose schema is satisfied. An unchanged part of it is not judged again."""
    found = _BY_STORAGE.get(storage)
    return list(found(obj, old)) if found is not None else []
