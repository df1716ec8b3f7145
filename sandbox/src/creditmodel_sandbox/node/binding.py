"""Scheduling by the node, for an API server that has no scheduler."""

from __future__ import annotations

import asyncio
import logging

from creditmodel_sandbox.client import Client, ClientError
from creditmodel_sandbox.controllers import scheduler
from creditmodel_sandbox.controllers.runtime import Runtime

__all__ = ["bind"]

LOOK_AGAIN_SECONDS = 5.0
log = logging.getLogger(__name__)


async def bind(client: Client, mode: str) -> None:
    """Place pods until cancelled. `mode` is auto (only while no scheduler is alive), always or never."""
    work: asyncio.Task[None] | None = None
    try:
        while mode != "never":
            wanted = mode == "always" or not await _is_scheduled(client)
            if wanted and work is None:
                work = asyncio.create_task(Runtime(client, [scheduler.CONTROLLER]).run())
            elif work is not None and not wanted:
                work.cancel()
                work = None
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    finally:
        if work is not None:
            work.cancel()


async def _is_scheduled(client: Client) -> bool:
    try:
        return await scheduler.is_alive(client)
    except ClientError as e:
        log.info("whether there is a scheduler is not known: %s", e)
        return True
