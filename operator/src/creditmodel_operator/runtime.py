"""The operator as a process: watches, workers, leader election and the HTTP endpoint, put together and taken apart."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self, cast

import kopf
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config

from creditmodel_operator import logs
from creditmodel_operator.client import ApiFailure, Client, Gone, configuration
from creditmodel_operator.health import serve
from creditmodel_operator.leader import Lease, lead
from creditmodel_operator.lists import Lists
from creditmodel_operator.metrics import LEADER
from creditmodel_operator.observed import Images
from creditmodel_operator.queue import Queue
from creditmodel_operator.store import NO_DEMANDS, Demands, Key, Store
from creditmodel_operator.watching import registry, settings
from creditmodel_operator.worker import Worker

__all__ = ["Settings", "main", "run"]

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""How long passes that are going on may take to end once the process is told to stop."""
ENDING_SECONDS = 5.0
"""How long the watches may take to end when no pass goes on any more."""
CRD_SECONDS = 2.0


@dataclass(frozen=True)
class Settings:
    """How the operator runs."""

    namespaces: tuple[str, ...] = ()
    """Empty: every namespace."""
    images: Images = field(default_factory=Images)
    demands: Demands = NO_DEMANDS
    workers: int = 8
    host: str = "127.0.0.1"
    port: int = 0
    leader_elect: bool = False
    lease_seconds: int = 15
    watch_patience: float = 70.0
    lease_namespace: str = "default"
    identity: str = ""
    log_level: str = "INFO"

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Self:
        """The settings of a command line."""
        return cls(
            namespaces=tuple(arguments.namespace or ()),
            images=Images(serving=arguments.serving_image, jobs=arguments.jobs_image),
            demands=Demands(frozenset(arguments.require_approval or ()), arguments.require_signature),
            workers=arguments.workers,
            host=arguments.host,
            port=arguments.metrics_port,
            leader_elect=arguments.leader_elect,
            lease_seconds=arguments.lease_seconds,
            watch_patience=arguments.watch_patience,
            lease_namespace=arguments.lease_namespace,
            identity=arguments.identity or f"{socket.gethostname()}-{os.getpid()}",
            log_level=arguments.log_level,
        )


def main(settings: Settings) -> int:
    """Run until told to stop; returns the exit code."""
    logs.configure(settings.log_level)
    try:
        return asyncio.run(run(settings))
    except kube_config.ConfigException as e:
        logger.error("no cluster is configured: %s; set KUBECONFIG, or run in a pod with a service account", e)
        return 2


async def run(chosen: Settings) -> int:
    """Run until SIGTERM or SIGINT; 1 if the Lease was lost, else 0."""
    connection = await configuration()
    async with AsyncExitStack() as stack:
        lease = Lease(chosen.lease_seconds)
        may_write = (lambda: lease.held) if chosen.leader_elect else (lambda: True)
        client = await stack.enter_async_context(Client(connection, may_write))
        stop = asyncio.Event()
        _on_signals(stop)
        store, queue, leading = Store(chosen.images, chosen.demands), Queue[Key](), asyncio.Event()
        worker = Worker(client, store, queue, leading)
        operator = _Operator(chosen, connection, worker, lease, stop)
        url = await stack.enter_async_context(serve(chosen.host, chosen.port, worker, operator.ready))
        logger.info("metrics and health at %s", url, extra={"url": url})
        # After the probes answer: a process that waits for the CRD is alive, and to restart it would only delay it.
        return await operator.run() if await _crd_is_served(client, stop) else 0


class _Operator:
    """The tasks of a running operator."""

    def __init__(
        self, chosen: Settings, connection: kube.Configuration, worker: Worker, lease: Lease, stop: asyncio.Event
    ) -> None:
        self.chosen, self.connection, self.worker, self.stop = chosen, connection, worker, stop
        self.lease = lease
        self.lists = Lists(worker.client, worker.store, worker.changed, chosen.namespaces)
        self.unwatch = asyncio.Event()

    def ready(self) -> bool:
        """Whether there is something that this replica could work on."""
        return self.lists.complete

    async def run(self) -> int:
        """Start everything; stop in the order: no new pass, passes ended, watches ended."""
        leader = asyncio.create_task(self._lead())
        workers = [asyncio.create_task(self.worker.run()) for _ in range(self.chosen.workers)]
        lister = asyncio.create_task(self.lists.run())
        stopper = asyncio.create_task(self._stop_in_order([*workers, lister, leader]))
        existing = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry(self.worker.store, self.lists.told, self.lists.again),
            settings=settings(self.chosen.watch_patience),
            stop_flag=self.unwatch,
            clusterwide=not self.chosen.namespaces,
            namespaces=self.chosen.namespaces,
            # Kopf would ask for the user's name, which a pod's has not.
            identity=cast("Any", self.chosen.identity),
        )
        _on_signals(self.stop)
        logger.info("watching %s", ", ".join(self.chosen.namespaces) or "every namespace")
        try:
            done, _ = await asyncio.wait([*tasks, *workers, lister], return_when=asyncio.FIRST_COMPLETED)
            failed = not self.stop.is_set()
            _told_of(done & {*workers, lister})
        finally:
            self.stop.set()
            await stopper
        # A watch that fails makes Kopf log out, and the others may then wait for a login for ever: no pass goes on and
        # the Lease is given up, so nothing is lost by not waiting with them.
        asyncio.get_running_loop().call_later(ENDING_SECONDS, os._exit, 1)
        try:
            await kopf.run_tasks(tasks, ignored=existing)
        except Exception:
            logger.exception("a watch has failed for good: a new process has to begin anew")
        return 1 if failed else 0 if leader.cancelled() else _told(leader)

    async def _lead(self) -> None:
        """Hold the Lease, or lead without one; losing it stops the process, and its successor starts clean."""
        if not self.chosen.leader_elect:
            self.worker.leading.set()
            LEADER.set(1)
            await asyncio.Event().wait()
        try:
            chosen = self.chosen
            await lead(self.connection, chosen.lease_namespace, chosen.identity, self.lease, self.worker.leading)
            logger.error("the Lease is lost: stopping")
        finally:
            self.stop.set()

    async def _stop_in_order(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        await self.stop.wait()
        self.worker.leading.clear()
        LEADER.set(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await self.worker.idle.wait()
        await _cancelled(tasks)
        self.unwatch.set()


def _told_of(ended: Iterable[asyncio.Task[None]]) -> None:
    """Say why tasks have ended that should go on for ever."""
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a part of the operator has failed: a new process has to begin anew", exc_info=error)


def _told(leader: asyncio.Task[None]) -> int:
    """The exit code when leading ended by itself: the Lease is lost, or the election broke."""
    error = leader.exception()
    if error is not None:
        logger.error("leader election failed", exc_info=error)
    return 1


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _crd_is_served(client: Client, stop: asyncio.Event) -> bool:
    """Wait for the API server and the CRD; False if told to stop before."""
    while not stop.is_set():
        try:
            await client.check()
        except Gone:
            logger.warning("a CRD is not installed: apply crds/; looking again")
        except ApiFailure as e:
            logger.warning("%s; trying again", e)
        else:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CRD_SECONDS):
                await stop.wait()
    return False
