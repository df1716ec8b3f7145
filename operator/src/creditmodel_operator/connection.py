"""The HTTP session that the watches run on. Kopf opens them and keeps their place; what they tell goes past it:

- Kopf lists to know where its watch begins, and keeps what it finds to itself. It gets an empty list, and the
  `Follower` of its path is told: the operator takes the list itself, page by page (lists.py).
- Kopf runs a task with a queue for each object that a watch tells of, which is two fifths of the operator's CPU time in
  a burst. The follower hears of each event as it is read, and Kopf sees a bookmark in its place.

It adds what a watch needs on a network that fails:

- A watch that tells of an error, or something that is no event, ends and is opened again from where it was. One that
  tells of nothing else is begun anew with a list. Kopf would end for good.
- What is not served (404) or answered by a gateway with a page is asked for again as after an internal error, and begun
  anew with a list once it is served. Kopf would end for good.
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
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import kopf
from kubernetes.aio import client as kube
from pydantic_core import from_json

from creditmodel_operator.client import configuration

__all__ = ["Backoffs", "Connection", "Events", "Follower"]

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


Event = Mapping[str, Any]
"""An event of a watch: its type, and an object with metadata."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Whoever wants to know of a collection."""

    listed: Callable[[], None]
    """Kopf has listed it."""
    heard: Callable[[Event], None]
    """Its watch has told of this; bookmarks aside."""


class Connection:
    """Makes Kopf's session, whenever Kopf asks for one. `follower` gives who follows the collection at a path."""

    def __init__(self, follower: Callable[[str], Follower | None]) -> None:
        self.follower = follower
        self._watches: dict[str, _Pace] = {}
        self._unserved: set[str] = set()
        """Paths of watches that were answered with 404: what happened meanwhile, no watch tells."""
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
        follower = self.follower(request.url.path)
        if follower is None:
            return await _sent(request, send)
        if "watch" in request.url.query:
            return await self._watch(request, send, follower)
        request.url = request.url.update_query(fieldSelector=NOTHING)
        response = await _sent(request, send)
        if response.status == 404 or (response.status == 200 and not await _is_list(response)):
            return _unavailable(response)
        if response.status == 200:
            follower.listed()
        return response

    async def _watch(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType, follower: Follower
    ) -> aiohttp.ClientResponse:
        path = request.url.path
        pace = self._watches.setdefault(path, _Pace())
        await pace.wait()
        response = await _sent(request, send)
        if response.status == 404:
            self._unserved.add(path)
            return _unavailable(response)
        if response.status == 200:
            pace.begun()
            events = Events(response.content, path, follower.heard, anew=path in self._unserved)
            self._unserved.discard(path)
            response.content = cast(aiohttp.StreamReader, events)
        return response


async def _is_list(response: aiohttp.ClientResponse) -> bool:
    """Whether Kopf can read from this where its watch begins."""
    try:
        return (
            response.content_type == "application/json"
            and "resourceVersion" in from_json(await response.read())["metadata"]
        )
    except (ValueError, TypeError, KeyError):
        return False


def _unavailable(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """The answer as one after which Kopf tries again, for ever, instead of ending."""
    logger.warning("%s: %s %s is no answer to go on from", response.url.path, response.status, response.content_type)
    response.status = 503
    return response


async def _sent(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    if request.session.closed:  # another watch was refused meanwhile: Kopf knows this error, and logs in again
        raise RuntimeError("Session is closed")
    return await send(request)


class Events:
    """The content of a watch, up to the first line that is no event or tells of an error.

    Events go to `heard`; what is left to read is their place, as bookmarks. What comes after an error was not told, so
    the watch that follows begins where this one was. Where nothing was told, as when 410 says that this place is too
    old, that would be for ever the same: Kopf is told 410, and lists. So it is where the watch has to be begun `anew`.
    """

    def __init__(
        self, content: aiohttp.StreamReader, path: str, heard: Callable[[Event], None], *, anew: bool = False
    ) -> None:
        self._content, self._path, self._heard, self._anew = content, path, heard, anew
        self._told = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, a few at a time."""
        if self._anew:
            yield _TOO_OLD
            return
        rest = b""
        async for data in self._content.iter_chunked(size):
            *lines, rest = (rest + data).split(b"\n")
            last, code = self._tell(filter(None, lines))
            if last is not None:
                yield _place(last)
            if code is not None:
                if code == _EXPIRED or not (self._told or code == _BUSY):
                    yield _TOO_OLD
                return

    def _tell(self, lines: Iterable[bytes]) -> tuple[Event | None, int | None]:
        """The last event, and the code of the error that ended them, if one did."""
        last: Event | None = None
        for line in lines:
            event, code = _read(line)
            if event is None:
                level = logging.DEBUG if code == _EXPIRED else logging.WARNING
                logger.log(level, "watch of %s: %s", self._path, line[:300].decode(errors="replace"))
                return last, code
            if event["type"] != "BOOKMARK":
                self._heard(event)
            last, self._told = event, True
        return last, None


_EXPIRED, _BUSY = 410, 429
_TOO_OLD = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": _EXPIRED}}).encode() + b"\n"


def _place(event: Event) -> bytes:
    """A bookmark of where the event was."""
    version = event["object"]["metadata"].get("resourceVersion")
    metadata = {} if version is None else {"resourceVersion": version}
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": metadata}}).encode() + b"\n"


def _read(line: bytes) -> tuple[Event | None, int]:
    """The event that a line of a watch is, or the code of the error that it tells of: 0 for what is neither."""
    try:
        event = from_json(line)
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            return None, int(found["code"])
        return (event, 0) if "metadata" in found else (None, 0)
    except (ValueError, TypeError, KeyError):
        return None, 0


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
