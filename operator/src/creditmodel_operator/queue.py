"""A queue of keys. A key waits once however often it is added, and is never worked on twice at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Queue"]

K = TypeVar("K", bound=Hashable)


class Queue(Generic[K]):
    """De-duplicating queue with delays.

    `add` makes a key due now, `later` makes it due at a time unless it is due before. A key that is added while it is
    being worked on becomes due again when `done` is called.
    """

    def __init__(self) -> None:
        self._due: dict[K, None] = {}
        self._again: set[K] = set()
        self._working: set[K] = set()
        self._later: list[tuple[float, int, K]] = []
        self._when: dict[K, float] = {}
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys that are due; those that wait for their time are not counted."""
        return len(self._due)

    def add(self, key: K) -> None:
        """The key is due now."""
        if key in self._working:
            self._again.add(key)
        else:
            self._due[key] = None
        self._changed.set()

    def later(self, key: K, delay: float) -> None:
        """The key is due after `delay` seconds, or earlier if that was asked for before."""
        when = asyncio.get_running_loop().time() + max(delay, 0)
        if when < self._when.get(key, float("inf")):
            self._when[key] = when
            heapq.heappush(self._later, (when, next(self._order), key))
            self._changed.set()

    def forget(self, key: K) -> None:
        """Nothing is due for this key any more."""
        self._due.pop(key, None)
        self._again.discard(key)
        self._when.pop(key, None)

    async def get(self) -> K:
        """The next key that is due; call `done` when its pass is over."""
        while True:
            wait = self._promote()
            if self._due:
                key = next(iter(self._due))
                del self._due[key]
                self._working.add(key)
                return key
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def done(self, key: K) -> None:
        """The key's pass is over."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _promote(self) -> float | None:
        """Make due what has waited long enough; returns the seconds until the next one."""
        now = asyncio.get_running_loop().time()
        while self._later:
            when, _, key = self._later[0]
            if self._when.get(key) != when:
                heapq.heappop(self._later)
            elif when <= now:
                heapq.heappop(self._later)
                del self._when[key]
                self.add(key)
            else:
                return when - now
        return None
