"""Leader election by Lease: two replicas may run, one acts. The other watches too, so that it can take over at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio import client as kube
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from creditmodel_operator.names import LEASE

__all__ = ["lead"]

LEASE_SECONDS = 15
RENEW_SECONDS = 10
RETRY_SECONDS = 2

R = TypeVar("R")


class _Lock(LeaseLock):
    """A Lease over a network that fails: no answer is one more failed attempt, and never the end of the election."""

    async def get(self, name: str, namespace: str) -> Any:
        return await _answered(super().get(name, namespace), lambda e: (False, e))

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        return await _answered(super().create(name, namespace, election_record), lambda _: False)

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await _answered(super().update(name, namespace, updated_record), lambda _: False)


async def _answered(call: Coroutine[Any, Any, R], otherwise: Callable[[ApiException], R]) -> R:
    try:
        async with asyncio.timeout(RETRY_SECONDS * 2):
            return await call
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        return otherwise(ApiException(status=0, reason=f"{type(e).__name__}: {e}"))


async def lead(configuration: kube.Configuration, namespace: str, identity: str, leading: asyncio.Event) -> None:
    """Set `leading` once this replica holds the Lease; returns when it has lost it."""

    async def begin() -> None:
        logging.getLogger(__name__).info("this replica acts", extra={"identity": identity})
        leading.set()

    async def end() -> None:
        leading.clear()

    async with kube.ApiClient(configuration) as client:
        lock = _Lock(LEASE, namespace, identity, client)
        election = Config(
            lock,
            lease_duration=LEASE_SECONDS,
            renew_deadline=RENEW_SECONDS,
            retry_period=RETRY_SECONDS,
            onstarted_leading=begin,
            onstopped_leading=end,
        )
        await LeaderElection(election).run()
