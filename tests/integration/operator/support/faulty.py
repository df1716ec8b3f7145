"""A proxy between an operator and its API server that counts requests, and loses, delays or refuses them as told.

    rule(request)   asked before a request goes on; a Fault takes the place of the answer, None lets it through
    wrote(request)  told after the API server has answered a write and before the operator hears of it;
                    a fault takes the place of the answer, which is then lost

Both run in the proxy's own thread and must not block.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ApiServer

__all__ = [
    "DROPPED",
    "ENDED",
    "EXPIRED",
    "Answer",
    "Broken",
    "Delay",
    "Fault",
    "Garbled",
    "Proxy",
    "Request",
    "is_write",
    "proxied",
]

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PLURAL = re.compile(r"/(?:api|apis/[^/]+)/v[^/]+/(?:namespaces/[^/]+/)?([^/?]+)")


@dataclass
class Request:
    """A request that came by, and what became of it."""

    method: str
    path: str
    query: str
    at: float
    """Seconds of time.monotonic()."""
    code: int = 0
    """0: no answer was given."""

    @property
    def kind(self) -> str:
        """The plural of what it is about."""
        found = _PLURAL.match(self.path)
        return found[1] if found else ""

    @property
    def watches(self) -> bool:
        return "watch=true" in self.query

    @property
    def lists(self) -> bool:
        return self.method == "GET" and not self.watches and self.path.endswith(self.kind)

    @property
    def writes(self) -> bool:
        """Leases aside: they are renewed all the time."""
        return self.method in WRITES and self.kind != "leases"

    def __str__(self) -> str:
        tail = self.path.rsplit("/", 2)
        return f"{self.method} {self.kind}" + ("/status" if tail[-1] == "status" else "")


@dataclass(frozen=True)
class Answer:
    """An answer of the proxy's own."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "as told"


@dataclass(frozen=True)
class Delay:
    """The request goes on later."""

    seconds: float


@dataclass(frozen=True)
class _Dropped:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class _Ended:
    """A watch is opened, and ends before anything has come."""


@dataclass(frozen=True)
class Broken:
    """A watch is opened, told of an error, and ended: 410 if its resource version is too old."""

    code: int

    @property
    def line(self) -> str:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "as told", "code": self.code}
        return json.dumps({"type": "ERROR", "object": status}) + "\n"


@dataclass(frozen=True)
class Garbled:
    """A watch is opened, told what is no event, and ended; of any other request this is the answer."""

    line: str
    content_type: str = "application/json"


DROPPED: Final = _Dropped()
ENDED: Final = _Ended()
EXPIRED: Final = Broken(410)
Fault = Answer | Broken | Delay | Garbled | _Dropped | _Ended


def is_write(request: Request) -> bool:
    return request.writes


def _nothing(_: Request) -> Fault | None:
    return None


def _as_it_is(_: Request, body: bytes) -> bytes:
    return body


class Proxy:
    """Runs in a thread of its own; `url` speaks plain HTTP."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.url = ""
        self.rule: Callable[[Request], Fault | None] = _nothing
        self.wrote: Callable[[Request], Fault | None] = _nothing
        self.admit: Callable[[Request, bytes], bytes] = _as_it_is
        """What becomes of a request's body: the part of a mutating webhook."""
        self.seen: list[Request] = []
        self.muted = False
        """Watches that are open or opened meanwhile get no byte any more and are never closed, not even afterwards."""
        self._watches: set[asyncio.BaseTransport] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    # -- what tests do

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(20)

    def kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads here."""
        cluster = {"name": "proxy", "cluster": {"server": self.url}}
        user = {"name": "tests", "user": {"token": self.server.headers["Authorization"].removeprefix("Bearer ")}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "tests"}}
        document = {"apiVersion": "v1", "kind": "Config", "current-context": "proxy"}
        lists = {"clusters": [cluster], "users": [user], "contexts": [context]}
        path.write_text(json.dumps(document | lists))
        return path

    def heal(self) -> None:
        """No fault any more."""
        self.rule = self.wrote = _nothing
        self.admit = _as_it_is
        self.muted = False

    def close_watches(self) -> None:
        """Close every open watch, as an API server does that goes down."""

        def close() -> None:
            for transport in list(self._watches):
                transport.close()

        self._loop.call_soon_threadsafe(close)

    def since(self, at: float, wanted: Callable[[Request], bool] = lambda _: True) -> list[Request]:
        """Requests that came in after `at`, a time.monotonic()."""
        return [request for request in self.seen if request.at >= at and wanted(request)]

    # -- what it does

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0, force_close=False)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            server = web.Server(self._handle, handler_cancellation=True)
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._started.set()
            await self._ending.wait()
            open_ones = [connection.transport for connection in server.connections]
            await runner.cleanup()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for transport in open_ones:
                if transport is not None:
                    transport.abort()
        await asyncio.sleep(0.1)  # connections need a moment to close

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        request = Request(incoming.method, incoming.path, incoming.query_string, time.monotonic())
        self.seen.append(request)
        body = await incoming.read()
        fault = self.rule(request)
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        elif fault is not None:
            return await self._faulty(fault, request, incoming)
        try:
            return await self._forward(request, incoming, self.admit(request, body))
        except aiohttp.ClientError:
            return await self._faulty(DROPPED, request, incoming)

    async def _faulty(self, fault: Fault, request: Request, incoming: web.BaseRequest) -> web.StreamResponse:
        if isinstance(fault, _Ended):
            request.code = 200
            return web.Response(content_type="application/json")
        if isinstance(fault, Broken | Garbled):
            request.code = 200
            return web.Response(text=fault.line, content_type=getattr(fault, "content_type", "application/json"))
        if isinstance(fault, Answer):
            request.code = fault.code
            document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": fault.code}
            return web.json_response(document | {"message": fault.message}, status=fault.code, headers=fault.headers)
        if incoming.transport is not None:
            incoming.transport.abort()
        raise web.HTTPBadGateway  # nobody hears it

    async def _forward(self, request: Request, incoming: web.BaseRequest, body: bytes) -> web.StreamResponse:
        kept = ("Accept", "Content-Type", "User-Agent", "Authorization")
        headers = {name: incoming.headers[name] for name in kept if name in incoming.headers}
        url = self.server.url + incoming.path_qs
        timeout = aiohttp.ClientTimeout(total=None if request.watches else 60)
        async with self._session.request(
            incoming.method, url, data=body or None, headers=headers, ssl=self.server.tls or True, timeout=timeout
        ) as answer:
            if request.watches and answer.status == 200:
                return await self._stream(request, incoming, answer)
            data = await answer.read()
            fault = self.wrote(request) if request.writes else None
            if fault is not None:
                return await self._faulty(fault, request, incoming)
            request.code = answer.status
            passed = {k: answer.headers[k] for k in ("Content-Type", "Retry-After") if k in answer.headers}
            return web.Response(body=data, status=answer.status, headers=passed)

    async def _stream(
        self, request: Request, incoming: web.BaseRequest, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        request.code = 200
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(incoming)
        transport, deaf = incoming.transport, self.muted
        assert transport is not None
        self._watches.add(transport)
        try:
            async for chunk in answer.content.iter_any():
                deaf = deaf or self.muted
                if not deaf:
                    await response.write(chunk)
            if deaf:
                await asyncio.sleep(3600)
        finally:
            self._watches.discard(transport)
        return response


@contextmanager
def proxied(server: ApiServer) -> Iterator[Proxy]:
    """A proxy before `server`."""
    proxy = Proxy(server)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
