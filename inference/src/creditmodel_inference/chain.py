"""The hash chain of the scoring log: docs/design/contracts.md gives its form.

A part's rows are hashed in blocks, each block's link over the link before it; a part's head is over its last link and
the head of the part before it. What is hashed are the values, not their encoding, so that the same rows in another
Parquet encoding have the same head.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "FIRST", "KEY", "Blocks", "PartSeal", "head_of", "links_of", "opening", "read_seal"]

BLOCK_ROWS = 256
"""Rows of a link: an edit is found to that many rows."""

KEY = b"creditmodel.chain"
"""The part's metadata entry."""

FIRST = "0" * 64
"""What the first part of a chain names as the head before it."""

_DOMAIN = b"creditmodel scoring log 1\n"


@dataclass(frozen=True, slots=True)
class PartSeal:
    """What a part says of itself: its place in a chain, the link of each block of rows, and its head."""

    version: int
    chain: str
    sequence: int
    previous: str
    rows: int
    links: list[str]
    head: str

    def encode(self) -> bytes:
        """As it stands in the part's metadata."""
        return json.dumps(asdict(self)).encode()


def read_seal(metadata: dict[bytes, bytes] | None) -> PartSeal | None:
    """The seal in a part's metadata; None where there is none that could be read."""
    try:
        document = json.loads((metadata or {})[KEY])
        seal = PartSeal(**document)
    except (KeyError, TypeError, ValueError):
        return None
    texts = [seal.chain, seal.previous, seal.head, *seal.links]
    return seal if seal.version == 1 and all(isinstance(text, str) for text in texts) else None


def opening(schema: Any) -> bytes:
    """What the first link is over, beside its rows: names and types of the columns."""
    # Readers name a list's items differently; there is one type of list.
    kinds = [[field.name, "list" if pa.types.is_list(field.type) else str(field.type)] for field in schema]
    names = json.dumps(kinds).encode()
    return hashlib.sha256(_DOMAIN + names).digest()


class Blocks:
    """The blocks of a table's rows."""

    def __init__(self, table: Any) -> None:
        self.rows = len(table)
        self._numbers, self._texts = _canonical(table.combine_chunks())

    def __len__(self) -> int:
        return -(-self.rows // BLOCK_ROWS)

    def link(self, index: int, previous: bytes) -> bytes:
        """The link of a block over the one before it."""
        start, stop = index * BLOCK_ROWS, min((index + 1) * BLOCK_ROWS, self.rows)
        hashed = hashlib.sha256(previous)
        for numbers in self._numbers:
            hashed.update(numbers[start:stop].data)
        for text in self._texts:
            text.update(hashed, start, stop)
        return hashed.digest()


def links_of(link: bytes, table: Any) -> list[bytes]:
    """The links of a table's blocks, the first one over `link`."""
    blocks = Blocks(table)
    return list(accumulate(range(len(blocks)), lambda last, index: blocks.link(index, last), initial=link))[1:]


def head_of(last: bytes, chain: str, sequence: int, previous: str, rows: int) -> str:
    """A part's head: over its last link, its place in the chain and the head before it."""
    return hashlib.sha256(last + f"{chain}\n{sequence}\n{previous}\n{rows}\n".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Texts:
    """A column of strings: the bytes of row i are content[offsets[i]:offsets[i + 1]]."""

    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    content: memoryview

    def update(self, hashed: Any, start: int, stop: int) -> None:
        hashed.update(self.lengths[start:stop].data)
        hashed.update(self.content[self.offsets[start] : self.offsets[stop]])


@dataclass(frozen=True, slots=True)
class _Lists:
    """A column of lists of strings."""

    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    items: _Texts

    def update(self, hashed: Any, start: int, stop: int) -> None:
        hashed.update(self.lengths[start:stop].data)
        self.items.update(hashed, int(self.offsets[start]), int(self.offsets[stop]))


def _canonical(table: Any) -> tuple[list[NDArray[Any]], list[_Texts | _Lists]]:
    """Columns of eight-byte numbers, values and whether given, with zero where missing; and the texts beside them."""
    numbers: list[NDArray[Any]] = []
    texts: list[_Texts | _Lists] = []
    all_given = np.ones(len(table), np.int64)
    for column in table.columns:
        array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        given = all_given if array.null_count == 0 else _given(array)
        numbers.append(given)
        if pa.types.is_list(array.type):
            offsets = _offsets(array)
            texts.append(_Lists(offsets, np.diff(offsets), _texts(array.values)))
        elif pa.types.is_string(array.type):
            texts.append(_texts(array))
        else:
            numbers.append(_values(array) if given is all_given else np.where(given, _values(array), 0))
    return numbers, texts


def _given(array: Any) -> NDArray[np.int64]:
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.int64)


def _values(array: Any) -> NDArray[Any]:
    """Eight bytes a number, whatever its width."""
    if not len(array):
        return np.zeros(0, np.int64)
    width = array.type.bit_width // 8
    kind = np.float64 if pa.types.is_float64(array.type) else np.dtype(f"i{width}").type
    values: NDArray[Any] = np.frombuffer(array.buffers()[1], kind, len(array), array.offset * width)
    return values if values.itemsize == 8 else values.astype(np.int64)


def _offsets(array: Any) -> NDArray[np.int64]:
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(buffer, np.int32, len(array) + 1, array.offset * 4).astype(np.int64)


def _texts(array: Any) -> _Texts:
    content = array.buffers()[2]
    offsets = _offsets(array)
    return _Texts(offsets, np.diff(offsets), memoryview(b"" if content is None else content))
