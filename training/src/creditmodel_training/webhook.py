"""Telling somebody that a model must be retrained: one HTTP POST, signed, tried until it is taken or refused for good.

At least once: a sender that is lost after the receiver has answered sends again, with the same id. The receiver drops
what it has by that id: `webhook-id` and the event's `id`, or Airflow's dag_run_id.

DeliveryFailed           the event was not taken over
├── Rejected             the receiver refused it, and would refuse it again
└── Undeliverable        no good answer came before the deadline
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

__all__ = ["Delivered", "DeliveryFailed", "Receiver", "Rejected", "Undeliverable", "deliver", "request", "signature"]

FIRST_PAUSE_SECONDS = 2.0
LAST_PAUSE_SECONDS = 300.0
_SHOWN = 200
_AGAIN = frozenset({408, 425, 429})
_KEY_PREFIX = "whsec_"


class DeliveryFailed(Exception):
    """The event was not taken over."""

    reason = "DeliveryFailed"


class Rejected(DeliveryFailed):
    """The receiver refused it, and would refuse it again."""

    reason = "Rejected"


class Undeliverable(DeliveryFailed):
    """No good answer came before the deadline."""

    reason = "Undeliverable"


class _Retry(Exception):
    """Try again, not before `after` seconds have passed."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Receiver:
    """Whom to tell. `dag_id` makes it an Airflow API server; `key` signs, the rest authenticates the sender."""

    url: str
    dag_id: str | None = None
    key: str | None = None
    token: str | None = None
    username: str | None = None
    password: str | None = None
    timeout_seconds: float = 10.0

    @property
    def target(self) -> str:
        """The URL that is posted to."""
        return self.url if self.dag_id is None else f"{self.url.rstrip('/')}/api/v2/dags/{self.dag_id}/dagRuns"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver's answer, and the attempt that it came at."""

    status: int
    attempts: int


def signature(key: str, event_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`: what Standard Webhooks' libraries verify.

    A key that begins with whsec_ is base64 after that; any other is taken as it is.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key_bytes(key), signed, hashlib.sha256).digest()).decode()


def _key_bytes(key: str) -> bytes:
    if not key.startswith(_KEY_PREFIX):
        return key.encode()
    try:
        return base64.b64decode(key.removeprefix(_KEY_PREFIX), validate=True)
    except binascii.Error as e:
        raise Rejected(f"the signing key begins with {_KEY_PREFIX} and is not base64 after it") from e


def request(receiver: Receiver, event: Mapping[str, Any], timestamp: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of one POST, without Authorization."""
    body = json.dumps(event if receiver.dag_id is None else _dag_run(event), separators=(",", ":")).encode()
    kind = "application/cloudevents+json; charset=utf-8" if receiver.dag_id is None else "application/json"
    headers = {"Content-Type": kind, "webhook-id": str(event["id"]), "webhook-timestamp": str(timestamp)}
    if receiver.key is not None:
        headers["webhook-signature"] = signature(receiver.key, str(event["id"]), timestamp, body)
    return headers, body


def _dag_run(event: Mapping[str, Any]) -> dict[str, Any]:
    """Airflow refuses a second run of the same id, which makes it drop what it has."""
    data = event["data"]
    conf = {"namespace": data["namespace"], "name": data["name"], "episode": data["episode"], "event": event}
    return {"dag_run_id": event["id"], "logical_date": None, "conf": conf}


def deliver(receiver: Receiver, event: Mapping[str, Any], deadline_seconds: float) -> Delivered:
    """POST until it is taken. Raises Rejected, and Undeliverable after `deadline_seconds`."""
    return asyncio.run(_deliver(receiver, event, time.monotonic() + deadline_seconds))


async def _deliver(receiver: Receiver, event: Mapping[str, Any], deadline: float) -> Delivered:
    timeout = aiohttp.ClientTimeout(total=receiver.timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        attempt = 0
        while True:
            attempt += 1
            try:
                return Delivered(await _attempt(session, receiver, event), attempt)
            except _Retry as e:
                pause = max(_pause(attempt), e.after)
                if time.monotonic() + pause > deadline:
                    raise Undeliverable(f"{receiver.target}: {e}; given up after {attempt} attempts") from e
                await asyncio.sleep(pause)


def _pause(attempt: int) -> float:
    """Twice as long after each attempt, and never the same for two senders."""
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 16), LAST_PAUSE_SECONDS)
    return longest * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


async def _attempt(session: aiohttp.ClientSession, receiver: Receiver, event: Mapping[str, Any]) -> int:
    headers, body = request(receiver, event, int(time.time()))
    token = receiver.token
    if token is None and receiver.username is not None:
        token = await _token(session, receiver)
    authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
    status, text, after = await _post(session, receiver.target, headers | authorization, body)
    if status < 300 or (status == 409 and receiver.dag_id is not None):
        return status
    _refuse(receiver.target, status, text, after)
    raise AssertionError("unreachable")


async def _token(session: aiohttp.ClientSession, receiver: Receiver) -> str:
    """Airflow's tokens live for hours, so each attempt asks for one."""
    url = f"{receiver.url.rstrip('/')}/auth/token"
    body = json.dumps({"username": receiver.username, "password": receiver.password or ""}).encode()
    status, text, after = await _post(session, url, {"Content-Type": "application/json"}, body)
    if status >= 300:
        _refuse(url, status, text, after)
    try:
        return str(json.loads(text)["access_token"])
    except (ValueError, KeyError, TypeError) as e:
        raise Rejected(f"{url} answered HTTP {status} without an access_token") from e


def _refuse(url: str, status: int, text: str, after: str | None) -> None:
    """Raise what an answer that is no success means."""
    said = " ".join(text.split())[:_SHOWN]
    message = f"{url}: HTTP {status}{f': {said}' if said else ''}"
    if status in _AGAIN or status >= 500:
        raise _Retry(message, _seconds(after))
    if 300 <= status < 400:
        raise Rejected(f"{message}: redirects are not followed, give the URL that they lead to")
    raise Rejected(message)


async def _post(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, str, str | None]:
    """Status, the beginning of the answer, and Retry-After."""
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            text = (await answer.content.read(64 * 1024)).decode(errors="replace")
            return answer.status, text, answer.headers.get("Retry-After")
    except aiohttp.ClientConnectorCertificateError as e:
        raise Rejected(f"{url}: its certificate is not trusted: {e.certificate_error}") from e
    except aiohttp.InvalidURL as e:
        raise Rejected(f"{url} is no URL: {e}") from e
    except (TimeoutError, aiohttp.ClientError, OSError) as e:
        raise _Retry(f"{url}: {type(e).__name__} {e}".strip()) from e


def _seconds(after: str | None) -> float:
    """Retry-After as seconds or as an HTTP date."""
    if after is None:
        return 0.0
    try:
        return max(0.0, float(after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
