"""The HTTP session that the watches run on. It adds what a watch needs on a network that fails:

- Kopf lists to know where its watch begins, and keeps what it finds to itself. It gets an empty list, and whoever
  `lister` names for its path is told: the operator takes the list itself, page by page (lists.py).
- A watch that tells of an error, or something that is no event, ends and is opened again from where it was. One that
  tells of nothing else is begun anew with a list. Kopf would end for good.
- A watch that ends as soon as it is opened is opened again a little later each time, not at once.
- The kernel asks a silent peer whether it is still there.
- A token that is rotated is read anew, and a refused one is not offered again at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import aiohttp
import kopf
from kubernetes.aio import client as kube
from pydantic_core import from_json

from creditmodel_operator.client import configuration

__all__ = ["Backoffs", "Connection", "Events"]

logger = logging.getLogger(__name__)

NOTHING = "metadata.name=-"
"""Field selector: no object may have this name."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 5.0
LASTING_SECONDS = 2.0
"""A watch that lived this long ended for a reason of its own."""

_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A peer that has vanished is noticed within 30 s."""


class Backoffs:
    """Seconds to wait before each further attempt, without end: a watch is never given up."""

    def __iter__(self) -> Iterator[float]:
        wait = FIRST_WAIT_SECONDS
        while True:
            yield wait * random.uniform(0.8, 1.2)  # noqa: S311
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


class _Pace:
    """Keeps what ends at once from being begun again at once."""

    def __init__(self) -> None:
        self._begun = float("-inf")
        self._waits = iter(Backoffs())

    def begun(self) -> None:
        """It has begun now."""
        self._begun = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Return at once if it lasted, else a little later each time."""
        lasted = asyncio.get_running_loop().time() - self._begun
        self._begun = float("-inf")
        if lasted < LASTING_SECONDS:
            await asyncio.sleep(next(self._waits))
        elif lasted < float("inf"):
            self._waits = iter(Backoffs())


class Connection:
    """Makes Kopf's session, whenever Kopf asks for one."""

    def __init__(self, lister: Callable[[str], Callable[[], None] | None]) -> None:
        self.lister = lister
        self._watches: dict[str, _Pace] = {}
        self._logins = _Pace()

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """Kopf's login handler: called at start, and after each 401."""
        await self._logins.wait()
        self._logins.begun()
        found = await configuration()
        info = kopf.ConnectionInfo(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            username=found.username or None,
            password=found.password or None,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context(), socket_factory=_socket),
            headers=info.as_http_headers(),
            auth=info.as_aiohttp_basic_auth(),
            middlewares=(self._send, _authorization(found)),
        )
        return kopf.AiohttpSession(server=found.host, aiohttp_session=session)

    async def _send(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if "watch" in request.url.query:
            return await self._watch(request, send)
        listed = self.lister(request.url.path)
        if listed is not None:
            request.url = request.url.update_query(fieldSelector=NOTHING)
        response = await _sent(request, send)
        if listed is not None and response.status == 200:
            listed()
        return response

    async def _watch(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        path = request.url.path
        pace = self._watches.setdefault(path, _Pace())
        await pace.wait()
        response = await _sent(request, send)
        if response.status == 200:
            pace.begun()
            response.content = cast(aiohttp.StreamReader, Events(response.content, path))
        return response


async def _sent(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    if request.session.closed:  # another watch was refused meanwhile: Kopf knows this error, and logs in again
        raise RuntimeError("Session is closed")
    return await send(request)


class Events:
    """The content of a watch, up to the first line that is no event or tells of an error.

    What comes after it was not told, so the watch that follows begins where this one was. Where nothing was told, as
    when 410 says that this place is too old, that would be for ever the same: Kopf is told 410, and lists.
    """

    def __init__(self, content: aiohttp.StreamReader, path: str) -> None:
        self._content, self._path = content, path
        self._told = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, a few at a time."""
        rest = b""
        async for data in self._content.iter_chunked(size):
            *lines, rest = (rest + data).split(b"\n")
            for line in filter(None, lines):
                code = _error(line)
                if code is None:
                    self._told = True
                    yield line + b"\n"
                    continue
                level = logging.DEBUG if code == _EXPIRED else logging.WARNING
                logger.log(level, "watch of %s: %s", self._path, line[:300].decode(errors="replace"))
                if code == _EXPIRED or not (self._told or code == _BUSY):
                    yield _TOO_OLD
                return


_EXPIRED, _BUSY = 410, 429
_TOO_OLD = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": _EXPIRED}}).encode() + b"\n"


def _error(line: bytes) -> int | None:
    """The code of the error that a line of a watch tells of; None for an event, 0 for what is neither."""
    try:
        event = from_json(line)
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            return int(found["code"])
        return None if "metadata" in found else 0
    except (ValueError, TypeError, KeyError):
        return 0


def _authorization(found: kube.Configuration) -> aiohttp.ClientMiddlewareType:
    """The bearer token as it is now: the library reads a mounted one again every minute."""

    async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = str(await found.get_api_key_with_prefix("BearerToken") or "")
        if token:
            request.headers["Authorization"] = token if " " in token else f"Bearer {token}"
        return await send(request)

    return authorize


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, type_, protocol, _, _ = address
    made = socket.socket(family, type_, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
