"""`creditmodel-sandbox apiserver`: the API server as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from creditmodel_sandbox.apiserver import kinds
from creditmodel_sandbox.apiserver.crd import CRD_STORAGE, serve_definition
from creditmodel_sandbox.apiserver.credentials import Credentials, server_context
from creditmodel_sandbox.apiserver.objects import Objects, Options
from creditmodel_sandbox.apiserver.resources import Registry
from creditmodel_sandbox.apiserver.server import Server
from creditmodel_sandbox.apiserver.storage import Store
from creditmodel_sandbox.logs import log_to_stderr
from creditmodel_sandbox.pki import write_private

__all__ = ["main"]

JSON = dict[str, Any]
MAX_BODY = 3 * 1024 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="creditmodel-sandbox apiserver", description=__doc__)
    parser.add_argument(
        "--state-dir", type=Path, required=True, help="where the database, certificate and token are kept"
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument(
        "--kubeconfig", type=Path, help="file to write once the server listens (default: in the state directory)"
    )
    parser.add_argument(
        "--name", default="creditmodel-sandbox", help="name of cluster, user and context in the kubeconfig"
    )
    parser.add_argument(
        "--service-cidr", type=ipaddress.IPv4Network, default="127.96.0.0/16", help="addresses of Services"
    )
    parser.add_argument(
        "--watch-history", type=int, default=1000, help="events kept per resource for watches that resume"
    )
    arguments = parser.parse_args(argv)
    log_to_stderr()
    return asyncio.run(serve(arguments))


async def serve(arguments: argparse.Namespace) -> int:
    """Start, say where, and serve until told to stop."""
    credentials = Credentials.open(arguments.state_dir)
    registry = Registry()
    path = arguments.state_dir / "objects.db"
    try:
        store = Store(path, lambda storage, obj: index_fields(registry, storage, obj), arguments.watch_history)
    except sqlite3.DatabaseError as error:
        print(f"creditmodel-sandbox apiserver: {path} cannot be used ({error}){_remedy(error)}", file=sys.stderr)
        return 2
    objects = Objects(store, registry, kinds.Addresses(arguments.service_cidr))
    for record in store.collection(CRD_STORAGE).records.values():
        serve_definition(registry, record.object())
    _bootstrap(objects)

    server = Server(objects, credentials)
    application = web.Application(client_max_size=MAX_BODY)
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", arguments.port, ssl_context=server_context(credentials))
    try:
        await site.start()
    except OSError as error:
        taken = f"port {arguments.port} on 127.0.0.1 cannot be had ({error.strerror})"
        print(f"creditmodel-sandbox apiserver: {taken}: choose another with --port", file=sys.stderr)
        return 2
    port = runner.addresses[0][1]
    url = f"https://127.0.0.1:{port}"
    kubeconfig = arguments.kubeconfig or arguments.state_dir / "kubeconfig"
    write_private(kubeconfig, credentials.kubeconfig(url, arguments.name))
    print(url, flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()
    await server.nodes.close()
    store.close()
    return 0


def _remedy(error: sqlite3.DatabaseError) -> str:
    """What to do about a database that cannot be opened, as far as the error tells."""
    if "locked" in str(error):
        return ": another server may use it"
    # An OperationalError is the disk's: it may be full, or read-only.
    return "" if isinstance(error, sqlite3.OperationalError) else ": it is damaged, and `reset` makes a new one"


def index_fields(registry: Registry, storage: str, obj: JSON) -> dict[str, str]:
    """The values that field selectors look at."""
    resource = registry.stored(storage)
    found = {}
    for path in resource.fields if resource else ():
        value: Any = obj
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict | list):
            found[path] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _bootstrap(objects: Objects) -> None:
    """What every cluster has from the start."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        _ensure(objects, "namespaces", "", {"metadata": {"name": name}})
    for name in ("default", "kube-system"):
        _ensure(objects, "serviceaccounts", name, {"metadata": {"name": "default"}})
    cidrs = {"cidrs": [str(objects.addresses.services)]}
    _ensure(objects, "servicecidrs.networking.k8s.io", "", {"metadata": {"name": "kubernetes"}, "spec": cidrs})
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]
    role = {"metadata": {"name": "cluster-admin"}, "rules": everything}
    _ensure(objects, "clusterroles.rbac.authorization.k8s.io", "", role)


def _ensure(objects: Objects, storage: str, namespace: str, obj: JSON) -> None:
    resource = objects.registry.builtin(storage)
    if objects.store.get(resource.storage, (namespace, obj["metadata"]["name"])) is None:
        objects.create(resource, namespace, obj, Options("kube-apiserver"))
