from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from creditmodel_sandbox.instance import free_port
from creditmodel_sandbox.node.proxy import Proxy, places

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_address() -> tuple[str, int]:
    """Where nobody listens, and nobody else will."""
    return "127.0.0.1", free_port()


async def backend(handler: Handler) -> tuple[asyncio.Server, tuple[str, int]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()


def saying(name: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(name + b":" + line)
            await writer.drain()

    return handler


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    task = asyncio.create_task(proxy.run())
    yield proxy
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def connect(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = time.monotonic() + 60
    while True:
        try:
            return await asyncio.open_connection(*address)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"x\n")
    return (await asyncio.wait_for(reader.readline(), 60)).split(b":")[0]


async def once(address: tuple[str, int]) -> bytes:
    reader, writer = await connect(address)
    try:
        return await ask(reader, writer)
    finally:
        writer.close()


async def test_connections_are_spread_evenly_over_the_backends(proxy: Proxy) -> None:
    servers = [await backend(saying(name)) for name in (b"a", b"b")]
    service = free_address()
    proxy.set({service: tuple(address for _, address in servers)})
    answers = [await once(service) for _ in range(10)]
    assert (answers.count(b"a"), answers.count(b"b")) == (5, 5)
    for server, _ in servers:
        server.close()


async def test_an_open_connection_stays_with_its_backend_when_the_service_moves(proxy: Proxy) -> None:
    (one, first), (two, second) = await backend(saying(b"a")), await backend(saying(b"b"))
    service = free_address()
    proxy.set({service: (first,)})
    kept = await connect(service)
    assert await ask(*kept) == b"a"
    proxy.set({service: (second,)})
    assert [await once(service), await ask(*kept)] == [b"b", b"a"]
    proxy.set({service: ()})
    assert await ask(*kept) == b"a"
    proxy.set({}, gone=[service])
    assert await ask(*kept) == b"a"
    kept[1].close()
    one.close()
    two.close()


async def test_a_service_without_backends_refuses_at_once_and_serves_again_later(proxy: Proxy) -> None:
    server, address = await backend(saying(b"a"))
    service = free_address()
    proxy.set({service: (address,)})
    assert await once(service) == b"a"
    proxy.set({service: ()})
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*service)
    proxy.set({service: (address,)})
    assert await once(service) == b"a"
    server.close()


async def test_a_backend_that_refuses_is_passed_over(proxy: Proxy) -> None:
    server, address = await backend(saying(b"a"))
    service = free_address()
    proxy.set({service: (free_address(), address, free_address())})
    assert [await once(service) for _ in range(6)] == [b"a"] * 6
    server.close()


async def test_a_client_is_reset_when_every_backend_refuses(proxy: Proxy) -> None:
    service = free_address()
    proxy.set({service: (free_address(), free_address())})
    reader, writer = await connect(service)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 60)
    writer.close()


async def test_a_client_that_has_said_everything_still_gets_its_answer(proxy: Proxy) -> None:
    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))
        await writer.drain()

    server, address = await backend(counting)
    service = free_address()
    proxy.set({service: (address,)})
    reader, writer = await connect(service)
    writer.write(b"x" * 1_000_000)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 60) == b"1000000"
    writer.close()
    server.close()


async def test_a_slow_reader_holds_the_sender_back_and_gets_every_byte(proxy: Proxy) -> None:
    sent, size = 0, 32 * 1024 * 1024

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < size:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    server, address = await backend(flood)
    service = free_address()
    proxy.set({service: (address,)})
    reader, writer = await connect(service)
    before = -1
    while before != sent or not sent:
        before = sent
        await asyncio.sleep(0.2)
    assert sent < size / 2, "the sender was not held back"
    received = 0
    while chunk := await reader.read(1 << 20):
        received += len(chunk)
    assert received == size
    writer.close()
    server.close()


async def test_a_backend_that_resets_resets_the_client(proxy: Proxy) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        transport: Any = writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        transport.abort()

    server, address = await backend(reset)
    service = free_address()
    proxy.set({service: (address,)})
    reader, writer = await connect(service)
    writer.write(b"x\n")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 60)
    writer.close()
    server.close()


async def test_an_address_that_is_taken_is_tried_again(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("creditmodel_sandbox.node.proxy.RETRY_SECONDS", 0.05)
    server, address = await backend(saying(b"a"))
    with socket.socket() as taken:
        service = free_address()
        taken.bind(service)
        proxy.set({service: (address,)})
        await asyncio.sleep(0.1)
    assert await once(service) == b"a"
    server.close()


WITHOUT_RIGHTS = """
import asyncio, sys
from creditmodel_sandbox.instance import free_port
from creditmodel_sandbox.node.proxy import Proxy, places

async def hello(reader, writer):
    writer.write(b"hello")
    writer.close()

async def answers(place):
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*place), 60)
        said = await reader.read()
        writer.close()
    except (OSError, TimeoutError):
        return False
    return said == b"hello"

async def main():
    backend = await asyncio.start_server(hello, "127.0.0.1", 0)
    low, far = ("127.77.13.1", 80), ("10.77.13.2", free_port())
    proxy = Proxy()
    task = asyncio.create_task(proxy.run())
    proxy.set({address: (backend.sockets[0].getsockname(),) for address in (low, far)})
    for there in (places(low), places(far)[1:]):
        while not any([await answers(place) for place in there]):
            await asyncio.sleep(0.01)
    proxy.set({}, gone=[low, far])
    assert not any([await answers(place) for place in [*places(low), *places(far)[1:]]])
    task.cancel()
    print("fine")

asyncio.run(main())
"""


def test_an_ordinary_user_reaches_what_only_root_may_listen_on_at_another_place() -> None:
    command = ["unshare", "--user", sys.executable, "-c", WITHOUT_RIGHTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.9.0.1", 8080), [("127.9.0.1", 8080)]),
        (("127.9.0.1", 80), [("127.9.0.1", 80), ("127.9.0.1", 8080)]),
        (("10.9.0.1", 443), [("10.9.0.1", 443), ("10.9.0.1", 8443), ("127.9.0.1", 443), ("127.9.0.1", 8443)]),
    ],
)
def test_where_a_service_may_be(address: tuple[str, int], expected: list[tuple[str, int]]) -> None:
    assert places(address) == expected
