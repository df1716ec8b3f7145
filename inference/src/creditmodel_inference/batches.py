"""From the bytes of a large request to rows of numbers, while the bytes arrive.

The list of applicants is cut between two of them, and each piece is decoded as a list of its own and forgotten. Pieces
that are all valid make a valid whole. A cut at the wrong place, within a text say, makes an invalid piece. Then, as
for all that cannot be told from a piece alone, the reader gives up: what follows is kept, and `Intake.read` judges the
request as if the applicants before had never been in it. So no more is held than a piece, the rows, and what could not
be read. A body that `Intake` reads carefully is kept whole, for every violation in it is named.

What is wrong is told when the body has ended: a client that is still sending does not read.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract
from creditmodel_inference import decoding
from creditmodel_inference.decoding import (
    CANNOT_DECODE,
    MARKS,
    MARKS_WITH_ID,
    first_violation,
    has_more_marks,
    types_of,
)
from creditmodel_inference.errors import Problem
from creditmodel_inference.intake import NOTHING, Intake, Preceding, check_request_id, repeated_key, rows_reader
from creditmodel_inference.native import Scanner, scanner
from creditmodel_inference.steps import Steps

__all__ = ["BatchReader", "Batches"]

Rows = NDArray[np.float64]


class Batches:
    """Reads the bodies of /v1/score that have many applicants, for one contract."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._decoder = _Decoder(intake.contract, scanner(intake.contract, intake.max_rows))

    def reader(self) -> BatchReader:
        """A reader for one body."""
        return BatchReader(self._intake, self._decoder)


class BatchReader:
    """Reads one body: `add` its parts as they come, then `finish`."""

    def __init__(self, intake: Intake, decoder: _Decoder) -> None:
        self.size = 0
        """Bytes of the body so far."""
        self._intake = intake
        self._decoder = decoder
        self._head = b""  # up to the list's bracket, as soon as applicants are read
        self._held: list[bytes] = []  # what follows, or everything
        self._held_bytes = 0
        self._wanted = decoding.PIECE_BYTES
        self._rows: list[Rows] = []
        self._read = NOTHING
        self._repeats_key = False
        self._gave_up = False
        self._problem: Problem | None = None

    def add(self, part: bytes) -> Steps[None]:
        """Read on. Pauses between pieces, so that whoever asks can turn to others."""
        self.size += len(part)
        if self._problem is not None:
            return
        self._held.append(part)
        self._held_bytes += len(part)
        if self._gave_up or self._held_bytes < self._wanted or self._intake.is_careful(self.size):
            return
        text, begin = self._release(), 0
        if not self._head:
            begin = text.find(b"[") + 1
            if self._decoder.request(text[:begin] + b"]}") is None:
                self._give_up(text)
                return
            self._head = text[:begin]
        comma = _last_comma(text)
        self._hold(text[max(begin, comma + 1) :])
        # What has no end must not be put together again with every part.
        self._wanted = self._held_bytes + max(self._held_bytes, decoding.PIECE_BYTES)
        if comma > begin:
            yield from self._take(text, begin, comma)

    def finish(self) -> Steps[tuple[list[Rows], str | None]]:
        """Rows [n, F], in several arrays, and the request id of the whole body. Raises what `Intake.read` raises."""
        request_id = None
        if self._problem is None and not self._gave_up:
            request_id = yield from self._take_last(self._release())
        if self._problem is not None:
            raise self._problem
        if self._gave_up:
            request = self._intake.read(self._head + self._release(), self._read)
            self._rows.append(np.array(request.rows, np.float64))
            request_id = request.request_id
        if self._repeats_key:
            raise repeated_key()
        return self._rows, None if request_id is None else check_request_id(request_id)

    def _take_last(self, text: bytes) -> Steps[str | None]:
        """Read what is left, to the end of the list, and the request id."""
        begin, end = 0 if self._head else text.find(b"[") + 1, text.rfind(b"]")
        head = self._head or text[:begin]
        request = self._decoder.request(head + text[end:]) if end >= begin else None
        if request is None or self._intake.is_careful(self.size):
            self._give_up(text)
            return None
        self._head, (request_id, repeats_key) = head, request
        self._repeats_key |= repeats_key
        yield from self._take(text, begin, end)
        return request_id

    def _take(self, text: bytes, start: int, end: int) -> Steps[None]:
        """Read the applicants in text[start:end], or give up before the first piece that cannot be read."""
        for piece in decoding.pieces(text, start, end, b"}"):
            try:
                rows, repeats_key = self._decoder.rows(piece)
            except msgspec.ValidationError as e:
                # What precedes was valid, so that the piece begins with an applicant: the fault is where it seems.
                self._refuse(first_violation(e, self._decoder.features, self._read.rows))
                return
            except CANNOT_DECODE:
                self._give_up(text[start:])
                return
            start += len(piece) + 1
            self._rows.append(rows)
            self._read = Preceding(self._read.rows + len(rows), self._read.size + len(piece) + 1)
            self._repeats_key |= repeats_key
            if self._read.rows > self._intake.max_rows:
                self._refuse(self._intake.too_many())
                return
            yield 0.0

    def _hold(self, text: bytes) -> None:
        self._held, self._held_bytes = [text], len(text)

    def _release(self) -> bytes:
        """What is held. Nothing is, then: it is not to be there twice."""
        text = b"".join(self._held)
        self._hold(b"")
        return text

    def _give_up(self, rest: bytes) -> None:
        self._gave_up = True
        self._hold(rest)

    def _refuse(self, problem: Problem) -> None:
        self._problem = problem
        self._rows.clear()
        self._hold(b"")


class _Decoder:
    """Decodes pieces of a request, by column."""

    def __init__(self, contract: Contract, scanner: Scanner | None) -> None:
        applicant, envelope = types_of(contract)
        self.features = {feature.name: feature for feature in contract.features}
        self._scanner = scanner
        self._decode = msgspec.json.Decoder(list[applicant]).decode  # type: ignore[valid-type]
        self._envelope = msgspec.json.Decoder(envelope).decode
        self._read_rows = rows_reader(contract)

    def request(self, text: bytes) -> tuple[str | None, bool] | None:
        """The id of a request without applicants, and whether a key stands in it twice. None if it is no such."""
        try:
            envelope: Any = self._envelope(text)
        except CANNOT_DECODE:
            return None
        given = envelope.request_id is not UNSET
        repeats_key = has_more_marks(text, MARKS_WITH_ID if given else MARKS)
        return None if envelope.applicants else (envelope.request_id if given else None, repeats_key)

    def rows(self, piece: bytes) -> tuple[Rows, bool]:
        """Rows [n, F] of the applicants in a piece, and whether one of them has a key twice. Raises CANNOT_DECODE."""
        scanned = None if self._scanner is None else self._scanner.rows(piece)
        return self._decoded(piece) if scanned is None else (scanned, False)

    def _decoded(self, piece: bytes) -> tuple[Rows, bool]:
        """As `rows`, of any piece."""
        applicants = self._decode(b"[%b]" % piece)
        if not applicants:
            raise msgspec.DecodeError("there is no applicant between two commas")
        rows, marks = self._read_rows(applicants)
        return np.array(rows, np.float64), has_more_marks(piece, marks)


def _last_comma(text: bytes) -> int:
    """The last comma between two objects, or -1. Two brackets may stand behind it: an applicant's and the request's."""
    close = len(text)
    for _ in range(3):
        close = text.rfind(b"}", 0, close)
        comma = text.find(b",", close) if close > 0 else -1
        if comma > 0 and not text[close + 1 : comma].strip():
            return comma
    return -1
