"""Events are written in the background, and no longer than there is a client to write them with."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from creditmodel_sandbox.client import Client
from creditmodel_sandbox.events import Recorder


class Slow:
    """An API server that answers no write."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.ended: list[str] = []

    async def create(self, *_: Any) -> None:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append("create")


def test_a_recorder_that_is_stopped_is_in_the_middle_of_nothing() -> None:
    async def story() -> list[str]:
        client = Slow()
        recorder = Recorder(cast(Client, client))
        await recorder.stop()  # nothing was said yet
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "gate", "namespace": "default"}}
        recorder.emit("job-controller", job, "Normal", "Completed", "Job completed")
        await client.asked.wait()
        await recorder.stop()
        return client.ended

    assert asyncio.run(asyncio.wait_for(story(), 60)) == ["create"]
