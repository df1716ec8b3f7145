"""One pass after another: observe, decide, carry out. A pass that fails is repeated later, and later still."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from creditmodel_operator.apply import carry_out
from creditmodel_operator.client import ApiFailure, Client, Gone
from creditmodel_operator.decide import decide, parse_spec
from creditmodel_operator.metrics import PASS_SECONDS, PASSES, QUEUE, Models
from creditmodel_operator.queue import Queue
from creditmodel_operator.store import Key, Store

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
PAST_SECONDS = 1.0
"""When to look again where that was due before: a mistake must not become a busy loop."""
LAST_RETRY_SECONDS = 120.0
"""Between two attempts after an error of the operator's own; one of the API server says how long it waits."""


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass
class Worker:
    """Works through the queue. `leading` holds it back while another replica acts."""

    client: Client
    store: Store
    queue: Queue[Key]
    leading: asyncio.Event
    now: Callable[[], datetime] = _utc
    models: Models = field(default_factory=Models)
    started: dict[Key, float] = field(default_factory=dict)
    """When the passes that are going on began."""
    idle: asyncio.Event = field(default_factory=_set)
    """Set while no pass is going on."""
    _failures: dict[Key, int] = field(default_factory=dict)

    def changed(self, keys: Iterable[Key]) -> None:
        """Something about these CreditModels has changed."""
        for key in keys:
            self.queue.add(key)
        QUEUE.set(len(self.queue))

    async def run(self) -> None:
        """Work until cancelled. Several may run at once: the queue keeps them off each other's keys."""
        while True:
            await self.leading.wait()
            key = await self.queue.get()
            QUEUE.set(len(self.queue))
            self.started[key] = time.monotonic()
            self.idle.clear()
            try:
                await self._guarded(key)
            finally:
                self._ended(key)

    def _ended(self, key: Key) -> None:
        del self.started[key]
        self.queue.done(key)
        if not self.started:
            self.idle.set()

    async def _guarded(self, key: Key) -> None:
        begun = time.perf_counter()
        try:
            outcome = await self._pass(key)
            self._failures.pop(key, None)
        except Gone as e:
            outcome = "gone"
            self._again(key, e, logging.INFO)
        except ApiFailure as e:
            outcome = type(e).__name__.lower()
            self._again(key, e, logging.WARNING)
        except Exception as e:
            outcome = "error"
            logger.exception("pass failed", extra={"key": "/".join(key)})
            self._again(key, e, logging.DEBUG)
        PASSES.labels(outcome).inc()
        PASS_SECONDS.observe(time.perf_counter() - begun)

    async def _pass(self, key: Key) -> str:
        observed = self.store.observe(key)
        if observed is None:
            self.queue.forget(key)
            self.models.update(key, {})
            return "absent"
        now = self.now()
        plan = decide(parse_spec(observed.model), observed, now)
        if plan.look_again is not None:
            wait = (plan.look_again - now).total_seconds() + 0.01
            self.queue.later(key, wait if wait > 0 else PAST_SECONDS)
        changed = await carry_out(plan, observed.model, self.client, self.store)
        status = plan.status if plan.status is not None else observed.model.status
        self.models.update(key, status)
        if changed:
            self.queue.add(key)  # the store knows already what the watch will tell: nothing else brings the key back
        return "changed" if plan.actions or plan.status is not None else "unchanged"

    def _again(self, key: Key, error: Exception, level: int) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest = error.longest_wait if isinstance(error, ApiFailure) else LAST_RETRY_SECONDS
        delay = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16), longest)
        delay = max(delay * random.uniform(0.8, 1.2), getattr(error, "retry_after", None) or 0.0)  # noqa: S311
        logger.log(level, "%s; again in %.1f s", error, delay, extra={"key": "/".join(key)})
        self.queue.later(key, delay)
