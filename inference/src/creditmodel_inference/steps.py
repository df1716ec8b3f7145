"""Work on a large request, cut into steps with a pause wherever others may come in between.

A step tells how many seconds the pause should last. Zero lets in the clients that are there, unless they were let in
just before: a turn of the event loop takes as long as a short step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

__all__ = ["Steps", "Turns", "at_once", "in_turns"]

Result = TypeVar("Result")
Steps = Generator[float, None, Result]

TURN_SECONDS = 0.0005
"""How long short steps may follow each other. With the last of them others wait about twice that."""


class Turns:
    """Takes the steps of one request on the event loop, giving way in between."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def take(self, steps: Steps[Result]) -> Result:
        """Take them one by one."""
        while True:
            try:
                pause = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            await self.give_way(pause)

    async def give_way(self, pause: float = 0.0) -> None:
        """Let others come in for so many seconds; for none, if it has not been long."""
        if pause or time.perf_counter() - self._began >= TURN_SECONDS:
            await asyncio.sleep(pause)
            self._began = time.perf_counter()


async def in_turns(steps: Steps[Result]) -> Result:
    """Take the steps one by one on the event loop, giving way in between."""
    return await Turns().take(steps)


def at_once(steps: Steps[Result]) -> Result:
    """Take all steps now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
