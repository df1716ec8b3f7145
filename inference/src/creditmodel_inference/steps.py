"""Work on a large request, cut into steps with a pause wherever others may come in between.

A step tells how many seconds the pause should last: zero lets in the clients that are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

__all__ = ["Steps", "at_once", "in_turns"]

Result = TypeVar("Result")
Steps = Generator[float, None, Result]


async def in_turns(steps: Steps[Result]) -> Result:
    """Take the steps one by one on the event loop, giving way in between."""
    while True:
        try:
            pause = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        await asyncio.sleep(pause)


def at_once(steps: Steps[Result]) -> Result:
    """Take all steps now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
