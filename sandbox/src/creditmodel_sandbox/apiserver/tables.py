"""Tables: what `kubectl get` prints, made by the server (meta.k8s.io/v1 Table)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from creditmodel_sandbox.apiserver.jsonpath import JsonPathError, compile_path
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.notation import format_selector

__all__ = ["human_age", "partial", "table"]

JSON = dict[str, Any]
Cell = Callable[[JSON, datetime], Any]
"""Makes a row's cell from an object at a time."""


class Column(NamedTuple):
    """One column."""

    name: str
    type: str
    priority: int
    cell: Cell
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


# What columns.yaml names: cells of one value, of several, or of a whole object.


def _selector(found: JSON, _: datetime) -> str:
    whole = found if "matchLabels" in found or "matchExpressions" in found else {"matchLabels": found}
    return format_selector(whole) or "<none>"


def _word(value: Any, _: datetime) -> str:
    return str(value).strip()


def _reference(reference: JSON, _: datetime) -> str:
    return f"{reference.get('kind')}/{reference.get('name')}"


def _about(reference: JSON, _: datetime) -> str:
    return f"{reference.get('kind', '').lower()}/{reference.get('name', '')}"


def _total(obj: JSON, _: datetime) -> str:
    return str(len(obj.get("data") or ()) + len(obj.get("binaryData") or ()))


def _ports(ports: list[JSON], _: datetime) -> str:
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports) or "<none>"


def _duration(status: JSON, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    return human_age(start, datetime.fromisoformat(end) if end else now) if start else ""


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


def _job_status(job: JSON, _: datetime) -> str:
    held = {c["type"] for c in _get(job, "status.conditions", []) if c["status"] == "True"}
    order = ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet")
    shown = next((kind for kind in order if kind in held), None)
    return shown or ("Terminating" if "deletionTimestamp" in job["metadata"] else "Running")


def _targets(scaler: JSON, _: datetime) -> str:
    metrics = _get(scaler, "status.currentMetrics", [])
    current = {_get(metric, "resource.name"): _get(metric, "resource.current", {}) for metric in metrics}
    shown = []
    for metric in _get(scaler, "spec.metrics", []):
        name, target = _get(metric, "resource.name"), _get(metric, "resource.target", {})
        kind, unit = ("averageUtilization", "%") if "averageUtilization" in target else ("averageValue", "")
        now = current.get(name, {}).get(kind)
        shown.append(f"{name}: {'<unknown>' if now is None else f'{now}{unit}'}/{target.get(kind)}{unit}")
    return ", ".join(shown) or "<none>"


def _node_status(node: JSON, _: datetime) -> str:
    ready = next((c["status"] for c in _get(node, "status.conditions", []) if c["type"] == "Ready"), "Unknown")
    text = {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")
    return text + (",SchedulingDisabled" if _get(node, "spec.unschedulable") else "")


def _event_age(event: JSON, now: datetime) -> str:
    last = event.get("lastTimestamp") or _get(event, "series.lastObservedTime") or event.get("eventTime")
    return human_age(last or event.get("firstTimestamp") or event["metadata"]["creationTimestamp"], now)


_FUNCTIONS: dict[str, Callable[[Any, datetime], Any]] = {
    "about": _about, "age": human_age, "count": lambda value, _: len(value), "duration": _duration,
    "event_age": _event_age, "job_status": _job_status, "node_status": _node_status, "pod_ready": _pod_ready,
    "pod_restarts": _pod_restarts, "pod_status": _pod_status, "ports": _ports, "reference": _reference,
    "selector": _selector, "targets": _targets, "total": _total, "word": _word,
}  # fmt: skip
_WITHOUT: dict[str, Any] = {"count": 0, "age": "<unknown>", "duration": ""}
"""What a function's cell shows without the value that it needs; the others show `<none>`."""


def _cell(text: str) -> Cell:
    """The cell that columns.yaml describes."""
    how, given, none = text.partition(" | ")
    function, *arguments = how.split()
    if function == "of":
        part, whole = (_path(argument) for argument in arguments)
        return lambda obj, _: f"{(part(obj) or [0])[0]}/{(whole(obj) or [none or 0])[0]}"
    default: Any = int(none) if none.isdigit() else none if given else _WITHOUT.get(function, "<none>")
    if function.startswith("."):
        return _found(_path(function), default)
    shown = _FUNCTIONS[function]
    if not arguments:
        return shown
    find = _path(arguments[0])
    return lambda obj, now: shown(found[0], now) if (found := find(obj)) else default


def _found(find: Callable[[Any], list[Any]], default: Any) -> Cell:
    def cell(obj: JSON, _: datetime) -> Any:
        values = find(obj)
        return default if not values else values[0] if len(values) == 1 else ",".join(map(str, values))

    return cell


_path = cache(compile_path)


@cache
def _described() -> dict[str, list[Column]]:
    """The columns of built-in kinds, by storage key."""
    found: dict[str, list[str]] = yaml.load(Path(__file__).with_name("columns.yaml").read_bytes(), yaml.CSafeLoader)
    return {storage: [_column(*text.split(" = ", 1)) for text in lines] for storage, lines in found.items()}


def _column(head: str, cell: str) -> Column:
    name, _, kind = head.removesuffix("*").partition(":")
    return Column(name, kind or "string", int(head.endswith("*")), _cell(cell))


NAME = Column("Name", "string", 0, _cell(".metadata.name"), "name", "Name must be unique within a namespace.")
AGE = Column(
    "Age",
    "string",
    0,
    _cell("age .metadata.creationTimestamp"),
    "",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
)


def _columns(resource: Resource) -> list[Column]:
    """The name first, unless the kind has another place for it."""
    if resource.custom is None:
        found = _described().get(resource.storage, [AGE])
    else:
        declared = resource.custom.get("additionalPrinterColumns")
        found = [_custom_column(column) for column in declared] if declared else [AGE]
    return found if any(column.name == NAME.name for column in found) else [NAME, *found]


def _custom_column(column: JSON) -> Column:
    kind, path = column["type"], column["jsonPath"]
    description = column.get("description", f"Custom resource definition column (in JSONPath format): {path}")
    cell = _custom_cell(path, kind)
    return Column(column["name"], kind, column.get("priority", 0), cell, column.get("format", ""), description)


def _custom_cell(path: str, kind: str) -> Cell:
    try:
        find = _path(path)
    except JsonPathError:
        return lambda *_: None

    def cell(obj: JSON, now: datetime) -> Any:
        values = find(obj)
        return _typed(values[0], kind, now) if values and values[0] is not None else None

    return cell


def _typed(value: Any, kind: str, now: datetime) -> Any:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    match kind:
        case "integer":
            return None if number is None else int(number)
        case "number":
            return number
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return _date(value, now) if isinstance(value, str) else None
        case _:
            return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _date(value: str, now: datetime) -> str:
    try:
        return human_age(value, now)
    except (ValueError, TypeError):
        return "<invalid>"


def partial(obj: JSON) -> JSON:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(resource: Resource, objects: Iterable[JSON], metadata: JSON, include: str) -> JSON:
    """A Table of objects; `include` says how much of each object goes with its row: Metadata, Object or None."""
    columns, now = _columns(resource), datetime.now(UTC)
    rows = []
    for obj in objects:
        row: JSON = {"cells": [column.cell(obj, now) for column in columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    shown = ("name", "type", "format", "description", "priority")
    definitions = [{word: getattr(column, word) for word in shown} for column in columns]
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return head | {"columnDefinitions": definitions, "rows": rows}
