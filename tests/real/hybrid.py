"""hybrid.py [OPTION…] DIR COMMAND…: a cluster whose custom resources Kubernetes' own code serves.

DIR has the programs etcd and apiextensions-apiserver, as .ci/crd-server builds them. Both run beside the API server of
a sandbox, which serves the built-in kinds, and which they ask about tokens, rights and namespaces. The command runs
with KUBECONFIG set to the front of the two; its exit code is this program's. Everything listens on 127.0.0.1 and ends
with the command.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from creditmodel_sandbox.apiserver.credentials import Credentials, server_context
from creditmodel_sandbox.instance import free_port
from front import Core, Front, Upstream, policies
from harness.kubectl import until
from harness.process import background, console_script

PROGRAMS = ("etcd", "apiextensions-apiserver")
SANDBOX = console_script("creditmodel-sandbox")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def main() -> int:
    """Start, run the command, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help=f"has the programs {' and '.join(PROGRAMS)}")
    parser.add_argument("--without-controllers", action="store_true", help="for tests that play them")
    parser.add_argument("--policies", type=Path, metavar="FILE", help="ValidatingAdmissionPolicies and bindings")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="runs with KUBECONFIG set")
    given = parser.parse_args()
    for name in PROGRAMS:
        if not os.access(given.directory / name, os.X_OK):
            parser.error(f"{given.directory} has no program {name}: .ci/crd-server builds it")
    with tempfile.TemporaryDirectory(prefix="creditmodel-hybrid-") as work:
        return asyncio.run(_run(given, Path(work)))


async def _run(given: argparse.Namespace, work: Path) -> int:
    async with AsyncExitStack() as stack:
        credentials, sandbox = stack.enter_context(_sandbox(work))
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        await stack.enter_async_context(session)
        documents = list(yaml.safe_load_all(given.policies.read_text())) if given.policies else []
        core = Core(sandbox, session, policies(documents))
        url = await stack.enter_async_context(_served(core.handle, credentials))
        seen = work / "seen.kubeconfig"
        seen.write_bytes(credentials.kubeconfig(url, "core"))
        extensions = await stack.enter_async_context(_extensions(given.directory, work, seen))
        front = Front(sandbox, extensions, session, credentials.token)
        await front.start()
        url = await stack.enter_async_context(_served(front.handle, credentials))
        kubeconfig = work / "kubeconfig"
        kubeconfig.write_bytes(credentials.kubeconfig(url, "creditmodel-hybrid"))
        if not given.without_controllers:
            joined = [SANDBOX, "controllers", "--kubeconfig", str(kubeconfig)]
            stack.enter_context(background(joined, work / "controllers.log"))
        process = await asyncio.create_subprocess_exec(*given.command, env=os.environ | {"KUBECONFIG": str(kubeconfig)})
        return await process.wait()


@contextmanager
def _sandbox(work: Path) -> Iterator[tuple[Credentials, Upstream]]:
    """The sandbox's API server alone, which controllers join later, through the front."""
    port, state = free_port(), work / "core"
    services = f"127.{random.randrange(200, 255)}.{random.randrange(256)}.0/24"  # noqa: S311 - an address, not a secret
    command = [SANDBOX, "apiserver", "--state-dir", str(state), "--kubeconfig", str(work / "core.kubeconfig")]
    with background([*command, f"--port={port}", f"--service-cidr={services}"], work / "core.log"):
        until((work / "core.kubeconfig").exists, "the sandbox's API server", 30)
        credentials = Credentials.open(state)
        yield credentials, Upstream.at(port, credentials.certificate)


@asynccontextmanager
async def _extensions(programs: Path, work: Path, core: Path) -> AsyncIterator[Upstream]:
    """Kubernetes' server for custom resources, with an etcd of its own."""
    client, peer, port = (free_port() for _ in range(3))
    storage = [f"--data-dir={work / 'etcd'}", f"--listen-peer-urls=http://127.0.0.1:{peer}", "--unsafe-no-fsync=true"]
    storage += [f"--{name}-client-urls=http://127.0.0.1:{client}" for name in ("listen", "advertise")]
    server = [
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={work / 'extensions'}",
        *(f"--{use}kubeconfig={core}" for use in ("", "authentication-", "authorization-")),
        "--authentication-skip-lookup",
        # A right that is taken away is gone at once, as in a server that looks at RBAC itself.
        *(f"--authorization-webhook-cache-{kind}-ttl=0s" for kind in ("authorized", "unauthorized")),
        "--enable-priority-and-fairness=false",
        # Nothing here has the kinds that these plugins watch.
        *(
            f"--disable-admission-plugins={kind}"
            for kind in ("MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook")
        ),
    ]
    with (
        background([str(programs / "etcd"), *storage], work / "etcd.log"),
        background([str(programs / "apiextensions-apiserver"), *server], work / "extensions.log"),
    ):
        await asyncio.to_thread(until, lambda: _listens(port), "apiextensions-apiserver", 60)
        yield Upstream.at(port, work / "extensions" / "apiserver.crt")


@asynccontextmanager
async def _served(handle: Handler, credentials: Credentials) -> AsyncIterator[str]:
    """Serve with the sandbox's certificate; yields the URL."""
    application = web.Application(client_max_size=3 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(credentials)).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
