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

from creditmodel_operator.metrics import LEADER
from creditmodel_operator.names import LEASE

__all__ = ["lead"]

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_SECONDS = 10
RETRY_SECONDS = 2

R = TypeVar("R")


class _Lock(LeaseLock):
    """A Lease over a network that fails: no answer is one more failed attempt, and never the end of the election."""

    async def get(self, name: str, namespace: str) -> Any:
        return await _answered(super().get(name, namespace), lambda e: (False, e))

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # The library's own create (37.0.2) passes a boolean where its API wants text, and raises.
        body = kube.V1Lease(metadata=kube.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        return await _answered(self._create(namespace, body), lambda _: False)

    async def _create(self, namespace: str, body: kube.V1Lease) -> bool:
        self.lease_reference = await self.api_instance.create_namespaced_lease(namespace, body)
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await _answered(super().update(name, namespace, updated_record), lambda _: False)

    async def release(self) -> None:
        """Give the Lease up if it is still held, so that the successor need not wait for it to expire."""
        lease = self.lease_reference
        if lease is None or lease.spec is None or lease.spec.holder_identity != self.identity:
            return
        lease.spec.holder_identity = ""
        call = self.api_instance.replace_namespaced_lease(name=self.name, namespace=self.namespace, body=lease)
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await call
        except (aiohttp.ClientError, OSError, TimeoutError, ApiException) as e:
            logger.warning("the Lease was not given up: %s", e)


async def _answered(call: Coroutine[Any, Any, R], otherwise: Callable[[ApiException], R]) -> R:
    try:
        async with asyncio.timeout(RETRY_SECONDS * 2):
            return await call
    except ApiException as e:
        return otherwise(e)
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        return otherwise(ApiException(status=0, reason=f"{type(e).__name__}: {e}"))


async def lead(configuration: kube.Configuration, namespace: str, identity: str, leading: asyncio.Event) -> None:
    """Set `leading` once this replica holds the Lease; returns when it has lost it."""

    async def begin() -> None:
        logger.info("this replica acts", extra={"identity": identity})
        leading.set()
        LEADER.set(1)

    async def end() -> None:
        leading.clear()
        LEADER.set(0)

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
        try:
            await LeaderElection(election).run()
        finally:
            await lock.release()
