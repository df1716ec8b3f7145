from __future__ import annotations

import asyncio
import os
from pathlib import Path

from creditmodel_sandbox.node.logs import LogPump, LogQuery, follow, read, tail


async def _pump(path: Path, *chunks: bytes, limit: int = 1 << 20) -> LogPump:
    pump = LogPump(path, limit)
    for chunk in chunks:
        os.write(pump.sink, chunk)
        await asyncio.sleep(0.01)
    pump.close_sink()
    await asyncio.wait_for(pump.done, 60)
    return pump


def _text(path: Path, **query: object) -> bytes:
    return b"".join(read(path, LogQuery(**query)))  # type: ignore[arg-type]


async def test_lines_come_back_as_they_were_written_however_they_arrived(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    await _pump(path, b"one\ntw", b"o\n\nlast without end")
    assert _text(path) == b"one\ntwo\n\nlast without end"
    assert _text(path, tail_lines=2) == b"\nlast without end"
    assert _text(path, limit_bytes=5) == b"one\nt"


async def test_stamps_are_rfc_3339_with_nanoseconds_and_select_by_time(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    await _pump(path, b"one\n", b"two\n")
    first, second = (line.split(b" ", 1) for line in _text(path, timestamps=True).splitlines())
    assert (len(first[0]), first[1], second[1]) == (30, b"one", b"two")
    assert _text(path, since=second[0].decode()) == b"two\n"


async def test_a_very_long_line_is_kept_in_pieces_and_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    line = b"x" * 50_000
    await _pump(path, line[:30_000], line[30_000:] + b"\nend\n")
    assert _text(path) == line + b"\nend\n"


async def test_the_log_of_a_chatty_container_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    await _pump(path, *(b"%05d\n" % n * 100 for n in range(100)), limit=40_000)
    assert sum(part.stat().st_size for part in tmp_path.iterdir()) < 2 * 40_000 + 10_000  # noqa: ASYNC240
    assert _text(path, tail_lines=1) == b"00099\n"


async def test_following_gives_what_is_there_then_what_comes_across_a_rotation_and_ends_with_the_container(
    tmp_path: Path,
) -> None:
    path, running, got = tmp_path / "0.log", True, b""
    pump = LogPump(path, limit=2_000)
    os.write(pump.sink, b"before\n")
    await asyncio.sleep(0.01)

    async def reader() -> None:
        nonlocal got
        async for text in follow(path, LogQuery(), lambda: running, poll=0.01):
            got += text

    task = asyncio.create_task(reader())
    written = [b"before\n"]
    for n in range(60):
        written.append(b"line %d %s\n" % (n, b"." * 40))
        os.write(pump.sink, written[-1])
        await asyncio.sleep(0.012)
    pump.close_sink()
    await pump.done
    running = False
    await asyncio.wait_for(task, 60)
    assert got == b"".join(written)


async def test_a_tail_is_bounded_in_lines_and_bytes(tmp_path: Path) -> None:
    pump = await _pump(tmp_path / "0.log", b"".join(b"line %d\n" % n for n in range(200)))
    assert tail(pump.path, 3, 2048) == "line 197\nline 198\nline 199\n"
    assert tail(pump.path, 80, 10) == "\nline 199\n"
