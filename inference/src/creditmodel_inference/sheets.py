"""The JSON of many verdicts, to the byte as `Answers.verdict` writes it, made part by part while it is sent.

Until then a row is kept as what its JSON is made of: the digits of its numbers, and the places of its texts in tables,
about 90 bytes in place of 500. What it will take is known beforehand, so that the answer can announce its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from msgspec.json import encode
from numpy.typing import NDArray

from creditmodel_bundle.reasons import MAX_REASONS
from creditmodel_inference.answers import Answers
from creditmodel_inference.blocks import Outputs
from creditmodel_inference.columns import LARGEST, Columns, one_by_one

__all__ = ["Answer", "Sheet", "Sheets"]

Pieces = NDArray[np.object_]
Places = NDArray[np.int32]

_OPENING, _LOG_ODDS, _POINTS, _CLOSING = b'{"probability":', b',"log_odds":', b',"points":', b"]}"
_CONTRIBUTION_BYTES = len("1.234567}")


class Sheet(NamedTuple):
    """Results of some applicants, joined with commas: `json` makes them, `size` bytes, behind what it is given."""

    size: int
    json: Callable[[bytes], bytes]


class Answer(NamedTuple):
    """A response body, and what it takes in bytes."""

    size: int
    pieces: Iterator[bytes]


class Sheets:
    """Makes the JSON of blocks of rows of one model."""

    def __init__(self, answers: Answers, width: int) -> None:
        self._answers = answers
        self._width = width
        decisions = [text.encode() for text in answers.decisions]
        reasons = [text.encode() for text in answers.reasons]
        self._decisions, self._decision_sizes = _pieces(decisions), _sizes(decisions)
        prefixes = [b"%b%d." % (text, whole) for text in reasons for whole in range(10)]
        # A row's first reason has no comma before it. The last entry of a table stands for no reason at all.
        self._prefixes = _pieces([*prefixes, *(b"," + prefix for prefix in prefixes), b""])
        self._reason_sizes = _sizes([*reasons, b""])
        self._shift = np.array([0] + [len(prefixes)] * (MAX_REASONS - 1))
        self._thousands = _pieces([*(b"%03d" % number for number in range(1_000)), b""])
        self._units = _pieces([*(b"%03d}" % number for number in range(1_000)), b""])

    def answer(self, request_id: str, sheets: list[Sheet]) -> Answer:
        """The response body. `sheets` is emptied as it is made."""
        head = self._answers.head(request_id.encode())
        size = len(head) + sum(sheet.size for sheet in sheets) + len(sheets) - 1 + len(_CLOSING)
        return Answer(size, _in_pieces(head, sheets))

    def sheet(self, columns: Columns, outputs: Outputs) -> Sheet:
        """The results of all rows of the graph's outputs."""
        if outputs.contributions.max() > LARGEST:
            json = b",".join([verdict.json for verdict in one_by_one(self._answers, outputs)])
            return Sheet(len(json), lambda before: before + json)
        numbers = tuple(encode(column.tolist())[1:-1] for column in columns[:3])
        decision, reasons = columns.decision.astype(np.int32), columns.reasons.astype(np.int32)
        contributions = self._millionths(reasons, outputs)
        size = self._size(numbers, decision, reasons)
        return Sheet(size, partial(self._json, numbers, decision, reasons, contributions))

    def _millionths(self, reasons: Places, outputs: Outputs) -> NDArray[np.int32]:
        """The contributions of the reasons, in millionths; any number in place of a reason that is not given."""
        rows = np.arange(0, outputs.contributions.size, self._width)[:, None]
        contributions = outputs.contributions.ravel()[np.maximum(reasons, 0) + rows]
        return np.rint(np.maximum(contributions, 0.0).astype(np.float64) * 1e6).astype(np.int32)  # up to LARGEST

    def _size(self, numbers: tuple[bytes, ...], decision: Places, reasons: Places) -> int:
        count = len(decision)
        given = np.count_nonzero(reasons >= 0)
        commas = count - 1 + given - np.count_nonzero(reasons[:, 0] >= 0)
        names = count * len(_OPENING + _LOG_ODDS + _POINTS + _CLOSING)
        digits = sum(map(len, numbers)) - len(numbers) * (count - 1) + given * _CONTRIBUTION_BYTES
        texts = self._decision_sizes[decision].sum() + self._reason_sizes[reasons].sum()
        return int(commas + names + digits + texts)

    def _json(
        self,
        numbers: tuple[bytes, ...],
        decision: Places,
        reasons: Places,
        contributions: NDArray[np.int32],
        before: bytes,
    ) -> bytes:
        """Every row is the same sequence of pieces, most of them taken from tables: one join makes the whole."""
        pieces = np.empty((len(decision), 7 + 3 * MAX_REASONS), object)
        probability, log_odds, points = (text.split(b",") for text in numbers)
        pieces[:, 0] = _CLOSING + b"," + _OPENING
        pieces[0, 0] = before + _OPENING
        pieces[:, 1] = probability
        pieces[:, 2] = _LOG_ODDS
        pieces[:, 3] = log_odds
        pieces[:, 4] = _POINTS
        pieces[:, 5] = points
        pieces[:, 6] = self._decisions[decision]
        pieces[:, 7::3], pieces[:, 8::3], pieces[:, 9::3] = self._told(reasons, contributions)
        told = pieces.ravel().tolist()
        told.append(_CLOSING)
        return b"".join(told)

    def _told(self, reasons: Places, millionths: NDArray[np.int32]) -> tuple[Pieces, Pieces, Pieces]:
        """Three pieces a reason: up to the decimal point, and two times three decimals; empty where there is none."""
        given = reasons >= 0
        thousandths = millionths // 1_000
        whole = thousandths // 1_000
        return (
            self._prefixes[np.where(given, reasons * 10 + whole + self._shift, -1)],
            self._thousands[np.where(given, thousandths - whole * 1_000, -1)],
            self._units[np.where(given, millionths - thousandths * 1_000, -1)],
        )


def _in_pieces(head: bytes, sheets: list[Sheet]) -> Iterator[bytes]:
    while sheets:
        yield sheets.pop(0).json(head)
        head = b","
    yield _CLOSING


def _pieces(values: list[bytes]) -> Pieces:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _sizes(values: list[bytes]) -> NDArray[np.int64]:
    return np.array([len(value) for value in values])
