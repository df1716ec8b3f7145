"""Keys and certificates for every part of the sandbox that listens, and the kubeconfigs that name them."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Identity", "kubeconfig", "private_pem", "public_pem", "write_private"]

LIFETIME = dt.timedelta(days=3650)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(
        cls,
        subject: Mapping[x509.ObjectIdentifier, str] | str,
        *,
        names: Sequence[str] = (),
        issuer: Identity | None = None,
        authority: bool = False,
    ) -> Self:
        """A new one. `subject` is a common name, or several attributes; `names` are host names and IP addresses;
        without an issuer it signs itself; an authority may sign others.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = {NameOID.COMMON_NAME: subject} if isinstance(subject, str) else subject
        name = x509.Name([x509.NameAttribute(kind, text) for kind, text in attributes.items()])
        signer = issuer.key if issuer else key
        identity = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer.certificate.subject if issuer else name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(_key_usage(authority), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_name, names)]), critical=False)
        if not authority:
            uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return cls(builder.sign(signer, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Self:
        """What `write` wrote. Raises ValueError for a key of another kind."""
        found = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key} is not an elliptic curve's key")
        return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), found)

    def write(self, certificate: Path, key: Path) -> None:
        """Two files; the same path twice is one with both."""
        texts = [self.certificate.public_bytes(_PEM), private_pem(self.key)]
        if certificate == key:
            write_private(certificate, b"".join(texts))
        else:
            write_private(key, texts[1])
            write_private(certificate, texts[0])


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(authority: bool) -> x509.KeyUsage:
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


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key, not encrypted."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    """The public half of a key."""
    return key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def kubeconfig(name: str, url: str, authority: bytes, user: Mapping[str, str]) -> bytes:
    """A kubeconfig of one context, as YAML; `authority` is a PEM, `user` what the user proves itself with."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": dict(user)}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only the user can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(path)
