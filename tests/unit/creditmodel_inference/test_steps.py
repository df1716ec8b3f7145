"""Steps of a large request: others come in, and not more often than is worth it."""

from __future__ import annotations

import asyncio
import time

from creditmodel_inference.steps import TURN_SECONDS, Steps, in_turns


def steps(count: int, seconds: float, pause: float = 0.0) -> Steps[int]:
    for _ in range(count):
        time.sleep(seconds)
        yield pause
    return count


async def others_let_in(work: Steps[int]) -> int:
    """How often the event loop turned to others meanwhile."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await in_turns(work)
    task.cancel()
    return turns


def test_others_come_in_after_each_long_step() -> None:
    assert asyncio.run(others_let_in(steps(20, 2 * TURN_SECONDS))) >= 19


def test_short_steps_follow_each_other() -> None:
    begun = time.perf_counter()
    turns = asyncio.run(others_let_in(steps(10_000, 0)))
    assert turns <= 2 + (time.perf_counter() - begun) / TURN_SECONDS


def test_a_pause_that_a_step_asks_for_is_made() -> None:
    begun = time.perf_counter()
    asyncio.run(in_turns(steps(3, 0, pause=0.02)))
    assert time.perf_counter() - begun >= 0.059
