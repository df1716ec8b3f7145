"""Signatures of bundles in the OpenSSF model-signing format, version 1.0, by an elliptic-curve key.

The file `signature` is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists every file with its
SHA-256, manifest.json included. So a signature is bound to the digest, and to every byte with it. `model_signing sign
key` makes the same, and `model_signing verify key` accepts what is made here. The specifications:
https://github.com/ossf/model-signing-spec and https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md

Only this module needs the extra creditmodel-bundle[signature].
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from creditmodel_bundle.errors import KeyUnusable, SignatureMismatch, SignatureUntrusted
from creditmodel_bundle.manifest import MANIFEST, SIGNATURE, Manifest

__all__ = ["PrivateKey", "PublicKey", "files_of", "public_keys", "sign", "verify"]

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_CURVES = "an elliptic-curve key on P-256, P-384 or P-521"
_BEGIN, _END = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"
MAX_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class PublicKey:
    """A key that is trusted."""

    key: ec.EllipticCurvePublicKey

    @classmethod
    def of_pem(cls, pem: bytes) -> Self:
        """Raises KeyUnusable."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as e:
            raise KeyUnusable(f"a public key cannot be read: {e}") from e
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise KeyUnusable(f"a public key of a kind that signs no model: give {_CURVES}")
        return cls(key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key's PEM: what a signature names its key by."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self.key.public_bytes(serialization.Encoding.PEM, form)).hexdigest()

    def made(self, signature: bytes, payload: bytes) -> bool:
        """Whether the signature over the payload is this key's."""
        try:
            self.key.verify(signature, _enclosed(payload), ec.ECDSA(_HASHES[self.key.curve.name]))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    key: ec.EllipticCurvePrivateKey

    @classmethod
    def of_pem(cls, pem: bytes, password: bytes | None = None) -> Self:
        """Raises KeyUnusable."""
        try:
            key = serialization.load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            raise KeyUnusable(f"the private key cannot be read: {e}") from e
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
            raise KeyUnusable(f"a private key of a kind that signs no model: give {_CURVES}")
        return cls(key)

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key())

    def sign(self, payload: bytes) -> bytes:
        return self.key.sign(_enclosed(payload), ec.ECDSA(_HASHES[self.key.curve.name]))


def public_keys(path: Path) -> list[PublicKey]:
    """Every PEM public key in a file, or in the files of a directory, as a Secret is mounted. Raises KeyUnusable."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    try:
        texts = [_bounded(file) for file in files]
    except OSError as e:
        raise KeyUnusable(f"{path}: {e.strerror or e}") from e
    found = [PublicKey.of_pem(pem) for text in texts for pem in _blocks(text)]
    if not found:
        raise KeyUnusable(f"{path} has no PEM public key: does the Secret exist, and does it hold one?")
    return found


def verify(raw: bytes, files: Mapping[str, str], keys: Iterable[PublicKey]) -> PublicKey:
    """The trusted key whose signature this is, over exactly these files (name to SHA-256 in hex).

    Raises SignatureUntrusted when no key made it, and SignatureMismatch when one did, of something else.
    """
    payload, signature = _envelope(raw)
    trusted = list(keys)
    key = next((key for key in trusted if key.made(signature, payload)), None)
    if key is None:
        known = ", ".join(key.fingerprint[:12] + "…" for key in trusted)
        raise SignatureUntrusted(f"the file {SIGNATURE} was not made by a trusted key ({known}), or was altered")
    signed = _resources(payload)
    for name, digest in files.items():
        if signed.get(name) != digest:
            raise SignatureMismatch(
                f"the signature is of another model: {name} was signed as {_short(signed.get(name))}"
            )
    return key


def files_of(manifest: Manifest, digest: str) -> dict[str, str]:
    """What a signature has to be over: every file of the bundle, and the manifest itself."""
    return {MANIFEST: digest.removeprefix("sha256:")} | {entry.path: entry.sha256 for entry in manifest.files}


def sign(name: str, files: Mapping[str, str], key: PrivateKey) -> bytes:
    """The file `signature` of a model over its files (name to SHA-256 in hex)."""
    payload = json.dumps(_statement(name, files), indent=1).encode()
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": key.public.fingerprint},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(key.sign(payload)).decode(), "keyid": ""}],
        },
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _statement(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    resources = [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in sorted(files)]
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(resources)}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE],
            },
            "resources": resources,
        },
    }


def _root(resources: Iterable[Mapping[str, str]]) -> str:
    """The digest of all digests, in the order of the list."""
    return hashlib.sha256(b"".join(bytes.fromhex(item["digest"]) for item in resources)).hexdigest()


def _enclosed(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _envelope(raw: bytes) -> tuple[bytes, bytes]:
    """Payload and signature of a Sigstore bundle. Nothing in it is believed yet."""
    try:
        document = json.loads(raw)
        envelope = document["dsseEnvelope"]
        if (document["mediaType"], envelope["payloadType"]) != (MEDIA_TYPE, PAYLOAD_TYPE):
            raise ValueError(f"media type {document['mediaType']} with {envelope['payloadType']}")
        (signature,) = envelope["signatures"]
        return _decoded(envelope["payload"]), _decoded(signature["sig"])
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise SignatureUntrusted(f"the file {SIGNATURE} is no OpenSSF model signature: {e!r}") from e


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _resources(payload: bytes) -> dict[str, str]:
    """The SHA-256 of each signed file, from a payload whose signature was found good."""
    try:
        statement = json.loads(payload)
        kinds, predicate = (statement["_type"], statement["predicateType"]), statement["predicate"]
        if kinds != (STATEMENT, PREDICATE):
            raise ValueError(f"a statement of type {kinds[0]}, {kinds[1]}")
        resources = predicate["resources"]
        if _root(resources) != statement["subject"][0]["digest"]["sha256"]:
            raise ValueError("its files do not hash to its subject")
        return {item["name"]: item["digest"] for item in resources if item["algorithm"] == "sha256"}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as e:
        raise SignatureMismatch(f"what was signed is no list of a model's files: {e!r}") from e


def _bounded(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_KEY_BYTES)


def _blocks(text: bytes) -> list[bytes]:
    return [_BEGIN + part.split(_END, 1)[0] + _END + b"\n" for part in text.split(_BEGIN)[1:]]


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else "nothing"
