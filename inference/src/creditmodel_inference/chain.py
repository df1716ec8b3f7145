"""The hash chain of the scoring log: docs/design/contracts.md gives its form.

A part's rows are hashed in blocks, each block's link over the link before it; a part's head is over its last link and
the head of the part before it. What is hashed are the values, not their encoding, so that the same rows in another
Parquet encoding have the same head. Parts are written in form 2, which hashes half the bytes in one call a block; form
1 is still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "FIRST", "KEY", "VERSION", "Blocks", "PartSeal", "head_of", "links_of", "opening", "read_seal"]

VERSION = 2
"""The form in which parts are written."""

BLOCK_ROWS = {1: 256, 2: 1024}
"""Rows of a link, by form: an edit is found to that many rows."""

KEY = b"creditmodel.chain"
"""The part's metadata entry."""

FIRST = "0" * 64
"""What the first part of a chain names as the head before it."""


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
    return seal if seal.version in BLOCK_ROWS and all(isinstance(text, str) for text in texts) else None


def opening(schema: Any, version: int = VERSION) -> bytes:
    """What the first link is over, beside its rows: the form, and names and types of the columns."""
    # Readers name a list's items differently; there is one type of list.
    kinds = [[field.name, "list" if pa.types.is_list(field.type) else str(field.type)] for field in schema]
    names = json.dumps(kinds).encode()
    return hashlib.sha256(b"creditmodel scoring log %d\n" % version + names).digest()


class Blocks:
    """The blocks of a table's rows in one of the forms."""

    def __init__(self, table: Any, version: int = VERSION) -> None:
        self.rows = len(table)
        self.size = BLOCK_ROWS[version]
        self._columns = [_column(column) for column in table.combine_chunks().columns]
        self._pieces = _pieces_1 if version == 1 else _pieces_2

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    def link(self, index: int, previous: bytes) -> bytes:
        """The link of a block over the one before it."""
        start, stop = index * self.size, min((index + 1) * self.size, self.rows)
        return hashlib.sha256(b"".join([previous, *self._pieces(self._columns, start, stop)])).digest()


def links_of(link: bytes, table: Any) -> list[bytes]:
    """The links of a table's blocks, the first one over `link`."""
    blocks = Blocks(table)
    return list(accumulate(range(len(blocks)), lambda last, index: blocks.link(index, last), initial=link))[1:]


def head_of(last: bytes, chain: str, sequence: int, previous: str, rows: int) -> str:
    """A part's head: over its last link, its place in the chain and the head before it."""
    return hashlib.sha256(last + f"{chain}\n{sequence}\n{previous}\n{rows}\n".encode()).hexdigest()


# A column's values, without what its encoding adds.


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Eight bytes a value, zero where missing. `given` is None where nothing is."""

    given: NDArray[np.bool_] | None
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Texts:
    """The bytes of row i are content[offsets[i]:offsets[i + 1]]."""

    given: NDArray[np.bool_] | None
    offsets: NDArray[np.int32]
    content: memoryview

    def between(self, start: int, stop: int) -> bytes:
        """The bytes of some rows."""
        return bytes(self.content[self.offsets[start] : self.offsets[stop]])


@dataclass(frozen=True, slots=True)
class _Lists:
    """The texts of row i are items[offsets[i]:offsets[i + 1]]."""

    given: NDArray[np.bool_] | None
    offsets: NDArray[np.int32]
    items: _Texts


_Column = _Numbers | _Texts | _Lists
_Piece = bytes | memoryview


def _pieces_1(columns: Sequence[_Column], start: int, stop: int) -> Iterator[_Piece]:
    """Which values are given, and the numbers; then all texts."""
    for column in columns:
        given = np.ones(stop - start, np.int64) if column.given is None else column.given[start:stop].astype(np.int64)
        yield given.data
        if isinstance(column, _Numbers):
            yield column.values[start:stop].data
    for column in columns:
        if isinstance(column, _Lists):
            yield _lengths(column.offsets, start, stop).astype(np.int64).data
            start_item, stop_item = int(column.offsets[start]), int(column.offsets[stop])
            yield _lengths(column.items.offsets, start_item, stop_item).astype(np.int64).data
            yield column.items.between(start_item, stop_item)
        elif isinstance(column, _Texts):
            yield _lengths(column.offsets, start, stop).astype(np.int64).data
            yield column.between(start, stop)


def _pieces_2(columns: Sequence[_Column], start: int, stop: int) -> Iterator[_Piece]:
    """Column by column: which values are given, and the values."""
    for column in columns:
        yield from _given_2(column.given, start, stop)
        if isinstance(column, _Numbers):
            yield column.values[start:stop].data
        elif isinstance(column, _Lists):
            yield _lengths(column.offsets, start, stop).data
            yield from _texts_2(column.items, int(column.offsets[start]), int(column.offsets[stop]))
        else:
            yield from _texts_2(column, start, stop)


def _given_2(given: NDArray[np.bool_] | None, start: int, stop: int) -> Iterator[_Piece]:
    """One byte where nothing is missing, else one more a row."""
    some = None if given is None or given[start:stop].all() else given[start:stop]
    yield b"\1" if some is None else b"\0"
    if some is not None:
        yield some.data


def _texts_2(texts: _Texts, start: int, stop: int) -> Iterator[_Piece]:
    """Lengths and bytes; those of one row where all rows have the same."""
    lengths, content = _lengths(texts.offsets, start, stop), texts.between(start, stop)
    alike = stop > start and bool((lengths == lengths[0]).all())
    if alike and content == content[: lengths[0]] * (stop - start):
        lengths, content = lengths[:1], content[: lengths[0]]
    yield len(lengths).to_bytes(4, "little")
    yield lengths.data
    yield content


def _lengths(offsets: NDArray[np.int32], start: int, stop: int) -> NDArray[np.int32]:
    return np.diff(offsets[start : stop + 1])


def _column(column: Any) -> _Column:
    array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    given = None if array.null_count == 0 else _given(array)
    if pa.types.is_list(array.type):
        return _Lists(given, _offsets(array), _texts(array.values))
    if pa.types.is_string(array.type):
        return _texts(array, given)
    values = _values(array)
    return _Numbers(given, values if given is None else np.where(given, values, values.dtype.type(0)))


def _given(array: Any) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.bool_)


def _values(array: Any) -> NDArray[Any]:
    """Eight bytes a number, whatever its width."""
    if not len(array):
        return np.zeros(0, np.int64)
    width = array.type.bit_width // 8
    kind = np.float64 if pa.types.is_float64(array.type) else np.dtype(f"i{width}").type
    values: NDArray[Any] = np.frombuffer(array.buffers()[1], kind, len(array), array.offset * width)
    return values if values.itemsize == 8 else values.astype(np.int64)


def _offsets(array: Any) -> NDArray[np.int32]:
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32, len(array) + 1, array.offset * 4)


def _texts(array: Any, given: NDArray[np.bool_] | None = None) -> _Texts:
    content = array.buffers()[2]
    return _Texts(given, _offsets(array), memoryview(b"" if content is None else content))
