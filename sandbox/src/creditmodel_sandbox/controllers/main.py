"""`creditmodel-sandbox controllers --kubeconfig FILE`: run every controller against one API server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence

from creditmodel_sandbox.client import Client, Kubeconfig, KubeconfigError, load_kubeconfig
from creditmodel_sandbox.controllers import cronjob, deployment, disruption, endpointslice, replicaset, scheduler
from creditmodel_sandbox.controllers.autoscaler import Autoscaler
from creditmodel_sandbox.controllers.garbage import GarbageCollector
from creditmodel_sandbox.controllers.job import JobController
from creditmodel_sandbox.controllers.namespace import NamespaceController
from creditmodel_sandbox.controllers.runtime import Controller, Runtime
from creditmodel_sandbox.logs import log_to_stderr

__all__ = ["controllers", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 0 after a stop that was asked for, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="creditmodel-sandbox controllers", description=__doc__)
    parser.add_argument("--kubeconfig", required=True, help="how to reach the API server")
    parser.add_argument("--without-scheduler", action="store_true", help="leave pods to another scheduler")
    parser.add_argument("--verbose", action="store_true", help="log every decision that was tried again too")
    arguments = parser.parse_args(argv)
    log_to_stderr(logging.DEBUG if arguments.verbose else logging.INFO)
    try:
        config = load_kubeconfig(arguments.kubeconfig)
    except KubeconfigError as e:
        print(f"creditmodel-sandbox controllers: {e}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(config, with_scheduler=not arguments.without_scheduler))
    except scheduler.AnotherScheduler as e:
        print(f"creditmodel-sandbox controllers: {e}: start with --without-scheduler", file=sys.stderr)
        return 2
    return 0


def controllers(client: Client, *, with_scheduler: bool = True) -> list[Controller]:
    """Every controller, ready for a runtime."""
    return [
        deployment.CONTROLLER,
        replicaset.CONTROLLER,
        JobController().controller,
        cronjob.CONTROLLER,
        Autoscaler(client).controller,
        disruption.CONTROLLER,
        endpointslice.CONTROLLER,
        GarbageCollector(client).controller,
        NamespaceController(client).controller,
        *([scheduler.CONTROLLER] if with_scheduler else []),
    ]


async def _run(config: Kubeconfig, *, with_scheduler: bool) -> None:
    work = asyncio.create_task(_work(config, with_scheduler=with_scheduler))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _work(config: Kubeconfig, *, with_scheduler: bool) -> None:
    async with Client(config, "creditmodel-sandbox-controllers", "kube-controller-manager") as client:
        try:
            async with asyncio.TaskGroup() as group:  # which waits for all of its tasks, also when it is cancelled
                group.create_task(Runtime(client, controllers(client, with_scheduler=with_scheduler)).run())
                if with_scheduler:
                    group.create_task(scheduler.announce(client))
        except* scheduler.AnotherScheduler as found:
            raise found.exceptions[0] from None
