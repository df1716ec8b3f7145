"""`creditmodel-sandbox node`: joins an API server and runs the pods that are bound to it as local processes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from creditmodel_sandbox.client import (
    ApiError,
    Client,
    ClientError,
    KubeconfigError,
    Obj,
    Resource,
    Unreachable,
    load_kubeconfig,
)
from creditmodel_sandbox.events import Recorder
from creditmodel_sandbox.logs import log_to_stderr
from creditmodel_sandbox.node.addresses import AddressPool
from creditmodel_sandbox.node.images import Images, parse_option
from creditmodel_sandbox.node.kubelet_api import KubeletApi, self_signed
from creditmodel_sandbox.node.node import Node
from creditmodel_sandbox.node.pods import Host
from creditmodel_sandbox.node.process import identity_of, sweep
from creditmodel_sandbox.node.register import Registration, capacity
from creditmodel_sandbox.node.routes import LocalRanges, Network, RouteError, free_ranges, is_loopback
from creditmodel_sandbox.node.stats import Census

__all__ = ["NodeError", "Options", "main", "run"]

log = logging.getLogger("creditmodel_sandbox.node")
ADDRESS = "127.0.0.1"
LOOPBACK_PODS = Network("127.244.0.0/16")
_RANGES = Resource("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", namespaced=False)


class NodeError(Exception):
    """The node cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Options:
    kubeconfig: Path
    name: str
    directory: Path
    pod_cidr: Network | None = None
    service_cidrs: tuple[Network, ...] = ()
    bind: str = "auto"
    images: dict[str, Path] = field(default_factory=dict)
    backoff: float = 10.0
    kubelet_port: int = 0
    kubelet_tls: str = "auto"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("creditmodel-sandbox node", description=__doc__)
    add, choices = parser.add_argument, ("auto", "always", "never")
    add("--kubeconfig", type=Path, required=True, help="the API server to join")
    add("--name", default="sandbox", help="the Node's name (default: %(default)s)")
    add("--state-dir", type=Path, help="where pods live on disk (default: one for each name, below the user's state)")
    add("--pod-cidr", type=Network, help="pod addresses (default: a free private range, or a loopback one)")
    add("--service-cidr", type=Network, action="append", default=[], help="Service addresses (default: ask the API)")
    add("--bind", choices=choices, default="auto", help="bind pending pods (auto: while no scheduler is alive)")
    add("--image", action="append", default=[], metavar="NAME=BIN_DIR", help="an image and its commands' directory")
    add("--restart-backoff", type=float, default=10.0, metavar="SECONDS", help="first delay; it doubles up to 30-fold")
    add("--kubelet-port", type=int, default=0, help="port of the kubelet's API on 127.0.0.1 (default: a free one)")
    add("--kubelet-tls", choices=choices, default="auto", help="TLS there (auto: unless the server is a sandbox)")
    add("--verbose", action="store_true", help="log every step")
    return parser


def _options(argv: list[str]) -> Options:
    """The command line; ends with code 2 on a mistake."""
    parser = _parser()
    given = parser.parse_args(argv)
    if given.restart_backoff <= 0:
        parser.error("--restart-backoff must be more than 0 seconds")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", given.name):
        parser.error(f"--name {given.name}: a Node's name has lower-case letters, digits, '-' and '.'")
    try:
        images = dict(map(parse_option, given.image))
    except ValueError as e:
        parser.error(str(e))
    log_to_stderr(logging.DEBUG if given.verbose else logging.INFO)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return Options(
        kubeconfig=given.kubeconfig,
        name=given.name,
        directory=(given.state_dir or state / "creditmodel-sandbox-node" / given.name).absolute(),
        pod_cidr=given.pod_cidr,
        service_cidrs=tuple(given.service_cidr),
        bind=given.bind,
        images=images,
        backoff=given.restart_backoff,
        kubelet_port=given.kubelet_port,
        kubelet_tls=given.kubelet_tls,
    )


@contextlib.contextmanager
def _state(directory: Path) -> Iterator[str]:
    """Hold the state directory alone, and give its identity. What an earlier node left running is ended."""
    (directory / "pods").mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeError(
                f"another node uses {directory}: stop it, or give this one a --state-dir or --name"
            ) from None
        if left := sweep(directory):
            log.info("ended %d processes that an earlier node left", left)
        yield identity_of(directory)


async def _server_version(client: Client) -> str:
    """Wait for the API server, and return its version."""
    told = False
    while True:
        try:
            return str((await client.request("GET", "/version")).get("gitVersion", ""))
        except Unreachable as e:
            if not told:
                log.info("waiting for the API server at %s: %s", client.config.server, e)
            told = True
        except ApiError as e:
            raise NodeError(f"the API server at {client.config.server} refuses this kubeconfig: {e}") from e
        await asyncio.sleep(0.2)


async def _service_ranges(client: Client) -> tuple[Network, ...]:
    """The ranges that the API server takes Service addresses from; none when it does not say."""
    try:
        objects: list[Obj] = (await client.list(_RANGES)).get("items") or []
    except ApiError as e:
        log.info("the API server does not name its Service range (%s): give it with --service-cidr", e)
        return ()
    texts = [text for item in objects for text in item.get("spec", {}).get("cidrs") or []]
    return tuple(network for network in map(ip_network, texts) if isinstance(network, Network))


def _pod_range(options: Options, services: tuple[Network, ...], ranges: LocalRanges, *, sandbox: bool) -> Network:
    """The pods' addresses, which are made local. A real control plane refuses loopback addresses in EndpointSlices;
    a sandbox does not, and without permission there is no choice.
    """
    if options.pod_cidr is None and sandbox and all(map(is_loopback, services)):
        return LOOPBACK_PODS
    try:
        if options.pod_cidr is not None:
            ranges.add(options.pod_cidr)
            return options.pod_cidr
        # Of two nodes that begin at once, one makes a range local, and the other takes the next.
        if (found := next(filter(ranges.add, free_ranges(services, ranges.left)), None)) is not None:
            return found
    except RouteError as e:
        log.warning("pods get addresses from %s: %s", LOOPBACK_PODS, e)
    return LOOPBACK_PODS


@contextlib.asynccontextmanager
async def _listening(api: KubeletApi, options: Options, *, sandbox: bool) -> AsyncIterator[int]:
    """Serve the kubelet's API; the port it has."""
    tls = options.kubelet_tls == "always" or (options.kubelet_tls == "auto" and not sandbox)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        context = self_signed(options.directory, ADDRESS) if tls else None
        site = web.TCPSite(runner, ADDRESS, options.kubelet_port, ssl_context=context)
        try:
            await site.start()
        except OSError as e:
            raise NodeError(f"the kubelet's port {options.kubelet_port} cannot be had: {e.strerror}") from e
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _host(options: Options, client: Client, session: aiohttp.ClientSession, identity: str, pods: Network) -> Host:
    server = urlsplit(client.config.server)
    port = server.port or {"https": 443, "http": 80}[server.scheme]
    return Host(
        client=client,
        name=options.name,
        address=ADDRESS,
        directory=options.directory,
        identity=identity,
        images=Images(options.images),
        pool=AddressPool(pods),
        events=Recorder(client, options.name),
        session=session,
        api={"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(port)},
        allocatable=capacity(),
        limited=asyncio.Event(),
        backoff=options.backoff,
    )


async def run(options: Options) -> None:
    """Join the API server and work until cancelled. Raises NodeError or KubeconfigError when that cannot begin."""
    config = load_kubeconfig(options.kubeconfig)
    with _state(options.directory) as identity, LocalRanges(options.directory / "ranges") as ranges:
        async with Client(config, "creditmodel-sandbox-node", "kubelet") as client, _probe_session() as session:
            version = await _server_version(client)
            sandbox = "sandbox" in version
            services = options.service_cidrs or await _service_ranges(client)
            pods = _pod_range(options, services, ranges, sandbox=sandbox)
            census = Census(identity)
            node = Node(_host(options, client, session, identity, pods), options.bind, census, ranges)
            api = KubeletApi(options.directory, options.name, node.workers.values, census)
            async with _listening(api, options, sandbox=sandbox) as port:
                registration = Registration(client, options.name, ADDRESS, port)
                await _registered(registration)
                log.info("joined %s (%s); pods have addresses from %s", config.server, version, pods)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(registration.run())
                        group.create_task(node.run())
                finally:
                    await registration.stop()
                    await node.stop()


def _probe_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))


async def _registered(registration: Registration) -> None:
    while True:
        try:
            await registration.register()
        except ClientError as e:
            log.warning("the node cannot register: %s", e)
            await asyncio.sleep(1.0)
        else:
            return


async def _until_signal(options: Options) -> None:
    task = asyncio.ensure_future(run(options))
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it forwards a request between a client and a pod in a third of the CPU time."""
    with contextlib.suppress(ImportError):
        return cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGTERM or SIGINT. 0 after an orderly end, 2 when it cannot start."""
    try:
        options = _options(sys.argv[1:] if argv is None else argv)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_signal(options))
    except (NodeError, KubeconfigError, OSError) as e:
        print(f"creditmodel-sandbox node: {e}", file=sys.stderr)
        return 2
    return 0
