"""While the API server does not answer, one request at a time asks whether it does again.

However many objects wait, a server that struggles is asked every few seconds, and all go on as soon as it answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Outage"]

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 4.0


class Outage:
    """How many attempts in a row have had no answer."""

    def __init__(self) -> None:
        self.failures = 0
        self._wait = 0.0
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Wait for one's turn to send a request. False: somebody else has asked meanwhile, in vain."""
        before = self.failures
        if not before:
            yield True
            return
        async with self._one:
            if self.failures > before:
                yield False
                return
            if self.failures:
                await asyncio.sleep(self._wait)
            yield True

    def failed(self, before: int, retry_after: float | None) -> None:
        """A request that was sent when there were `before` failures has had no answer, or was told to come later."""
        if self.failures == before:  # requests that fail together count once
            self.failures += 1
        wait = min(FIRST_WAIT_SECONDS * 2 ** min(self.failures - 1, 10), LONGEST_WAIT_SECONDS)
        self._wait = max(wait * random.uniform(0.8, 1.2), retry_after or 0.0)  # noqa: S311

    def over(self) -> None:
        """A request was answered."""
        self.failures = 0
