"""Events about objects, as `kubectl describe` shows them. A repeated one is counted on, not written anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from creditmodel_sandbox.client import ApiError, Client, ClientError, Resource
from creditmodel_sandbox.notation import format_time

__all__ = ["EVENTS", "Recorder", "reference_to"]

EVENTS = Resource("v1", "events", "Event")
REPEAT_SECONDS = 10.0
REMEMBERED = 2000
Obj = Mapping[str, Any]
log = logging.getLogger(__name__)


def reference_to(obj: Obj) -> dict[str, Any]:
    """An ObjectReference, as Events and a CronJob's status carry it."""
    meta = obj["metadata"]
    reference = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta.get("uid", "")}
    reference["resourceVersion"] = meta.get("resourceVersion", "")
    return reference | ({"namespace": meta["namespace"]} if meta.get("namespace") else {})


@dataclass
class _Series:
    """The same Event again and again."""

    namespace: str
    name: str
    body: dict[str, Any]
    count: int = 0
    written: float = 0.0


class Recorder:
    """Writes Events in the background, one after another; one that cannot be written is logged and forgotten."""

    def __init__(self, client: Client, host: str = "") -> None:
        self._client, self._host = client, host
        self._known: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._waiting: deque[_Series] = deque()
        self._task: asyncio.Task[None] | None = None

    def emit(self, source: str, obj: Obj, kind: str, reason: str, message: str, field_path: str = "") -> None:
        """`source` is the component that speaks, `kind` Normal or Warning; `field_path` names a container, as in
        spec.containers{name}.
        """
        key = (obj["metadata"].get("uid", ""), source, kind, reason, message, field_path)
        series = self._known.setdefault(key, _Series("", "", {}))
        if not series.name:
            series.namespace = obj["metadata"].get("namespace") or "default"
            series.name = f"{obj['metadata']['name']}.{time.time_ns():x}"
            series.body = self._body(source, obj, kind, reason, message, field_path)
        series.count += 1
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        if time.monotonic() - series.written >= REPEAT_SECONDS or not series.written:
            series.written = time.monotonic()
            self._waiting.append(series)
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def stop(self) -> None:
        """Write no more: to be awaited before the client is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _body(self, source: str, obj: Obj, kind: str, reason: str, message: str, field_path: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "involvedObject": reference_to(obj) | ({"fieldPath": field_path} if field_path else {}),
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": source} | ({"host": self._host} if self._host else {}),
            "reportingComponent": source,
            "reportingInstance": self._host,
        }

    async def _write_all(self) -> None:
        while self._waiting:
            series = self._waiting.popleft()
            try:
                await self._write(series)
            except ClientError as e:
                log.debug("event %s: %s", series.name, e)

    async def _write(self, series: _Series) -> None:
        now = format_time()
        if series.count > 1:
            try:
                patch = {"count": series.count, "lastTimestamp": now}
                await self._client.patch(EVENTS, series.namespace, series.name, patch)
                return
            except ApiError as e:
                if e.code != 404:
                    raise
        meta = {"name": series.name, "namespace": series.namespace}
        body = {**series.body, "metadata": meta, "count": series.count, "firstTimestamp": now, "lastTimestamp": now}
        await self._client.create(EVENTS, series.namespace, body)
