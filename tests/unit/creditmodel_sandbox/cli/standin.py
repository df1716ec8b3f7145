"""Stand-ins for etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as strict about their flags as those.

    python standin.py PROGRAM [--flag=value …]

Their flags are those of 1.36 that anybody here could want; any other is refused, as the real ones refuse it. What they
serve is the sandbox's own. Certificates and keys are used for what they are given for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from creditmodel_sandbox.client import ApiError, Client, Kubeconfig, load_kubeconfig
from creditmodel_sandbox.objects import PODS

FLAGS = {
    "etcd": """data-dir listen-client-urls advertise-client-urls listen-peer-urls cert-file key-file trusted-ca-file
        client-cert-auth unsafe-no-fsync name initial-cluster log-level""",
    "kube-apiserver": """etcd-servers etcd-cafile etcd-certfile etcd-keyfile bind-address advertise-address secure-port
        endpoint-reconciler-type tls-cert-file tls-private-key-file client-ca-file authorization-mode
        service-account-issuer service-account-signing-key-file service-account-key-file service-cluster-ip-range
        allow-privileged disable-admission-plugins enable-admission-plugins cert-dir v""",
    "kube-controller-manager": """kubeconfig leader-elect bind-address secure-port use-service-account-credentials
        service-account-private-key-file root-ca-file cluster-signing-cert-file cluster-signing-key-file controllers
        authentication-kubeconfig authorization-kubeconfig cert-dir v""",
    "kube-scheduler": """kubeconfig leader-elect bind-address secure-port authentication-kubeconfig
        authorization-kubeconfig config cert-dir v""",
}


def flags(program: str, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program, allow_abbrev=False)
    for name in FLAGS[program].split():
        parser.add_argument(f"--{name}")
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        sys.exit(f"Error: unknown flag: {unknown[0].partition('=')[0]}")
    return found


def server_tls(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    return context


async def until_told() -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()


def etcd(given: argparse.Namespace) -> None:
    Path(given.data_dir).mkdir(parents=True, exist_ok=True)
    context = server_tls(given.cert_file, given.key_file, given.trusted_ca_file)
    assert given.client_cert_auth == "true"
    context.verify_mode = ssl.CERT_REQUIRED
    asyncio.run(greet_clients(given, context))


async def greet_clients(given: argparse.Namespace, context: ssl.SSLContext) -> None:
    """Listens, for clients with a certificate alone."""
    host, _, port = given.listen_client_urls.removeprefix("https://").partition(":")

    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"etcd")
        writer.close()

    server = await asyncio.start_server(greet, host, int(port), ssl=context)
    await until_told()
    server.close()


async def ask_etcd(given: argparse.Namespace) -> None:
    context = ssl.create_default_context(cafile=given.etcd_cafile)
    context.load_cert_chain(given.etcd_certfile, given.etcd_keyfile)
    host, _, port = given.etcd_servers.removeprefix("https://").partition(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
    assert await reader.read() == b"etcd"
    writer.close()


def kube_apiserver(given: argparse.Namespace) -> None:
    """The sandbox's API server behind a door that knows client certificates."""
    asyncio.run(ask_etcd(given))
    private = load_pem_private_key(Path(given.service_account_signing_key_file).read_bytes(), None)
    public = load_pem_public_key(Path(given.service_account_key_file).read_bytes())
    assert private.public_key() == public, "tokens are signed with one key and verified with another"
    assert given.service_account_issuer.startswith("https://")
    assert given.authorization_mode == "RBAC"
    state = Path(given.tls_cert_file).parent.parent / "standin"
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "apiserver", "--state-dir", str(state)]
    command += ["--service-cidr", given.service_cluster_ip_range]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as behind:
        assert behind.stdout is not None
        url = behind.stdout.readline().strip()
        try:
            asyncio.run(door(given, url, state))
        finally:
            behind.terminate()


async def door(given: argparse.Namespace, url: str, state: Path) -> None:
    inside = ssl.create_default_context(cafile=str(state / "tls.crt"))
    token = (state / "token").read_text()
    async with aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(None)) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
            assert request.transport is not None
            if known := request.transport.get_extra_info("peercert"):
                subject = {key: value for ((key, value),) in known["subject"]}
                assert subject.get("organizationName") == "system:masters" or subject["commonName"].startswith(
                    "system:kube-"
                )
                headers["Authorization"] = f"Bearer {token}"
            data = await request.read()
            async with session.request(
                request.method, url + request.raw_path, headers=headers, data=data, ssl=inside
            ) as a:
                kept = {n: v for n, v in a.headers.items() if n not in ("Transfer-Encoding", "Content-Length")}
                response = web.StreamResponse(status=a.status, headers=kept)
                await response.prepare(request)
                async for chunk in a.content.iter_any():
                    await response.write(chunk)
                return response

        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        context = server_tls(given.tls_cert_file, given.tls_private_key_file, given.client_ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        await web.TCPSite(runner, given.bind_address, int(given.secure_port), ssl_context=context).start()
        await until_told()
        await runner.cleanup()


def kube_controller_manager(given: argparse.Namespace) -> None:
    for name in ("service_account_private_key_file", "cluster_signing_key_file"):
        load_pem_private_key(Path(getattr(given, name)).read_bytes(), None)
    for name in ("root_ca_file", "cluster_signing_cert_file"):
        assert b"BEGIN CERTIFICATE" in Path(getattr(given, name)).read_bytes()
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "controllers", "--kubeconfig", given.kubeconfig]
    os.execv(sys.executable, command)  # noqa: S606 - the process becomes the controllers


def kube_scheduler(given: argparse.Namespace) -> None:
    user = yaml.safe_load(Path(given.kubeconfig).read_text())["users"][0]["user"]
    assert user.keys() == {"client-certificate-data", "client-key-data"}
    asyncio.run(schedule(load_kubeconfig(given.kubeconfig)))


async def schedule(config: Kubeconfig) -> None:
    async with Client(config, "standin", "kube-scheduler") as client:
        task = asyncio.create_task(bind_all(client))
        await until_told()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def bind_all(client: Client) -> None:
    """Every pod that waits goes to the one node."""
    while True:
        for pod in (await client.list(PODS, fieldSelector="spec.nodeName="))["items"]:
            meta, target = pod["metadata"], {"apiVersion": "v1", "kind": "Node", "name": "sandbox"}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
            with contextlib.suppress(ApiError):  # it has been deleted meanwhile
                await client.create(PODS, meta["namespace"], binding, meta["name"], "binding")
        await asyncio.sleep(0.1)


def main() -> None:
    program, *arguments = sys.argv[1:]
    given = flags(program, arguments)
    match program:
        case "etcd":
            etcd(given)
        case "kube-apiserver":
            kube_apiserver(given)
        case "kube-controller-manager":
            kube_controller_manager(given)
        case _:
            kube_scheduler(given)


if __name__ == "__main__":
    main()
