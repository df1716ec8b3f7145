"""Rows on their way to the scoring log, by column.

Pages of them wait while the writer gets nothing of the processor, so that they are kept small: a row takes what its
numbers and its request id take, half of what it would with Python objects. Each page is a mapping of its own, which
goes back to the system as soon as nobody needs it; on the heap, whatever is allocated above would keep it there.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.reasons import MAX_REASONS
from creditmodel_inference.columns import Columns

__all__ = ["FACTS", "PAGE_ROWS", "Page", "Record", "Rows", "Span"]

PAGE_ROWS = 1024

_FACT = struct.Struct(f"=qIiqddqh{MAX_REASONS}h")
FACTS = np.dtype(
    [
        ("time", "i8"),
        ("id_bytes", "u4"),
        ("row", "i4"),
        ("latency_us", "i8"),
        ("probability", "f8"),
        ("log_odds", "f8"),
        ("points", "i8"),
        ("decision", "i2"),
        ("reasons", "i2", (MAX_REASONS,)),
    ]
)
"""The fields of `_FACT`."""

_NO_REASONS = [(-1,) * (MAX_REASONS - count) for count in range(MAX_REASONS + 1)]


class Record(msgspec.Struct, frozen=True, gc=False):
    """What the log says of one row, beside its features. Where `error` says why it was not scored, decision is -1."""

    request_id: str
    row: int
    latency_us: int
    probability: float = math.nan
    log_odds: float = math.nan
    points: int = 0
    decision: int = -1
    reasons: tuple[int, ...] = ()
    error: str | None = None


class Span(NamedTuple):
    """The same of consecutive rows of one request."""

    request_id: str
    first: int
    latency_us: int
    verdicts: Columns

    def take(self, rows: slice) -> Span:
        """Some of these rows."""
        request_id, first, latency_us, verdicts = self
        return Span(request_id, first + rows.start, latency_us, verdicts.take(rows))


class Rows(NamedTuple):
    """Some rows of a page. `features` [n, F] holds encoded values: a category's code, NaN where missing.

    `facts` has a field for each number of a `Record`, and the time in microseconds. `ids` are the request ids one after
    the other, `id_bytes` of each. `errors` has an entry for each row that was not scored.
    """

    features: NDArray[np.float64]
    facts: NDArray[Any]
    ids: bytes | bytearray
    errors: dict[int, bytes]

    def take(self, places: NDArray[np.intp]) -> Rows:
        """Some of these rows."""
        ends = np.cumsum(self.facts["id_bytes"])[places].tolist()
        lengths = self.facts["id_bytes"][places].tolist()
        return Rows(
            self.features[places],
            self.facts[places],
            b"".join([self.ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]),
            {i: self.errors[place] for i, place in enumerate(places.tolist()) if place in self.errors},
        )


class Page:
    """Up to PAGE_ROWS rows. One thread fills it and hands it over; another reads it, and may clear it for the next."""

    def __init__(self, width: int) -> None:
        facts = PAGE_ROWS * _FACT.size
        memory = mmap.mmap(-1, facts + PAGE_ROWS * 8 * width, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._packed = memory
        self._facts = np.frombuffer(memory, FACTS, PAGE_ROWS)
        self._features = np.frombuffer(memory, np.float64, offset=facts).reshape(PAGE_ROWS, width)
        self.clear()

    def clear(self) -> None:
        """Take all rows out. The memory stays: handed out anew, a page takes fifty times longer to fill."""
        self._ids = bytearray()
        self._errors: dict[int, bytes] = {}
        self.used = 0

    @property
    def room(self) -> int:
        """Rows that still fit."""
        return PAGE_ROWS - self.used

    @property
    def rows(self) -> Rows:
        """What was added."""
        return Rows(self._features[: self.used], self._facts[: self.used], self._ids, self._errors)

    def add(self, features: NDArray[np.float64], told: Sequence[Record] | Span, now: int) -> None:
        """Copy rows for which there is room, features [n, F], as of `now` in microseconds."""
        start, self.used = self.used, self.used + len(features)
        self._features[start : self.used] = features
        if isinstance(told, Span):
            self._note_span(told, self._facts[start : self.used], now)
        else:
            self._note(told, start, now)

    def _note(self, records: Sequence[Record], start: int, now: int) -> None:
        packed, ids, pack, size = self._packed, self._ids, _FACT.pack_into, _FACT.size
        at = start * size
        for record in records:
            request_id, reasons = record.request_id.encode(), record.reasons
            if len(reasons) < MAX_REASONS:
                reasons += _NO_REASONS[len(reasons)]
            pack(
                packed, at, now, len(request_id), record.row, record.latency_us,
                record.probability, record.log_odds, record.points, record.decision, *reasons,
            )  # fmt: skip
            ids += request_id
            at += size
            if record.error is not None:
                self._errors[at // size - 1] = record.error.encode()

    def _note_span(self, span: Span, facts: NDArray[Any], now: int) -> None:
        request_id, verdicts = span.request_id.encode(), span.verdicts
        facts["time"], facts["latency_us"], facts["id_bytes"] = now, span.latency_us, len(request_id)
        facts["row"] = np.arange(span.first, span.first + len(facts))
        for name in Columns._fields:
            facts[name] = getattr(verdicts, name)
        self._ids += request_id * len(facts)
