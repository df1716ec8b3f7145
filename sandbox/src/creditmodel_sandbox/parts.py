"""The processes of an instance: their commands, and how to see that each is ready.

A generator of parts is asked for the next one when the one before is ready, so a part may rest on what that one wrote.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from creditmodel_sandbox.instance import JSON, Instance, Record, free_port, ranges

__all__ = ["Part", "node", "own", "sandbox"]


@dataclass(frozen=True)
class Part:
    """One process to start, and what is waited for before the next one is."""

    name: str
    command: list[str]
    ready: Callable[[], bool] = lambda: True
    what: str = "it began"


def sandbox(instance: Instance, record: Record, port: int) -> Iterator[Part]:
    """The sandbox's own API server, controllers and node."""
    pods, services = ranges(record.slot)
    server = ["--state-dir", str(instance.directory / "apiserver"), "--kubeconfig", str(instance.kubeconfig)]
    server += ["--name", f"creditmodel-sandbox-{instance.name}", "--service-cidr", services]
    server += ["--port", str(port or record.port or free_port())]
    instance.kubeconfig.unlink(missing_ok=True)
    yield own("apiserver", *server, ready=instance.kubeconfig.exists, what="the API server listens")
    # The same address next time, so that a kubeconfig somebody copied stays good.
    record.port = int(instance.server.rpartition(":")[2])
    yield own("controllers", "--kubeconfig", str(instance.kubeconfig))
    yield node(instance, "--bind", "always", "--pod-cidr", pods, "--service-cidr", services)


def own(part: str, *arguments: str, ready: Callable[[], bool] = lambda: True, what: str = "it began") -> Part:
    """One of the sandbox's own commands."""
    return Part(part, [sys.executable, "-m", "creditmodel_sandbox.cli", part, *arguments], ready, what)


def node(instance: Instance, *arguments: str) -> Part:
    """The sandbox's node, ready when it has said so from now on: an earlier run's word does not count."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    options = ["--kubeconfig", str(instance.kubeconfig), "--name", "sandbox", "--state-dir", str(instance.node)]

    def ready() -> bool:
        found: JSON = json.loads(instance.get("/api/v1/nodes/sandbox") or "{}")
        conditions = found.get("status", {}).get("conditions") or []
        said = [c for c in conditions if c["type"] == "Ready" and c["status"] == "True"]
        return any((c.get("lastHeartbeatTime") or "") >= since for c in said)

    return own("node", *options, *arguments, ready=ready, what="the node is ready")
