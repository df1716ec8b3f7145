"""The JSON of many verdicts, to the byte as `Answers.verdict` writes it, made part by part while it is sent.

Until then a row is kept as what its JSON is made of: the digits of its numbers, and the places of its texts in tables,
about 90 bytes in place of 500. What it will take is known beforehand, so that the answer can announce its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from msgspec.json import encode

from creditmodel_inference.answers import Answers
from creditmodel_inference.blocks import Outputs
from creditmodel_inference.columns import LARGEST, Columns, one_by_one
from creditmodel_inference.writer import Digits, Rows, Writer

__all__ = ["Answer", "Piece", "Sheet", "Sheets"]

Piece = bytes | bytearray
"""A part of a body, which nobody changes any more."""

_CLOSING = b"]}"


class Sheet(NamedTuple):
    """Results of some applicants, joined with commas: `json` makes them, `size` bytes, behind what it is given."""

    size: int
    json: Callable[[bytes], Piece]


class Answer(NamedTuple):
    """A response body, and what it takes in bytes."""

    size: int
    pieces: Iterator[Piece]


class Sheets:
    """Makes the JSON of blocks of rows of one model."""

    def __init__(self, answers: Answers, writer: Writer | None) -> None:
        self._answers = answers
        self._writer = writer

    def answer(self, request_id: str, sheets: list[Sheet]) -> Answer:
        """The response body. `sheets` is emptied as it is made."""
        head = self._answers.head(request_id.encode())
        size = len(head) + sum(sheet.size for sheet in sheets) + len(sheets) - 1 + len(_CLOSING)
        return Answer(size, _in_pieces(head, sheets))

    def sheet(self, columns: Columns, outputs: Outputs) -> Sheet:
        """The results of all rows of the graph's outputs."""
        if self._writer is None or outputs.contributions.max() > LARGEST:
            json = b",".join([verdict.json for verdict in one_by_one(self._answers, outputs)])
            return Sheet(len(json), lambda before: before + json)
        digits = Digits(*(encode(column.tolist())[1:-1] for column in columns[:3]))
        rows, size = self._writer.rows(digits, columns.decision, columns.reasons, outputs.contributions)
        return Sheet(size, partial(_written, self._writer, rows, size))


def _written(writer: Writer, rows: Rows, size: int, before: bytes) -> bytearray:
    json = bytearray(len(before) + size)
    json[: len(before)] = before
    writer.write(rows, json, len(before))
    return json


def _in_pieces(head: bytes, sheets: list[Sheet]) -> Iterator[Piece]:
    while sheets:
        yield sheets.pop(0).json(head)
        head = b","
    yield _CLOSING
