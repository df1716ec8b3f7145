"""`up --control-plane DIR`: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as a directory has them
(envtest's layout: the programs directly in it), with the sandbox's node.

etcd and kube-apiserver must be there. What else is missing is done by the sandbox: by its controllers without
kube-controller-manager, and by its node, which then binds pods, without kube-scheduler.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from creditmodel_sandbox.instance import Instance, InstanceError, Record, free_port, ranges
from creditmodel_sandbox.parts import Part, node, own
from creditmodel_sandbox.pki import Identity, kubeconfig, private_pem, public_pem, write_private

__all__ = ["parts"]

OLDEST = (1, 35)
"""From which on the versions of objects can be compared, which the node's watches rest on."""
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ISSUER = "https://kubernetes.default.svc.cluster.local"
NAMES = ("127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
         "kubernetes.default.svc.cluster.local")  # fmt: skip


def parts(instance: Instance, record: Record, port: int, say: Callable[[str], None]) -> Iterator[Part]:
    """The processes, in the order of their start. Raises InstanceError at once when the directory will not do."""
    found = _programs(Path(record.control_plane))
    services = ranges(record.slot)[1]
    pki = Pki(instance.directory / "pki", str(ipaddress.ip_network(services)[1]))
    record.port = _wanted(port or record.port) or free_port()
    url = f"https://127.0.0.1:{record.port}"
    write_private(instance.kubeconfig, pki.kubeconfig("admin", url, f"creditmodel-sandbox-{instance.name}"))
    return _start(instance, found, pki, url, services, say)


def _start(
    instance: Instance, found: dict[str, Path], pki: Pki, url: str, services: str, say: Callable[[str], None]
) -> Iterator[Part]:
    def answers(path: str) -> Callable[[], bool]:
        return lambda: instance.get(path) is not None

    etcd = f"https://127.0.0.1:{free_port()}"
    yield Part("etcd", [str(found["etcd"]), *_etcd(instance, pki, etcd)])
    server = [str(found["kube-apiserver"]), *_apiserver(pki, url, etcd, services)]
    yield Part("kube-apiserver", server, answers("/readyz"), "the API server is ready")
    account = answers("/api/v1/namespaces/default/serviceaccounts/default"), "there is a service account"
    if manager := found.get("kube-controller-manager"):
        command = [str(manager), *_controller_manager(pki, _kubeconfig(pki, "kube-controller-manager", url))]
        yield Part("kube-controller-manager", command, *account)
    else:
        say("there is no kube-controller-manager: the sandbox's controllers do its work")
        yield own("controllers", "--kubeconfig", str(instance.kubeconfig))
    scheduler = found.get("kube-scheduler")
    if scheduler:
        yield Part("kube-scheduler", [str(scheduler), *_component(_kubeconfig(pki, "kube-scheduler", url))])
    else:
        say("there is no kube-scheduler: the node binds pods to itself")
    yield node(instance, "--bind", "never" if scheduler else "always")


# --- programs --------------------------------------------------------------------------------------------------------


def _programs(directory: Path) -> dict[str, Path]:
    """Those of PROGRAMS that the directory has. InstanceError says which is missing or will not do."""
    found = {name: directory / name for name in PROGRAMS if (directory / name).exists()}
    for name in PROGRAMS[:2]:
        if name not in found:
            raise InstanceError(f"{directory} has no {name}: --control-plane needs a directory with etcd and "
                                "kube-apiserver, best with kube-controller-manager and kube-scheduler too")  # fmt: skip
    for path in found.values():
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise InstanceError(f"{path} is not an executable file: chmod +x {path}")
    versions = {name: _version(path) for name, path in found.items() if name != "etcd"}
    wanted = versions["kube-apiserver"]
    if wanted < OLDEST:
        raise InstanceError(f"kube-apiserver in {directory} is {_dotted(wanted)}: {_dotted(OLDEST)} or newer is needed")
    for name, version in versions.items():
        if version != wanted:
            raise InstanceError(
                f"{name} in {directory} is {_dotted(version)} beside kube-apiserver {_dotted(wanted)}: use one version"
            )
    return found


def _version(program: Path) -> tuple[int, int]:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstanceError(f"{program} cannot be run: {error}") from error
    if match := re.match(r"Kubernetes v(\d+)\.(\d+)\.", done.stdout):
        return int(match[1]), int(match[2])
    said = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    raise InstanceError(f"{program} --version does not name a version of Kubernetes: {said[-1][:200]}")


def _dotted(version: tuple[int, int]) -> str:
    return "v{}.{}".format(*version)


def _etcd(instance: Instance, pki: Pki, url: str) -> list[str]:
    return [
        f"--data-dir={instance.directory / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",
        f"--cert-file={pki.certificate('etcd')}",
        f"--key-file={pki.key('etcd')}",
        f"--trusted-ca-file={pki.certificate('ca')}",
        "--client-cert-auth=true",
        "--unsafe-no-fsync=true",  # a machine that loses its power loses a sandbox
    ]


def _apiserver(pki: Pki, url: str, etcd: str, services: str) -> list[str]:
    return [
        f"--etcd-servers={etcd}",
        f"--etcd-cafile={pki.certificate('ca')}",
        f"--etcd-certfile={pki.certificate('etcd')}",
        f"--etcd-keyfile={pki.key('etcd')}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # Endpoints may not have loopback addresses, and a server that would write some does not start. Pods are told of
        # it by their environment.
        "--endpoint-reconciler-type=none",
        f"--secure-port={url.rpartition(':')[2]}",
        f"--tls-cert-file={pki.certificate('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.certificate('ca')}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-signing-key-file={pki.accounts()[0]}",
        f"--service-account-key-file={pki.accounts()[1]}",
        f"--service-cluster-ip-range={services}",
        "--allow-privileged=true",
    ]


def _component(kubeconfig: Path) -> list[str]:
    """What kube-controller-manager and kube-scheduler have in common."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={free_port()}",
    ]


def _controller_manager(pki: Pki, kubeconfig: Path) -> list[str]:
    return [
        *_component(kubeconfig),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki.accounts()[0]}",
        f"--root-ca-file={pki.certificate('ca')}",
        f"--cluster-signing-cert-file={pki.certificate('ca')}",
        f"--cluster-signing-key-file={pki.key('ca')}",
    ]


def _wanted(port: int) -> int:
    """The port, if it can be had or is 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            taken = f"port {port} on 127.0.0.1 cannot be had ({error.strerror})"
            raise InstanceError(f"{taken}: choose another with --port") from error
    return port


def _kubeconfig(pki: Pki, user: str, url: str) -> Path:
    path = pki.directory / f"{user}.kubeconfig"
    write_private(path, pki.kubeconfig(user, url, user))
    return path


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pki:
    """The authority of an instance and what it has signed, made at first use and kept in `directory`."""

    directory: Path
    service_ip: str
    """Of the Service `kubernetes`."""

    def certificate(self, name: str) -> Path:
        """The certificate of ca, etcd, apiserver or a client."""
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        if not certificate.exists():
            self._make(name).write(certificate, key)
        return certificate

    def key(self, name: str) -> Path:
        """The private key of a certificate."""
        return self.certificate(name).with_suffix(".key")

    def _make(self, name: str) -> Identity:
        if name == "ca":
            return Identity.make("creditmodel-sandbox-ca", authority=True)
        try:
            issuer = Identity.read(self.certificate("ca"), self.key("ca"))
        except ValueError as error:
            raise InstanceError(f"{error}: `reset` the instance") from error
        return Identity.make(_subject(name), names=(*NAMES, self.service_ip), issuer=issuer)

    def accounts(self) -> tuple[Path, Path]:
        """The key that service accounts' tokens are signed with, and its public half."""
        private, public = self.directory / "service-accounts.key", self.directory / "service-accounts.pub"
        if not public.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            write_private(private, private_pem(key))
            write_private(public, public_pem(key))
        return private, public

    def kubeconfig(self, user: str, url: str, name: str) -> bytes:
        """A kubeconfig with the user's client certificate, as YAML."""
        pair = {"client-certificate-data": self.certificate(user), "client-key-data": self.key(user)}
        proof = {field: base64.b64encode(path.read_bytes()).decode() for field, path in pair.items()}
        return kubeconfig(name, url, self.certificate("ca").read_bytes(), proof)


def _subject(name: str) -> dict[x509.ObjectIdentifier, str]:
    """Whom the API server takes the holder for: Kubernetes' own names of its components and of an administrator."""
    if name == "admin":
        return {NameOID.ORGANIZATION_NAME: "system:masters", NameOID.COMMON_NAME: "kubernetes-admin"}
    return {NameOID.COMMON_NAME: f"system:{name}" if name.startswith("kube-") else f"creditmodel-sandbox-{name}"}
