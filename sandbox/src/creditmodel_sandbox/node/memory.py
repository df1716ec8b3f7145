"""Memory limits: a container that uses more than its limit is ended as the kernel would end it.

Resident memory is cheap to read and counts too much (libraries, pages shared after a fork); only when that sum is over
the limit is the exact figure read. Looked at each second, ten times as often when a container is over half its limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from creditmodel_sandbox.node.pods import PodWorker
from creditmodel_sandbox.node.stats import Census, unreclaimable

__all__ = ["Watchdog"]

SECONDS, SECONDS_WHEN_NEAR = 1.0, 0.1


class Watchdog:
    """Ends containers that are over their limit. `limited` is set when a container with a limit starts."""

    def __init__(self, census: Census, workers: Callable[[], Iterable[PodWorker]], limited: asyncio.Event) -> None:
        self._census, self._workers, self._limited = census, workers, limited

    async def run(self) -> None:
        """Watch until cancelled; nothing is read while no container has a limit."""
        while True:
            limits = self._limits()
            if not limits:
                self._limited.clear()
                await self._limited.wait()
                continue
            await asyncio.sleep(SECONDS_WHEN_NEAR if self._check(limits) else SECONDS)

    def _limits(self) -> dict[str, tuple[PodWorker, float]]:
        runs = ((worker, run) for worker in self._workers() for run in worker.runs.values())
        return {run.process.mark: (worker, run.memory_limit) for worker, run in runs if run.memory_limit}

    def _check(self, limits: dict[str, tuple[PodWorker, float]]) -> bool:
        """End what is over; say whether any is near."""
        near, processes = False, self._census.processes()
        for mark, used in self._census.usage(processes).items():
            worker, limit = limits.get(mark, (None, 0.0))
            if worker is None:
                continue
            near = near or used.rss > limit / 2
            if used.rss > limit and unreclaimable(processes[mark]) > limit:
                worker.out_of_memory(mark)
        return near
