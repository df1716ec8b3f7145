"""The Services' TCP proxy: listens on cluster addresses and forwards each connection to one backend.

A Service without a backend is not listened on, so a client is refused at once, as kube-proxy does it. An address or a
port that an ordinary user may not listen on has a stand-in. A connection that
is established stays with its backend whatever happens to the Service. A backend that refuses is passed over for the
next one: nothing of the client's has been read by then, so nothing is lost or sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import random
import socket
import struct
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from creditmodel_sandbox.node.services import Address

__all__ = ["Proxy", "places"]

log = logging.getLogger(__name__)
CONNECT_SECONDS, RETRY_SECONDS = 2.0, 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL}
FIRST_FREE_PORT, SHIFT = 1024, 8000


def places(address: Address) -> list[Address]:
    """Where connections to a Service's address may be taken, best first: there; without the right to a port below
    1024, 8000 further up; without the right to make the address local, at 127 and the rest of it.
    """
    host, port = address
    hosts = dict.fromkeys([host, f"127.{host.partition('.')[2]}"])
    ports = [port] if port >= FIRST_FREE_PORT else [port, port + SHIFT]
    return list(itertools.product(hosts, ports))


class _End(asyncio.Protocol):
    """One side of a forwarded connection: what it receives goes out at the other."""

    transport: asyncio.Transport
    other: _End | None = None
    ended = False
    early = b""
    """What came before there was another side: pausing does not hold back what was read already."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def join(self, other: _End) -> None:
        self.other, other.other = other, self
        for end in (self, other):
            if end.early:
                end.data_received(end.early)
                end.early = b""
            if end.ended:
                end.eof_received()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is None:
            return isinstance(self, _Client)
        if self.other.transport.is_closing():
            return False
        if self.other.ended:
            self.other.transport.close()
            return False
        self.other.transport.write_eof()
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            reset(other.transport) if exc else other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """Close so that the peer sees a reset and not an orderly end."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class _Client(_End):
    """The client's side. It is not read from until a backend has taken the connection."""

    def __init__(self, port: _Port) -> None:
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._port.hold(asyncio.get_running_loop().create_task(self._connect()))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        for host, number in self._port.in_turn():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, backend = await loop.create_connection(_End, host, number)
            except (OSError, TimeoutError) as e:
                log.debug("backend %s:%d: %s", host, number, e)
                continue
            if self.transport.is_closing():
                backend.transport.close()
                return
            self.join(backend)
            self.transport.resume_reading()
            return
        reset(self.transport)


class _Port:
    """One listened-on address and its backends."""

    def __init__(self, backends: tuple[Address, ...]) -> None:
        self.backends = backends
        self.server: asyncio.Server | None = None
        self._turn = random.randrange(1 << 16)  # noqa: S311 (spreads load, guards nothing)
        self._connecting: set[asyncio.Task[None]] = set()

    def in_turn(self) -> tuple[Address, ...]:
        """Every backend once, beginning with the one whose turn it is."""
        if not self.backends:
            return ()
        self._turn += 1
        first = self._turn % len(self.backends)
        return self.backends[first:] + self.backends[:first]

    def client(self) -> _Client:
        """The protocol of a new connection."""
        return _Client(self)

    def hold(self, task: asyncio.Task[None]) -> None:
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None


class Proxy:
    """Listens on what `set` names. Changes of backends take effect at once, listeners open and close soon after."""

    def __init__(self) -> None:
        self._wanted: dict[Address, tuple[Address, ...]] = {}
        self._ports: dict[Address, _Port] = {}
        self._changed = asyncio.Event()

    def set(self, changes: Mapping[Address, tuple[Address, ...]], gone: Iterable[Address] = ()) -> None:
        """Give addresses their backends; `gone` are addresses that are no longer listened on."""
        for address in gone:
            self._wanted.pop(address, None)
        self._wanted |= changes
        for address, port in self._ports.items():
            port.backends = self._wanted.get(address, ())
            if not port.backends:
                port.close()
        self._changed.set()

    async def run(self) -> None:
        """Open and close listeners until cancelled. An address that cannot be had is tried again every few seconds."""
        try:
            while True:
                self._changed.clear()
                failed = await self._open()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS if failed else None):
                        await self._changed.wait()
        finally:
            for port in self._ports.values():
                port.close()

    async def _open(self) -> bool:
        failed = False
        self._ports = {a: port for a, port in self._ports.items() if port.server is not None}
        for address, backends in list(self._wanted.items()):
            if address in self._ports or not backends:
                continue
            port = _Port(backends)
            try:
                port.server = await _listen(port, address)
            except OSError as e:
                failed = True
                log.warning("cannot listen on the Service address %s:%d: %s", *address, e.strerror or e)
                continue
            self._ports[address] = port
            port.backends = self._wanted.get(address, ())
            if not port.backends:
                port.close()
        return failed


async def _listen(port: _Port, address: Address) -> asyncio.Server:
    """Listen at the first place that is ours. OSError when it is taken, or none is."""
    refused = OSError(errno.EADDRNOTAVAIL, "no place")
    for place in places(address):
        try:
            server = await asyncio.get_running_loop().create_server(port.client, *place, backlog=1024)
        except OSError as e:
            if e.errno not in _NOT_OURS:
                raise
            refused = e
            continue
        if place != address:
            log.warning("the Service address %s:%d is at %s:%d: there it would take root", *address, *place)
        return server
    raise refused
