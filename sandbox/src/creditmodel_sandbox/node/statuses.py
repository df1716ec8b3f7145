"""What a pod's worker leaves behind: its status in the API, its record on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from creditmodel_sandbox.client import STRATEGIC_PATCH, ApiError, Client, ClientError, Obj
from creditmodel_sandbox.node.lifecycle import Record, record_of, rfc3339
from creditmodel_sandbox.objects import PODS

__all__ = ["RecordFile", "StatusWriter"]

LONGEST_PAUSE = 5.0
log = logging.getLogger(__name__)


class StatusWriter:
    """Writes the newest status of one pod; what is replaced before it was written is skipped."""

    def __init__(self, client: Client, pod: Obj, on_written: Callable[[Obj], None]) -> None:
        self._client, self._metadata, self._on_written = client, pod["metadata"], on_written
        self._changed = asyncio.Event()
        self._status: Obj = {}
        self.settled = True
        """Whether everything handed over is written, or never can be."""

    def put(self, status: Obj, *, again: bool = False) -> None:
        """Hand over a status, unless it is the one handed over last and need not be written again."""
        if again or status != self._status:
            # The records' dictionaries go on changing: a copy stays as it is.
            self._status = json.loads(json.dumps(status))
            self.settled = False
            self._changed.set()

    async def run(self) -> None:
        """Write until cancelled; a server that does not answer is asked again, with growing pauses."""
        pause = 0.1
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                answer = await self._write()
            except ClientError as e:
                lost = isinstance(e, ApiError) and e.code in {400, 403, 404, 409, 422}
                gone = isinstance(e, ApiError) and e.code in {404, 409}
                log.log(logging.DEBUG if gone else logging.WARNING, "status of pod %s: %s", self._metadata["name"], e)
                if lost:
                    self.settled = not self._changed.is_set()
                    self._on_written({})
                    continue
                self._changed.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = 0.1
            self.settled = not self._changed.is_set()
            self._on_written(answer)

    async def _write(self) -> Obj:
        metadata = self._metadata
        patch = {"metadata": {"uid": metadata["uid"]}, "status": self._status}  # the uid guards a namesake
        return await self._client.patch(PODS, metadata["namespace"], metadata["name"], patch, "status", STRATEGIC_PATCH)


class RecordFile:
    """What a worker knows of its pod, on disk after every step."""

    def __init__(self, directory: Path) -> None:
        self._path, self._saved = directory / "record.json", ""

    def save(self, records: Iterable[Record], pod_ip: str) -> None:
        """Replace the file, if anything changed."""
        text = json.dumps({"records": [record.to_json() for record in records], "pod_ip": pod_ip})
        if text != self._saved and self._path.parent.exists():
            new = self._path.with_suffix(".new")
            new.write_text(text)
            new.replace(self._path)
            self._saved = text

    def recover(self, pod: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Record], str]:
        """Records and address: as saved, else as the API has them, else new. What ran under an earlier node has
        ended, and starts again without a back-off, which a kubelet forgets with its end too.
        """
        reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
        records = {name: Record(name, {"waiting": {"reason": reason}}) for name in names}
        status = pod.get("status") or {}
        address = status.get("podIP") or ""
        statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        known = [record_of(item) for item in statuses]
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            saved = json.loads(self._path.read_text())
            known, address = [Record(**item) for item in saved["records"]], saved["pod_ip"]
        records |= {record.name: record for record in known if record.name in records}
        for record in records.values():
            record.crashes = 0
            if record.kind == "running":
                began = record.state["running"].get("startedAt") or rfc3339(record.began)
                message = "The container ended with the node that ran it"
                record.ran(time.time(), 137, "ContainerStatusUnknown", message, began)
        return records, address
