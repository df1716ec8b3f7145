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
from creditmodel_sandbox.controllers import cronjob, deployment, disruption, endpointslice, replicaset
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
    parser.add_argument("--verbose", action="store_true", help="log every decision that was tried again too")
    arguments = parser.parse_args(argv)
    log_to_stderr(logging.DEBUG if arguments.verbose else logging.INFO)
    try:
        config = load_kubeconfig(arguments.kubeconfig)
    except KubeconfigError as e:
        print(f"creditmodel-sandbox controllers: {e}", file=sys.stderr)
        return 2
    asyncio.run(_run(config))
    return 0


def controllers(client: Client) -> list[Controller]:
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
    ]


async def _run(config: Kubeconfig) -> None:
    async with Client(config, "creditmodel-sandbox-controllers", "kube-controller-manager") as client:
        work = asyncio.create_task(Runtime(client, controllers(client)).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work
