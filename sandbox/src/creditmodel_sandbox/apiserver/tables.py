"""Tables: what `kubectl get` prints, made by the server (meta.k8s.io/v1 Table)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from creditmodel_sandbox.apiserver.jsonpath import JsonPathError, compile_path
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.notation import format_selector

__all__ = ["human_age", "partial", "table"]

JSON = dict[str, Any]


class Column(NamedTuple):
    """One column, and how a row's cell is made from an object at a time."""

    name: str
    type: str
    priority: int
    cell: Callable[[JSON, datetime], Any]
    format: str = ""
    description: str = ""


def human_age(since: str | None, now: datetime) -> str:
    """A duration as kubectl shows it: `45s`, `3m20s`, `5h`, `2d3h`."""
    if not since:
        return "<unknown>"
    seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    if seconds < 0:
        return "0s" if seconds > -2 else "<invalid>"
    return human_duration(seconds)


def human_duration(seconds: int) -> str:
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    years = days // 365
    for limit, big, big_unit, rest, small_unit in (
        (120, seconds, "s", 0, ""), (600, minutes, "m", seconds % 60, "s"), (10800, minutes, "m", 0, ""),
        (28800, hours, "h", minutes % 60, "m"), (172800, hours, "h", 0, ""), (691200, days, "d", hours % 24, "h"),
        (63072000, days, "d", 0, ""), (252288000, years, "y", days % 365, "d"),
    ):  # fmt: skip
        if seconds < limit:
            return f"{big}{big_unit}" + (f"{rest}{small_unit}" if rest else "")
    return f"{years}y"


def _get(obj: Any, path: str, default: Any = None) -> Any:
    for name in path.split("."):
        obj = obj.get(name) if isinstance(obj, dict) else None
    return default if obj is None else obj


def _field(path: str, default: Any = "<none>") -> Callable[[JSON, datetime], Any]:
    return lambda obj, _: _get(obj, path, default)


def _age(path: str = "metadata.creationTimestamp") -> Callable[[JSON, datetime], Any]:
    return lambda obj, now: human_age(_get(obj, path), now)


def _selector(path: str) -> Callable[[JSON, datetime], Any]:
    def cell(obj: JSON, _: datetime) -> str:
        found = _get(obj, path) or {}
        return (
            format_selector(found if "matchLabels" in found or "matchExpressions" in found else {"matchLabels": found})
            or "<none>"
        )

    return cell


def _containers(path: str, name: str) -> Callable[[JSON, datetime], Any]:
    return lambda obj, _: ",".join(container.get(name, "") for container in _get(obj, path, []))


# Pods


def _pod_ready(pod: JSON, _: datetime) -> str:
    statuses = _get(pod, "status.containerStatuses", [])
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(_get(pod, 'spec.containers', []))}"


def _pod_status(pod: JSON, _: datetime) -> str:
    """The one word for how a pod does, as kubectl derives it."""
    reason = _get(pod, "status.reason") or _get(pod, "status.phase", "Unknown")
    waiting_init = _init_reason(pod)
    if waiting_init:
        reason = waiting_init
    else:
        for status in reversed(_get(pod, "status.containerStatuses", [])):
            reason = _container_reason(status.get("state") or {}) or reason
        if reason == "Completed" and any(
            _get(s, "state.running") and s.get("ready") for s in _get(pod, "status.containerStatuses", [])
        ):
            reason = "Running"
    if "deletionTimestamp" in pod["metadata"] and _get(pod, "status.phase") not in ("Succeeded", "Failed"):
        return "Terminating"
    return str(reason)


def _container_reason(state: JSON) -> str:
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting and waiting.get("reason"):
        return str(waiting["reason"])
    if ended:
        signal = ended.get("signal")
        return str(ended.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{ended.get('exitCode', 0)}"))
    return ""


def _init_reason(pod: JSON) -> str:
    total = len(_get(pod, "spec.initContainers", []))
    for index, status in enumerate(_get(pod, "status.initContainerStatuses", [])):
        state = status.get("state") or {}
        if (state.get("terminated") or {}).get("exitCode") == 0 or (status.get("started") and status.get("ready")):
            continue
        reason = _container_reason(state)
        return f"Init:{reason}" if reason not in ("", "PodInitializing") else f"Init:{index}/{total}"
    return ""


def _pod_restarts(pod: JSON, now: datetime) -> str:
    statuses = _get(pod, "status.containerStatuses", [])
    count = sum(status.get("restartCount", 0) for status in statuses)
    last = max((_get(s, "lastState.terminated.finishedAt", "") for s in statuses), default="")
    return f"{count} ({human_age(last, now)} ago)" if count and last else str(count)


# Other kinds


def _job_status(job: JSON, _: datetime) -> str:
    conditions = {c["type"]: c["status"] == "True" for c in _get(job, "status.conditions", [])}
    for kind, shown in (
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if conditions.get(kind):
            return shown
    return "Terminating" if "deletionTimestamp" in job["metadata"] else "Running"


def _job_duration(job: JSON, now: datetime) -> str:
    start, end = _get(job, "status.startTime"), _get(job, "status.completionTime")
    return human_age(start, datetime.fromisoformat(end) if end else now) if start else ""


def _service_ports(service: JSON, _: datetime) -> str:
    return (
        ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in _get(service, "spec.ports", []))
        or "<none>"
    )


def _targets(scaler: JSON, _: datetime) -> str:
    current = {
        _get(m, "resource.name"): _get(m, "resource.current", {}) for m in _get(scaler, "status.currentMetrics", [])
    }
    shown = []
    for metric in _get(scaler, "spec.metrics", []):
        name, target = _get(metric, "resource.name"), _get(metric, "resource.target", {})
        if "averageUtilization" in target:
            now = current.get(name, {}).get("averageUtilization")
            shown.append(f"{name}: {'<unknown>' if now is None else f'{now}%'}/{target['averageUtilization']}%")
        else:
            shown.append(
                f"{name}: {current.get(name, {}).get('averageValue', '<unknown>')}/{target.get('averageValue')}"
            )
    return ", ".join(shown) or "<none>"


def _node_status(node: JSON, _: datetime) -> str:
    ready = next((c["status"] for c in _get(node, "status.conditions", []) if c["type"] == "Ready"), "Unknown")
    text = {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")
    return text + (",SchedulingDisabled" if _get(node, "spec.unschedulable") else "")


def _address(node: JSON, _: datetime) -> str:
    return next((a["address"] for a in _get(node, "status.addresses", []) if a["type"] == "InternalIP"), "<none>")


def _event_object(event: JSON, _: datetime) -> str:
    reference = event.get("involvedObject") or {}
    return f"{reference.get('kind', '').lower()}/{reference.get('name', '')}"


def _event_age(event: JSON, now: datetime) -> str:
    last = event.get("lastTimestamp") or _get(event, "series.lastObservedTime") or event.get("eventTime")
    return human_age(last or event.get("firstTimestamp") or event["metadata"]["creationTimestamp"], now)


def _endpoints(obj: JSON, _: datetime) -> str:
    return ",".join(a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()) or "<unset>"


def _definition(columns: str, **cells: Callable[[JSON, datetime], Any]) -> list[Column]:
    """Columns from `Name:type` words; a `*` marks one that only -o wide shows, and `_` stands for a space in a name."""
    result = []
    for word in columns.split():
        name, _, kind = word.rstrip("*").partition(":")
        cell = cells[name.lower().replace("-", "_")]
        result.append(Column(name.replace("_", " "), kind or "string", 1 if word.endswith("*") else 0, cell))
    return result


NAME = Column("Name", "string", 0, _field("metadata.name"), "name", "Name must be unique within a namespace.")
AGE = Column(
    "Age",
    "string",
    0,
    _age(),
    "",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
)

_TEMPLATE = "spec.template.spec.containers"
_COLUMNS: dict[str, list[Column]] = {
    "pods": _definition(
        "Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
        ready=_pod_ready,
        status=_pod_status,
        restarts=_pod_restarts,
        age=_age(),
        ip=_field("status.podIP"),
        node=_field("spec.nodeName"),
        nominated_node=_field("status.nominatedNodeName"),
        readiness_gates=lambda *_: "<none>",
    ),
    "deployments.apps": _definition(
        "Ready Up-to-date:integer Available:integer Age Containers* Images* Selector*",
        ready=lambda o, _: f"{_get(o, 'status.readyReplicas', 0)}/{_get(o, 'spec.replicas', 0)}",
        up_to_date=_field("status.updatedReplicas", 0),
        available=_field("status.availableReplicas", 0),
        age=_age(),
        containers=_containers(_TEMPLATE, "name"),
        images=_containers(_TEMPLATE, "image"),
        selector=_selector("spec.selector"),
    ),
    "replicasets.apps": _definition(
        "Desired:integer Current:integer Ready:integer Age Containers* Images* Selector*",
        desired=_field("spec.replicas", 0),
        current=_field("status.replicas", 0),
        ready=_field("status.readyReplicas", 0),
        age=_age(),
        containers=_containers(_TEMPLATE, "name"),
        images=_containers(_TEMPLATE, "image"),
        selector=_selector("spec.selector"),
    ),
    "jobs.batch": _definition(
        "Status Completions Duration Age Containers* Images* Selector*",
        status=_job_status,
        completions=lambda o, _: f"{_get(o, 'status.succeeded', 0)}/{_get(o, 'spec.completions', 1)}",
        duration=_job_duration,
        age=_age(),
        containers=_containers(_TEMPLATE, "name"),
        images=_containers(_TEMPLATE, "image"),
        selector=_selector("spec.selector"),
    ),
    "cronjobs.batch": _definition(
        "Schedule Timezone Suspend:boolean Active:integer Last_Schedule Age Containers* Images*",
        schedule=_field("spec.schedule"),
        timezone=_field("spec.timeZone"),
        suspend=lambda o, _: str(_get(o, "spec.suspend", False)),
        active=lambda o, _: len(_get(o, "status.active", [])),
        last_schedule=lambda o, now: human_age(s, now) if (s := _get(o, "status.lastScheduleTime")) else "<none>",
        age=_age(),
        containers=_containers("spec.jobTemplate." + _TEMPLATE, "name"),
        images=_containers("spec.jobTemplate." + _TEMPLATE, "image"),
    ),
    "services": _definition(
        "Type Cluster-IP External-IP Port(s) Age Selector*",
        type=_field("spec.type"),
        cluster_ip=_field("spec.clusterIP"),
        external_ip=_field("spec.externalName"),
        age=_age(),
        selector=_selector("spec.selector"),
        **{"port(s)": _service_ports},
    ),
    "horizontalpodautoscalers.autoscaling": _definition(
        "Reference Targets MinPods MaxPods:integer Replicas:integer Age",
        reference=lambda o, _: f"{_get(o, 'spec.scaleTargetRef.kind')}/{_get(o, 'spec.scaleTargetRef.name')}",
        targets=_targets,
        minpods=lambda o, _: str(_get(o, "spec.minReplicas", "<unset>")),
        maxpods=_field("spec.maxReplicas"),
        replicas=_field("status.currentReplicas", 0),
        age=_age(),
    ),
    "poddisruptionbudgets.policy": _definition(
        "Min_Available Max_Unavailable Allowed_Disruptions:integer Age",
        min_available=lambda o, _: str(_get(o, "spec.minAvailable", "N/A")),
        max_unavailable=lambda o, _: str(_get(o, "spec.maxUnavailable", "N/A")),
        allowed_disruptions=_field("status.disruptionsAllowed", 0),
        age=_age(),
    ),
    "endpointslices.discovery.k8s.io": _definition(
        "AddressType Ports Endpoints Age",
        addresstype=_field("addressType"),
        ports=lambda o, _: ",".join(str(p.get("port")) for p in o.get("ports") or ()) or "<unset>",
        endpoints=_endpoints,
        age=_age(),
    ),
    "scales.autoscaling": _definition(
        "Desired:integer Available:integer Age",
        desired=_field("spec.replicas", 0),
        available=_field("status.replicas", 0),
        age=_age(),
    ),
    "namespaces": _definition("Status Age", status=_field("status.phase"), age=_age()),
    "configmaps": _definition(
        "Data Age", data=lambda o, _: str(len(o.get("data") or ()) + len(o.get("binaryData") or ())), age=_age()
    ),
    "secrets": _definition(
        "Type Data:integer Age", type=_field("type"), data=lambda o, _: len(o.get("data") or ()), age=_age()
    ),
    "serviceaccounts": _definition("Age", age=_age()),
    "nodes": _definition(
        "Status Roles Age Version Internal-IP*",
        status=_node_status,
        roles=lambda *_: "<none>",
        age=_age(),
        version=_field("status.nodeInfo.kubeletVersion"),
        internal_ip=_address,
    ),
    "events": _definition(
        "Last_Seen Type Reason Object Message",
        last_seen=_event_age,
        type=_field("type"),
        reason=_field("reason"),
        object=_event_object,
        message=lambda o, _: str(o.get("message", "")).strip(),
    ),
    "leases.coordination.k8s.io": _definition("Holder Age", holder=_field("spec.holderIdentity", ""), age=_age()),
    "roles.rbac.authorization.k8s.io": _definition("Created_At", created_at=_field("metadata.creationTimestamp")),
    "clusterroles.rbac.authorization.k8s.io": _definition(
        "Created_At", created_at=_field("metadata.creationTimestamp")
    ),
    "rolebindings.rbac.authorization.k8s.io": _definition(
        "Role Age", role=lambda o, _: f"{o['roleRef']['kind']}/{o['roleRef']['name']}", age=_age()
    ),
    "clusterrolebindings.rbac.authorization.k8s.io": _definition(
        "Role Age", role=lambda o, _: f"{o['roleRef']['kind']}/{o['roleRef']['name']}", age=_age()
    ),
    "customresourcedefinitions.apiextensions.k8s.io": _definition(
        "Created_At", created_at=_field("metadata.creationTimestamp")
    ),
}


def _columns(resource: Resource) -> list[Column]:
    if resource.custom is None:
        return _COLUMNS.get(resource.storage, [AGE])
    declared = resource.custom.get("additionalPrinterColumns")
    return [_custom_column(column) for column in declared] if declared else [AGE]


def _custom_column(column: JSON) -> Column:
    kind = column["type"]
    cell = _custom_cell(column["jsonPath"], kind)
    description = column.get(
        "description", f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    )
    return Column(column["name"], kind, column.get("priority", 0), cell, column.get("format", ""), description)


_path = lru_cache(maxsize=512)(compile_path)


def _custom_cell(path: str, kind: str) -> Callable[[JSON, datetime], Any]:
    try:
        find = _path(path)
    except JsonPathError:
        return lambda *_: None

    def cell(obj: JSON, now: datetime) -> Any:
        values = find(obj)
        if not values or values[0] is None:
            return None
        if kind == "date":
            return _date(values[0], now)
        return _typed(values[0], kind)

    return cell


def _date(value: Any, now: datetime) -> str | None:
    try:
        return human_age(value, now) if isinstance(value, str) else None
    except (ValueError, TypeError):
        return "<invalid>"


def _typed(value: Any, kind: str) -> Any:
    match kind:
        case "integer":
            return int(value) if isinstance(value, int | float) else None
        case "number":
            return value if isinstance(value, int | float) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case _:
            return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def partial(obj: JSON) -> JSON:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(resource: Resource, objects: Iterable[JSON], metadata: JSON, include: str) -> JSON:
    """A Table of objects; `include` says how much of each object goes with its row: Metadata, Object or None."""
    columns = [NAME, *_columns(resource)]
    now = datetime.now(UTC)
    rows = []
    for obj in objects:
        row: JSON = {"cells": [column.cell(obj, now) for column in columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    definitions = [
        {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
        for c in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }
