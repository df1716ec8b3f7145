"""The hash chain of the scoring log: docs/design/contracts.md gives its form.

A part's rows are hashed in blocks, each block's link over the link before it; a part's head is over its last link and
the head of the part before it. What is hashed are the values, not their encoding, so that the same rows in another
Parquet encoding have the same head. Parts are written in form 3, which hashes a decision, a reason or a category as its
place in a list of texts; forms 1 and 2 are still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = [
    "FIRST",
    "KEY",
    "VERSION",
    "Blocks",
    "Coded",
    "Column",
    "Lists",
    "Numbers",
    "PartSeal",
    "Texts",
    "blocks_of",
    "head_of",
    "opening",
    "place_type",
    "read_seal",
]

VERSION = 3
"""The form in which parts are written."""

_BLOCK_ROWS = {1: 256, 2: 1024, 3: 1024}
"""Rows of a link, by form: an edit is found to that many rows."""

KEY = b"creditmodel.chain"
"""The part's metadata entry."""

FIRST = "0" * 64
"""What the first part of a chain names as the head before it."""


@dataclass(frozen=True, slots=True)
class PartSeal:
    """What a part says of itself: its place in a chain, the link of each block of rows, and its head.

    From form 3 on also the rows of each block, and the texts of columns that have a list of them.
    """

    version: int
    chain: str
    sequence: int
    previous: str
    rows: int
    links: list[str]
    head: str
    blocks: list[int] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As it stands in the part's metadata."""
        return json.dumps(asdict(self)).encode()


def read_seal(metadata: dict[bytes, bytes] | None) -> PartSeal | None:
    """The seal in a part's metadata; None where there is none that could be read."""
    try:
        document = json.loads((metadata or {})[KEY])
        seal = PartSeal(**document)
        texts = [seal.chain, seal.previous, seal.head, *seal.links, *chain.from_iterable(seal.texts.values())]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    sound = all(isinstance(text, str) for text in texts) and all(type(rows) is int and rows > 0 for rows in seal.blocks)
    return seal if seal.version in _BLOCK_ROWS and sound else None


def blocks_of(rows: int, version: int = VERSION) -> list[int]:
    """Rows of each block of so many rows."""
    size = _BLOCK_ROWS[version]
    return [min(size, rows - start) for start in range(0, rows, size)]


def opening(schema: Any, version: int = VERSION, texts: Mapping[str, list[str]] | None = None) -> bytes:
    """What the first link is over, beside its rows: the form, names and types of the columns, and lists of texts."""
    # Readers name a list's items differently; there is one type of list.
    kinds = [[field.name, "list" if pa.types.is_list(field.type) else str(field.type)] for field in schema]
    described = [kinds] if version < 3 else [kinds, texts or {}]
    lines = [f"creditmodel scoring log {version}", *map(json.dumps, described)]
    return hashlib.sha256("\n".join(lines).encode()).digest()


def head_of(last: bytes, chain: str, sequence: int, previous: str, rows: int) -> str:
    """A part's head: over its last link, its place in the chain and the head before it."""
    return hashlib.sha256(last + f"{chain}\n{sequence}\n{previous}\n{rows}\n".encode()).hexdigest()


# A column's values, without what its encoding adds. `given` is None where nothing is missing.


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of any width, zero where missing."""

    given: NDArray[np.bool_] | None
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """The bytes of row i are content[offsets[i]:offsets[i + 1]]."""

    given: NDArray[np.bool_] | None
    offsets: NDArray[np.int32]
    content: bytes | memoryview

    def between(self, start: int, stop: int) -> bytes:
        """The bytes of some rows."""
        return bytes(self.content[self.offsets[start] : self.offsets[stop]])


@dataclass(frozen=True, slots=True)
class Coded:
    """Places in a list of texts; -1 where missing. Their type is `place_type`."""

    places: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Lists:
    """The texts of row i are items[offsets[i]:offsets[i + 1]]."""

    given: NDArray[np.bool_] | None
    offsets: NDArray[np.int32]
    items: Texts | Coded


Column = Numbers | Texts | Coded | Lists
_Piece = bytes | memoryview


def place_type(count: int) -> np.dtype[Any]:
    """Of places in a list of so many texts."""
    return np.min_scalar_type(-max(1, count))


class Blocks:
    """Rows in blocks of so many each, in one of the forms."""

    def __init__(self, columns: Sequence[Column], rows: Iterable[int], version: int = VERSION) -> None:
        self.bounds = list(pairwise(accumulate(rows, initial=0)))
        self._columns = columns if version == VERSION else [_widened(column) for column in columns]
        self._pieces = {1: _pieces_1, 2: _pieces_2, 3: _pieces_3}[version]

    def __len__(self) -> int:
        return len(self.bounds)

    def link(self, index: int, previous: bytes) -> bytes:
        """The link of a block over the one before it."""
        return hashlib.sha256(b"".join([previous, *self._pieces(self._columns, *self.bounds[index])])).digest()

    def links(self, previous: bytes) -> list[bytes]:
        """The link of each block, the first over `previous`."""
        return list(accumulate(range(len(self)), lambda last, index: self.link(index, last), initial=previous))[1:]


def _widened(column: Column) -> Column:
    """Eight bytes a number."""
    if isinstance(column, Numbers) and column.values.itemsize < 8:
        return Numbers(column.given, column.values.astype(np.int64))
    return column


def _pieces_1(columns: Sequence[Column], start: int, stop: int) -> Iterator[_Piece]:
    """Which values are given, and the numbers; then all texts."""
    for column in columns:
        given = _given(column)
        yield (np.ones(stop - start, np.int64) if given is None else given[start:stop].astype(np.int64)).data
        if isinstance(column, Numbers):
            yield column.values[start:stop].data
    for column in columns:
        if isinstance(column, Lists):
            yield _lengths(column.offsets, start, stop).astype(np.int64).data
            yield from _texts_1(column.items, int(column.offsets[start]), int(column.offsets[stop]))
        else:
            yield from _texts_1(column, start, stop)


def _texts_1(column: Column, start: int, stop: int) -> Iterator[_Piece]:
    """Lengths and bytes."""
    if isinstance(column, Texts):
        yield _lengths(column.offsets, start, stop).astype(np.int64).data
        yield column.between(start, stop)


def _pieces_2(columns: Sequence[Column], start: int, stop: int) -> Iterator[_Piece]:
    """Column by column: which values are given, and the values."""
    for column in columns:
        if isinstance(column, Coded):
            yield column.places[start:stop].data
            continue
        # One byte where nothing is missing, else one more a row.
        given = None if column.given is None or column.given[start:stop].all() else column.given[start:stop]
        yield b"\1" if given is None else b"\0"
        if given is not None:
            yield given.data
        if isinstance(column, Numbers):
            yield column.values[start:stop].data
        elif isinstance(column, Texts):
            yield from _texts_2(column, start, stop)
        else:
            yield _lengths(column.offsets, start, stop).data
            yield from _items_2(column.items, int(column.offsets[start]), int(column.offsets[stop]))


def _items_2(items: Texts | Coded, start: int, stop: int) -> Iterator[_Piece]:
    if isinstance(items, Coded):
        yield items.places[start:stop].data
    else:
        yield from _texts_2(items, start, stop)


def _texts_2(texts: Texts, start: int, stop: int) -> Iterator[_Piece]:
    """Lengths and bytes; those of one row where all rows have the same."""
    lengths, content = _lengths(texts.offsets, start, stop), texts.between(start, stop)
    alike = stop > start and bool((lengths == lengths[0]).all())
    if alike and content == content[: lengths[0]] * (stop - start):
        lengths, content = lengths[:1], content[: lengths[0]]
    yield len(lengths).to_bytes(4, "little")
    yield lengths.data
    yield content


def _pieces_3(columns: Sequence[Column], start: int, stop: int) -> Iterator[_Piece]:
    """How many rows, as blocks may be of any size; then as in form 2."""
    yield (stop - start).to_bytes(4, "little")
    yield from _pieces_2(columns, start, stop)


def _lengths(offsets: NDArray[np.int32], start: int, stop: int) -> NDArray[np.int32]:
    return np.diff(offsets[start : stop + 1])


def _given(column: Column) -> NDArray[np.bool_] | None:
    return column.places >= 0 if isinstance(column, Coded) else column.given
