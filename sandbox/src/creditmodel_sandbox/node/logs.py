"""Logs of containers: written as stamped lines, bounded, read back the way `kubectl logs` asks.

A line is `<RFC 3339 time with nanoseconds> <F|P> <text>`: F ends with a newline, P is a piece of a longer line.
A file that outgrows its limit becomes `<name>.1`, replacing an older one, so a container keeps at most twice the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

__all__ = ["LogPump", "LogQuery", "follow", "read", "tail"]

LIMIT_BYTES = 10 * 1024 * 1024
LONGEST_LINE = 16 * 1024


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with all nine digits, so that stamps sort as text."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class LogPump:
    """Moves what a container writes from its pipe to its log file."""

    def __init__(self, path: Path, limit: int = LIMIT_BYTES) -> None:
        self.path, self._limit, self._rest = path, limit, b""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._source, self.sink = os.pipe()
        """`sink` is what the process writes to; close it with `close_sink` once the process has it."""
        os.set_blocking(self._source, False)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._source, self._pump)

    def close_sink(self) -> None:
        os.close(self.sink)

    def _pump(self) -> None:
        try:
            chunk = os.read(self._source, 65536)
        except BlockingIOError:
            return
        if chunk:
            self._write(chunk)
        else:
            self.finish()

    def finish(self) -> None:
        """Stop reading; what is in the pipe by now is kept."""
        if self.done.done():
            return
        asyncio.get_running_loop().remove_reader(self._source)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._source, 65536):
                self._write(chunk)
        if self._rest:
            self._file.write(f"{stamp(time.time_ns())} P ".encode() + self._rest + b"\n")
        os.close(self._source)
        self._file.close()
        self.done.set_result(None)

    def _write(self, chunk: bytes) -> None:
        now = stamp(time.time_ns()).encode()
        *lines, rest = (self._rest + chunk).split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(now, line)]
        while len(rest) > LONGEST_LINE:
            pieces.append(now + b" P " + rest[:LONGEST_LINE] + b"\n")
            rest = rest[LONGEST_LINE:]
        self._rest = rest
        if pieces:
            self._file.write(b"".join(pieces))
            if self._file.tell() > self._limit:
                self._rotate()

    def _rotate(self) -> None:
        self._file.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._file = self.path.open("ab", buffering=0)


def _pieces(now: bytes, line: bytes) -> Iterator[bytes]:
    while len(line) > LONGEST_LINE:
        yield now + b" P " + line[:LONGEST_LINE] + b"\n"
        line = line[LONGEST_LINE:]
    yield now + b" F " + line + b"\n"


@dataclass(frozen=True)
class LogQuery:
    """What `kubectl logs` can ask for. `since` is a stamp as this module writes them."""

    tail_lines: int | None = None
    since: str | None = None
    timestamps: bool = False
    limit_bytes: int | None = None

    def shown(self, line: bytes) -> bytes:
        """A stored line as the reader wants it, empty when it is too old."""
        when, _, rest = line.partition(b" ")
        kind, _, text = rest.partition(b" ")
        if self.since is not None and when < self.since.encode():
            return b""
        text = text if kind == b"F" else text.removesuffix(b"\n")
        return when + b" " + text if self.timestamps else text


def _stored(path: Path) -> Iterator[bytes]:
    for part in (path.with_name(path.name + ".1"), path):
        with contextlib.suppress(FileNotFoundError), part.open("rb") as lines:
            yield from lines


def read(path: Path, query: LogQuery) -> Iterator[bytes]:
    """What is stored now, line by line."""
    lines: Iterator[bytes] | deque[bytes] = _stored(path)
    if query.tail_lines is not None:
        lines = deque(lines, maxlen=query.tail_lines)
    left = query.limit_bytes
    for line in lines:
        text = query.shown(line)
        if left is not None:
            text, left = text[:left], left - len(text)
        if text:
            yield text
        if left is not None and left <= 0:
            return


def tail(path: Path, lines: int, size: int) -> str:
    """The end of a log, for a termination message: at most `lines` lines and `size` bytes."""
    text = b"".join(read(path, LogQuery(tail_lines=lines)))
    return text[-size:].decode(errors="replace")


async def follow(path: Path, query: LogQuery, running: Callable[[], bool], poll: float = 0.2) -> AsyncIterator[bytes]:
    """What is stored, then what is added, until the container has ended and all was read."""
    stored, place = list(read(path, query)), _place(path)
    for text in stored:
        yield text
    left = None if query.limit_bytes is None else query.limit_bytes - sum(map(len, stored))
    while left is None or left > 0:
        alive = running()
        added, place = _added(path, place)
        for line in added:
            text = query.shown(line)[:left]
            left = None if left is None else left - len(text)
            yield text
        if not alive:
            return
        if not added:
            await asyncio.sleep(poll)


def _place(path: Path) -> tuple[int, int]:
    """Which file this is, and where it ends."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_size
    return 0, 0


def _added(path: Path, place: tuple[int, int]) -> tuple[list[bytes], tuple[int, int]]:
    """The lines since `place`, across a rotation, and the new place."""
    inode, position = place
    new_inode, size = _place(path)
    lines: list[bytes] = []
    if new_inode != inode:
        lines, position = (_lines(path.with_name(path.name + ".1"), position) if inode else []), 0
    elif size == position:
        return [], place
    more = _lines(path, position)
    return lines + more, (new_inode, position + sum(map(len, more)))


def _lines(path: Path, position: int) -> list[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(position)
        return file.readlines()
    return []
