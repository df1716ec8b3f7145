"""Whether a scoring log is what the server wrote: no row edited, added, deleted or moved, and no part missing.

The chain has no key. It shows what was changed by someone who did not compute it anew; against one who does, an
anchor kept elsewhere is needed: the place and head that the server logs when it stops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from creditmodel_bundle.errors import BundleUnreachable
from creditmodel_bundle.storage import filesystem
from creditmodel_inference.arrays import columns_of
from creditmodel_inference.chain import FIRST, Blocks, PartSeal, blocks_of, head_of, opening, read_seal

__all__ = ["Anchor", "Fault", "check_chains", "check_part", "parts_of", "read_part"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and in which part."""

    part: str
    message: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was written down elsewhere."""

    chain: str
    sequence: int
    head: str


def parts_of(uri: str, since: str | None = None) -> list[str]:
    """Paths of a log's parts, in order; from the date `since` on. Raises BundleInvalid or BundleUnreachable."""
    target, path = filesystem(uri)
    try:
        found = sorted(name for name in target.find(path) if name.endswith(".parquet"))
    except OSError as e:
        raise BundleUnreachable(f"{uri} cannot be listed: {e.strerror or e}") from e
    if not found:
        raise BundleUnreachable(f"{uri} has no parts (*.parquet)")
    return [name for name in found if since is None or _date(name) >= since]


def _date(path: str) -> str:
    return next((piece[5:] for piece in path.split("/") if piece.startswith("date=")), "")


def read_part(uri: str, path: str) -> tuple[Any, PartSeal | None]:
    """A part's rows and its seal. Raises OSError or pyarrow.ArrowException."""
    target, _ = filesystem(uri)
    with target.open(path, "rb") as file:
        parquet = pq.ParquetFile(pa.BufferReader(file.read()))
        return parquet.read(), read_seal(parquet.metadata.metadata)


def check_part(path: str, table: Any, seal: PartSeal | None) -> list[Fault]:
    """What is wrong with one part by itself."""
    if seal is None:
        return [Fault(path, "has no seal")]
    return [Fault(path, message) for message in _faults(table, seal)]


def _faults(table: Any, seal: PartSeal) -> Iterator[str]:
    if len(table) != seal.rows:
        yield f"has {len(table)} rows, and was sealed with {seal.rows}"
    links = [opening(table.schema, seal.version, seal.texts), *map(bytes.fromhex, seal.links)]
    if head_of(links[-1], seal.chain, seal.sequence, seal.previous, seal.rows) != seal.head:
        yield "its seal was altered: the head does not follow from it"
    try:
        blocks = Blocks(columns_of(table, seal.texts), _sizes(seal, len(table)), seal.version)
        # Each block is held against the link before it as sealed, so that one edit is not reported of all that follows.
        expected = zip(pairwise(links), range(len(blocks)), strict=False)
        wrong = [index for (previous, link), index in expected if blocks.link(index, previous) != link]
    except (pa.ArrowException, TypeError, ValueError, AttributeError):
        yield "has columns of other types than were sealed"
        return
    for first, last in _runs(wrong):
        yield f"rows {blocks.bounds[first][0]} to {blocks.bounds[last][1] - 1} are not what was sealed"


def _sizes(seal: PartSeal, rows: int) -> list[int]:
    """Rows of each block, of which the last may have fewer than were sealed."""
    if seal.version < 3:
        return blocks_of(rows, seal.version)
    starts = accumulate(seal.blocks, initial=0)
    return [min(size, rows - start) for size, start in zip(seal.blocks, starts, strict=False) if start < rows]


def _runs(indices: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of neighbours."""
    start = 0
    for position in range(1, len(indices) + 1):
        if position == len(indices) or indices[position] != indices[position - 1] + 1:
            yield indices[start], indices[position - 1]
            start = position


def check_chains(seals: Iterable[tuple[str, PartSeal]], *, whole: bool, anchors: Iterable[Anchor] = ()) -> list[Fault]:
    """What is wrong between parts. `whole`: each chain must have its beginning."""
    chains: dict[str, list[tuple[str, PartSeal]]] = defaultdict(list)
    for path, seal in seals:
        chains[seal.chain].append((path, seal))
    faults: list[Fault] = []
    for parts in chains.values():
        parts.sort(key=lambda part: part[1].sequence)
        faults += _chain_faults(parts, whole=whole)
    return faults + [fault for anchor in anchors for fault in _anchor_faults(anchor, chains.get(anchor.chain, []))]


def _chain_faults(parts: list[tuple[str, PartSeal]], *, whole: bool) -> Iterator[Fault]:
    path, first = parts[0]
    if first.sequence > 1 and whole:
        yield Fault(path, f"parts 1 to {first.sequence - 1} of chain {first.chain} are missing before it")
    if first.sequence == 1 and first.previous != FIRST:
        yield Fault(path, "is the first of its chain, and names another before it")
    for (_, before), (path, seal) in pairwise(parts):
        if seal.sequence == before.sequence:
            yield Fault(path, f"part {seal.sequence} of chain {seal.chain} stands twice")
        elif seal.sequence > before.sequence + 1:
            yield Fault(
                path, f"parts {before.sequence + 1} to {seal.sequence - 1} of chain {seal.chain} are missing before it"
            )
        elif seal.previous != before.head:
            yield Fault(path, "does not follow from the part before it")


def _anchor_faults(anchor: Anchor, parts: list[tuple[str, PartSeal]]) -> Iterator[Fault]:
    heads = [seal.head for _, seal in parts if seal.sequence == anchor.sequence]
    if not heads:
        yield Fault(f"chain {anchor.chain}", f"part {anchor.sequence} is missing, which the anchor names")
    elif heads != [anchor.head]:
        yield Fault(f"chain {anchor.chain}", f"part {anchor.sequence} has another head than the anchor")
