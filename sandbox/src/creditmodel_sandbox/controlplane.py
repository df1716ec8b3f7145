"""`up --control-plane DIR`: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as a directory has them
(envtest's layout: the programs directly in it), with the sandbox's node.

etcd and kube-apiserver must be there. What else is missing is done by the sandbox: by its controllers without
kube-controller-manager, and by its node, which then binds pods, without kube-scheduler.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from creditmodel_sandbox.instance import Instance, InstanceError, Record, ranges
from creditmodel_sandbox.parts import Part, node, own

__all__ = ["parts"]

OLDEST = (1, 35)
"""From which on the versions of objects can be compared, which the node's watches rest on."""
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ISSUER = "https://kubernetes.default.svc.cluster.local"
YEARS = dt.timedelta(days=3650)


def parts(instance: Instance, record: Record, port: int, say: Callable[[str], None]) -> Iterator[Part]:
    """The processes, in the order of their start. Raises InstanceError at once when the directory will not do."""
    found = _programs(Path(record.control_plane))
    services = ranges(record.slot)[1]
    pki = Pki(instance.directory / "pki", str(ipaddress.ip_network(services)[1]))
    record.port = _port(port or record.port)
    url = f"https://127.0.0.1:{record.port}"
    _write_private(instance.kubeconfig, pki.kubeconfig("admin", url, f"creditmodel-sandbox-{instance.name}"))
    return _start(instance, found, pki, url, services, say)


def _start(
    instance: Instance, found: dict[str, Path], pki: Pki, url: str, services: str, say: Callable[[str], None]
) -> Iterator[Part]:
    def answers(path: str) -> Callable[[], bool]:
        return lambda: instance.get(path) is not None

    etcd = f"https://127.0.0.1:{_port()}"
    yield Part("etcd", [str(found["etcd"]), *_etcd(instance, pki, etcd)])
    server = [str(found["kube-apiserver"]), *_apiserver(pki, url, etcd, services)]
    yield Part("kube-apiserver", server, answers("/readyz"), "the API server is ready")
    account = answers("/api/v1/namespaces/default/serviceaccounts/default"), "there is a service account"
    if manager := found.get("kube-controller-manager"):
        command = [str(manager), *_controller_manager(pki, _kubeconfig(pki, "kube-controller-manager", url))]
        yield Part("kube-controller-manager", command, *account)
    else:
        say("there is no kube-controller-manager: the sandbox's controllers do its work")
        yield own("controllers", "--kubeconfig", str(instance.kubeconfig), "--without-scheduler")
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
        # Endpoints may not have loopback addresses; pods are told of the server by their environment.
        "--endpoint-reconciler-type=none",
        f"--secure-port={url.rpartition(':')[2]}",
        f"--tls-cert-file={pki.certificate('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.certificate('ca')}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        f"--service-account-key-file={pki.public}",
        f"--service-cluster-ip-range={services}",
        "--allow-privileged=true",
    ]


def _component(kubeconfig: Path) -> list[str]:
    """What kube-controller-manager and kube-scheduler have in common."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={_port()}",
    ]


def _controller_manager(pki: Pki, kubeconfig: Path) -> list[str]:
    return [
        *_component(kubeconfig),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        f"--root-ca-file={pki.certificate('ca')}",
        f"--cluster-signing-cert-file={pki.certificate('ca')}",
        f"--cluster-signing-key-file={pki.key('ca')}",
    ]


def _port(wanted: int = 0) -> int:
    """A port that is free now: the wanted one, or any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            taken = f"port {wanted} on 127.0.0.1 cannot be had ({error.strerror})"
            raise InstanceError(f"{taken}: choose another with --port") from error
        return int(probe.getsockname()[1])


def _kubeconfig(pki: Pki, user: str, url: str) -> Path:
    path = pki.directory / f"{user}.kubeconfig"
    _write_private(path, pki.kubeconfig(user, url, user))
    return path


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pki:
    """The authority of an instance and what it has signed, made once and kept in `directory`."""

    directory: Path
    service_ip: str
    """Of the Service `kubernetes`."""

    def certificate(self, name: str) -> Path:
        """The certificate of ca, etcd, apiserver or a client, made at first use."""
        path = self.directory / f"{name}.crt"
        if not path.exists():
            self._make(name)
        return path

    def key(self, name: str) -> Path:
        """The private key of a certificate, or `service-accounts`, which tokens are signed with."""
        path = self.directory / f"{name}.key"
        if name == "service-accounts" and not path.exists():
            _write_private(path, _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
        elif not path.exists():
            self._make(name)
        return path

    @property
    def public(self) -> Path:
        """The public half of `service-accounts`."""
        private = serialization.load_pem_private_key(self.key("service-accounts").read_bytes(), None)
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        path = self.directory / "service-accounts.pub"
        path.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, kind))
        return path

    def kubeconfig(self, user: str, url: str, name: str) -> bytes:
        """A kubeconfig with the user's client certificate, as YAML."""

        def data(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        cluster = {"server": url, "certificate-authority-data": data(self.certificate("ca"))}
        identity = {"client-certificate-data": data(self.certificate(user)), "client-key-data": data(self.key(user))}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": identity}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
            "current-context": name,
        }
        return yaml.safe_dump(document, sort_keys=False).encode()

    def _make(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signing_key = (None, key) if name == "ca" else self._authority()
        certificate = self._describe(name, key.public_key(), issuer).sign(signing_key, hashes.SHA256())
        _write_private(self.directory / f"{name}.key", _pem(key))
        _write_private(self.directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        certificate = x509.load_pem_x509_certificate(self.certificate("ca").read_bytes())
        key = serialization.load_pem_private_key(self.key("ca").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InstanceError(f"{self.key('ca')} is not the key that was written there: `reset` the instance")
        return certificate, key

    def _describe(
        self, name: str, public: ec.EllipticCurvePublicKey, issuer: x509.Certificate | None
    ) -> x509.CertificateBuilder:
        subject, now = _subject(name), dt.datetime.now(dt.UTC)
        identity = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key() if issuer else public)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + YEARS)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(_key_usage(authority=issuer is None), critical=True)
        )
        if issuer is None:
            return builder
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        return builder.add_extension(uses, critical=False).add_extension(self._names(), critical=False)

    def _names(self) -> x509.SubjectAlternativeName:
        hosts = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
                 "kubernetes.default.svc.cluster.local")  # fmt: skip
        addresses = (x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", self.service_ip))
        return x509.SubjectAlternativeName([*map(x509.DNSName, hosts), *addresses])


def _subject(name: str) -> x509.Name:
    """Whom the API server takes the holder for: Kubernetes' own names of its components and of an administrator."""
    if name == "admin":
        names = {NameOID.ORGANIZATION_NAME: "system:masters", NameOID.COMMON_NAME: "kubernetes-admin"}
    elif name.startswith("kube-"):
        names = {NameOID.COMMON_NAME: f"system:{name}"}
    else:
        names = {NameOID.COMMON_NAME: f"creditmodel-sandbox-{name}"}
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in names.items()])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only the user can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(path)
