"""The queue: each key once, never twice at the same time, never lost."""

from __future__ import annotations

import asyncio

import pytest

from creditmodel_operator.queue import Queue


async def test_a_key_that_is_added_many_times_is_due_once() -> None:
    queue = Queue[str]()
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_that_changes_during_its_pass_is_due_again_after_it() -> None:
    queue = Queue[str]()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_a_key_comes_back_after_its_delay_and_not_before() -> None:
    queue = Queue[str]()
    queue.later("a", 0.05)
    begun = asyncio.get_running_loop().time()
    assert await queue.get() == "a"
    assert asyncio.get_running_loop().time() - begun >= 0.05


async def test_the_earlier_of_two_delays_counts() -> None:
    queue = Queue[str]()
    queue.later("a", 60)
    queue.later("a", 0.01)
    queue.later("a", 60)
    async with asyncio.timeout(30):
        assert await queue.get() == "a"


async def test_a_delay_does_not_keep_a_change_waiting() -> None:
    queue = Queue[str]()
    queue.later("a", 60)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await waiting == "a"


async def test_a_forgotten_key_does_not_come_back() -> None:
    queue = Queue[str]()
    queue.later("a", 0.01)
    queue.add("a")
    queue.forget("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await queue.get()
