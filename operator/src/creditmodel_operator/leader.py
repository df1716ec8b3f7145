"""Leader election by Lease: two replicas may run, one acts. The other watches too, so that it can take over at once.

A replica that was paused does not know that it was. So acting is bound to the clock: a renewal allows writes for a
time that ends before anybody else may take the Lease, and each write asks whether that time is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio import client as kube
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from creditmodel_operator.metrics import LEADER
from creditmodel_operator.names import LEASE

__all__ = ["Lease", "lead"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps


@dataclass
class Lease:
    """How long a Lease lasts, and whether this replica may act on it."""

    seconds: int = 15
    """How long nobody else may take it after a renewal."""
    until: float = 0.0

    @property
    def renew_seconds(self) -> float:
        """How long a holder that fails to renew it may go on acting."""
        return self.seconds * 2 / 3

    @property
    def retry_seconds(self) -> float:
        """The time between two attempts; the library takes no less than a second."""
        return max(1.0, self.seconds * 2 / 15)

    @property
    def held(self) -> bool:
        """Whether this replica may write now."""
        return self.clock() < self.until

    @staticmethod
    def clock() -> float:
        """Seconds that go on while the process, or the machine, is stopped."""
        return time.clock_gettime(_CLOCK)

    def renewed(self, asked: float) -> None:
        """A renewal that was asked for at `asked` has succeeded."""
        self.until = asked + self.renew_seconds

    def lost(self) -> None:
        """Somebody else has it, or it was given up."""
        self.until = 0.0


class _Deposed(Exception):
    """Another replica holds the Lease that this one held."""


class _Lock(LeaseLock):
    """A Lease over a network that fails: no answer is one more failed attempt, and never the end of the election."""

    def __init__(self, lease: Lease, namespace: str, identity: str, client: kube.ApiClient) -> None:
        super().__init__(LEASE, namespace, identity, client)
        self.lease = lease

    async def get(self, name: str, namespace: str) -> Any:
        found, record = await self._answered(super().get(name, namespace), lambda e: (False, e))
        holder = record.holder_identity if isinstance(record, LeaderElectionRecord) else self.identity
        if self.lease.until and holder != self.identity:
            raise _Deposed(f"{holder or 'nobody'} holds the Lease")
        return found, record

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # The library's own create (37.0.2) passes a boolean where its API wants text, and raises.
        body = kube.V1Lease(metadata=kube.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        return await self._taken(self._create(namespace, body))

    async def _create(self, namespace: str, body: kube.V1Lease) -> bool:
        self.lease_reference = await self.api_instance.create_namespaced_lease(namespace, body)
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await self._taken(super().update(name, namespace, updated_record))

    async def _taken(self, call: Coroutine[Any, Any, bool]) -> bool:
        asked = self.lease.clock()
        done = await self._answered(call, lambda _: False)
        if done:
            self.lease.renewed(asked)
        return done

    async def release(self) -> None:
        """Give the Lease up if it is still held, so that the successor need not wait for it to expire."""
        self.lease.lost()
        try:
            async with asyncio.timeout(self.lease.retry_seconds * 2):
                await super().get(self.name, self.namespace)  # for its newest resource version
                lease = self.lease_reference
                if lease is not None and lease.spec is not None and lease.spec.holder_identity == self.identity:
                    lease.spec.holder_identity = ""
                    await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except (aiohttp.ClientError, OSError, TimeoutError, ApiException) as e:
            logger.warning("the Lease was not given up: %s", e)

    async def _answered(self, call: Coroutine[Any, Any, R], otherwise: Callable[[ApiException], R]) -> R:
        try:
            async with asyncio.timeout(self.lease.retry_seconds * 2):
                return await call
        except ApiException as e:
            return otherwise(e)
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            return otherwise(ApiException(status=0, reason=f"{type(e).__name__}: {e}"))


class _Election(LeaderElection):
    """Judges the age of the holder's last sign by a clock that nobody sets.

    The library (37.0.2) asks for the time of day: set forward, it would take a Lease that is renewed every two seconds,
    and set back, it would leave one alone whose holder has been dead for an hour.
    """

    @property
    def observed_time_milliseconds(self) -> int:
        """The time of day at which the Lease was last seen to change, by the clock as it is set now."""
        return int((time.time() - (Lease.clock() - self._observed)) * 1000)

    @observed_time_milliseconds.setter
    def observed_time_milliseconds(self, _: int) -> None:
        self._observed = Lease.clock()


async def lead(
    configuration: kube.Configuration, namespace: str, identity: str, lease: Lease, leading: asyncio.Event
) -> None:
    """Set `leading` once this replica holds the Lease; returns when it has lost it."""

    async def begin() -> None:
        logger.info("this replica acts", extra={"identity": identity})
        leading.set()
        LEADER.set(1)

    async with kube.ApiClient(configuration) as client:
        lock = _Lock(lease, namespace, identity, client)
        election = Config(
            lock,
            lease_duration=lease.seconds,
            renew_deadline=lease.renew_seconds,
            retry_period=lease.retry_seconds,
            onstarted_leading=begin,
            onstopped_leading=None,  # type: ignore[arg-type]  # it may be None, its annotation forgets
        )
        try:
            await _Election(election).run()
        except _Deposed as e:
            logger.warning("%s", e, extra={"identity": identity})
        finally:
            leading.clear()
            LEADER.set(0)
            await lock.release()
