"""API keys: who may score, and how often.

The file has a line per key, `NAME SHA256 [REQUESTS-PER-SECOND]`, and holds no secret: only the SHA-256 of each key, as
`printf %s "$KEY" | sha256sum` gives it. Keys must be long and random (`openssl rand -hex 32`), for a plain hash of a
guessable key can be guessed. The file is read again when it changes, as a mounted Secret does.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from creditmodel_inference.errors import Forbidden, TooFast, Unauthorized
from creditmodel_inference.requests import Headers

__all__ = ["Keys", "KeysInvalid", "is_guarded"]

logger = logging.getLogger(__name__)

_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})\s+(?P<hash>[0-9a-fA-F]{64})(?:\s+(?P<rate>\d{1,7}(?:\.\d{1,3})?))?")
_CHALLENGE = [("www-authenticate", 'Bearer realm="creditmodel"')]


class KeysInvalid(Exception):
    """The file cannot be read, or a line of it is not of the form."""


@dataclass(slots=True)
class _Key:
    """A client. `allowance` is how many requests it may send now; it grows by `rate` a second, up to one second's."""

    name: str
    digest: bytes
    rate: float | None
    allowance: float = 0.0
    counted_at: float = 0.0

    def take(self, now: float) -> bool:
        """Count a request; False if it comes too soon."""
        if self.rate is None:
            return True
        burst = max(1.0, self.rate)
        self.allowance = min(burst, self.allowance + (now - self.counted_at) * self.rate)
        self.counted_at = now
        if self.allowance < 1.0:
            return False
        self.allowance -= 1.0
        return True


class Keys:
    """The keys in a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises KeysInvalid."""
        self._path = path
        self._keys: list[_Key] = []
        self._seen: tuple[int, int, int] | None = None
        self._read()

    def check(self, headers: Headers, now: float | None = None) -> str:
        """The name of the client whose key is in the headers. Raises Unauthorized, Forbidden or TooFast."""
        given = _given(headers)
        if given is None:
            raise Unauthorized("Send an API key: Authorization: Bearer KEY, or X-API-Key: KEY.", headers=_CHALLENGE)
        digest = hashlib.sha256(given).digest()
        found = None
        for key in self._keys:
            # Each key is looked at, whichever it is: the time tells nothing.
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise Forbidden("This API key is not known here.")
        if not found.take(time.monotonic() if now is None else now):
            raise TooFast(
                f"This key may send {found.rate:g} requests a second.",
                headers=[("retry-after", str(max(1, round(1 / (found.rate or 1)))))],
            )
        return found.name

    def refresh(self) -> None:
        """Read the file again if it has changed. One that is broken leaves the keys as they are, and is logged once."""
        try:
            if _stamp(self._path) != self._seen:
                self._read()
                logger.info("%d API keys read from %s", len(self._keys), self._path)
        except (OSError, KeysInvalid) as e:
            if self._seen is not None:
                logger.error("the API keys stay as they were: %s", e)
            self._seen = None

    def _read(self) -> None:
        try:
            seen = _stamp(self._path)
            lines = self._path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise KeysInvalid(f"{self._path} cannot be read: {e}") from e
        before = {key.digest: key for key in self._keys}
        keys = [_parse(line, f"{self._path}, line {number}") for number, line in enumerate(lines, 1) if _has_key(line)]
        for key in keys:
            if (known := before.get(key.digest)) is not None:
                key.allowance, key.counted_at = known.allowance, known.counted_at
            else:
                key.allowance, key.counted_at = max(1.0, key.rate or 1.0), time.monotonic()
        self._keys, self._seen = keys, seen


def is_guarded(path: str) -> bool:
    """Whether a path needs a key. Probes, metrics and documentation do not."""
    return path.startswith(("/v1/", "/v2")) and not path.startswith("/v2/health/")


def _given(headers: Headers) -> bytes | None:
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and value.strip():
        return value.strip()
    return headers.get(b"x-api-key") or None


def _has_key(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _parse(line: str, place: str) -> _Key:
    found = _LINE.fullmatch(line.strip())
    rate = float(found["rate"]) if found and found["rate"] else None
    if found is None or rate == 0.0:
        raise KeysInvalid(f"{place}: a line is NAME SHA256 [REQUESTS-PER-SECOND], as in: ci 9f86d0… 50")
    return _Key(found["name"], bytes.fromhex(found["hash"]), rate)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
