"""The instance's own certificates, tokens and kubeconfig. Nothing outside the state directory is read or written."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from creditmodel_sandbox.pki import Identity, kubeconfig, write_private

__all__ = ["Credentials", "TokenError", "server_context"]

JSON = dict[str, Any]


class TokenError(Exception):
    """A bearer token that this server did not give out, or that is no longer valid."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server proves itself with, and what it accepts."""

    certificate: Path
    key: Path
    token: str
    """The administrator's bearer token; service accounts' tokens are signed with it."""

    @classmethod
    def open(cls, directory: Path) -> Credentials:
        """Those of a state directory, made at first use and readable by the user alone."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = cls(directory / "tls.crt", directory / "tls.key", _token(directory / "token"))
        if not (found.certificate.exists() and found.key.exists()):
            identity = Identity.make("creditmodel-sandbox", names=("localhost", "127.0.0.1"), authority=True)
            identity.write(found.certificate, found.key)
        return found

    def kubeconfig(self, url: str, name: str) -> bytes:
        """A kubeconfig for the administrator, as YAML."""
        return kubeconfig(name, url, self.certificate.read_bytes(), {"token": self.token})

    def sign(self, claims: JSON) -> str:
        """A JSON web token (HS256) for a service account."""
        body = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
        return f"{body}.{self._signature(body)}"

    def verify(self, token: str, now: float) -> JSON:
        """The claims of a token that `sign` made; `now` in Unix seconds."""
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature, self._signature(body)):
            raise TokenError("the token is not signed by this server")
        payload = body.split(".")[1]
        claims: JSON = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if claims["exp"] < now:
            raise TokenError("the token has expired")
        return claims

    def _signature(self, body: str) -> str:
        digest = hmac.new(self.token.encode(), body.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _encode(part: JSON) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _token(path: Path) -> str:
    if not path.exists() or not path.read_text():  # an empty one would let everybody in
        write_private(path, secrets.token_urlsafe(32).encode())
    return path.read_text()


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """TLS for the server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context
