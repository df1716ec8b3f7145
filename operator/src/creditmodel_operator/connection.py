"""The HTTP session that the watches run on. It adds what a watch needs on a network that fails:

- Kopf keeps its lists to itself. `listed` is told of each: its path.
- A watch that ends as soon as it is opened is opened again a little later each time, not at once.
- The kernel asks a silent peer whether it is still there.
- A token that is rotated is read anew, and a refused one is not offered again at once.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import kopf
from kubernetes.aio import client as kube

from creditmodel_operator.client import configuration

__all__ = ["Backoffs", "Connection"]

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

    def __init__(self, listed: Callable[[str], None]) -> None:
        self.listed = listed
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
        path, query = request.url.path, request.url.query
        pace = self._watches.setdefault(path, _Pace()) if "watch" in query else None
        if pace is not None:
            await pace.wait()
        if request.session.closed:  # another watch was refused meanwhile: Kopf knows this error, and logs in again
            raise RuntimeError("Session is closed")
        response = await send(request)
        if response.status == 200 and pace is not None:
            pace.begun()
        elif response.status == 200 and "continue" not in query:
            self.listed(path)
        return response


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
