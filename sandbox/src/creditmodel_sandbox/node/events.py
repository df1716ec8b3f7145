"""Events about pods, as `kubectl describe` shows them. A repeated one is counted on, not written anew."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from creditmodel_sandbox.client import Client, ClientError, Resource
from creditmodel_sandbox.node.lifecycle import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Recorder"]

EVENTS = Resource("v1", "events", "Event")
REPEAT_SECONDS = 10.0
REMEMBERED = 2000
log = logging.getLogger(__name__)


@dataclass
class _Series:
    name: str
    count: int
    written: float


class Recorder:
    """Writes Events in the background; a failure to write one is logged and forgotten."""

    def __init__(self, client: Client, component: str, host: str) -> None:
        self._client, self._component, self._host = client, component, host
        self._known: dict[tuple[str, ...], _Series] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def emit(self, pod: Mapping[str, Any], kind: str, reason: str, message: str, field_path: str = "") -> None:
        """`kind` is Normal or Warning; `field_path` names the container, as in spec.containers{name}."""
        key = (pod["metadata"]["uid"], reason, message, field_path)
        series = self._known.get(key)
        if series is None:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            name = f"{pod['metadata']['name']}.{time.time_ns():x}"
            self._known[key] = _Series(name, 1, time.monotonic())
            self._hold(self._create(pod, kind, reason, message, field_path, name))
            return
        series.count += 1
        if time.monotonic() - series.written >= REPEAT_SECONDS:
            series.written = time.monotonic()
            patch = {"count": series.count, "lastTimestamp": rfc3339(time.time())}
            self._hold(self._client.patch(EVENTS, pod["metadata"]["namespace"], series.name, patch))

    def _hold(self, request: Any) -> None:
        async def write() -> None:
            try:
                await request
            except ClientError as e:
                log.debug("event: %s", e)

        task = asyncio.get_running_loop().create_task(write())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _create(
        self, pod: Mapping[str, Any], kind: str, reason: str, message: str, field_path: str, name: str
    ) -> None:
        metadata, now = pod["metadata"], rfc3339(time.time())
        involved = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"]}
        involved |= {"uid": metadata["uid"], "resourceVersion": metadata.get("resourceVersion", "")}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": involved | ({"fieldPath": field_path} if field_path else {}),
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component, "host": self._host},
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        await self._client.create(EVENTS, metadata["namespace"], body)
