"""Results of all kinds and sizes for the writer in C: `python results_fuzz.py LIBRARY COUNT`.

What fits is what Python makes of it, and what does not fit is an error: under
AddressSanitizer one byte too far ends the process.
"""

from __future__ import annotations

import json
import random
import sys

import numpy as np

from creditmodel_bundle.reasons import MAX_REASONS
from creditmodel_inference.writer import Digits, Rows, Writer

DECISIONS = ["", ',"decision":"é"', ',"decision":"decline"' * 20]
REASONS = ["{", '{"code":"R1","contribution":', '{"text":"' + "x" * 500]


def expected(rows: Rows) -> bytes:
    made = []
    numbers = zip(*(text.decode().split(",") for text in rows.digits), strict=True)
    for (probability, log_odds, points), decision, reasons, millionths in zip(numbers, *rows[1:], strict=True):
        told = [
            f"{REASONS[place]}{value // 10**6}.{value % 10**6:06d}}}"
            for place, value in zip(reasons.tolist(), millionths.tolist(), strict=True)
            if place >= 0
        ]
        head = f'{{"probability":{probability},"log_odds":{log_odds},"points":{points}{DECISIONS[decision]}'
        made.append(head + ",".join(told) + "]}")
    return ",".join(made).encode()


def drawn(draw: random.Random, writer: Writer) -> tuple[Rows, int]:
    count = draw.randint(1, 40)
    numbers = [json.dumps([draw.random() for _ in range(count)], separators=(",", ":"))[1:-1] for _ in range(3)]
    reasons = np.full((count, MAX_REASONS), -1, np.int32)
    for row in reasons:
        given = draw.randint(0, MAX_REASONS)
        row[:given] = [draw.randrange(len(REASONS)) for _ in range(given)]
    contributions = np.array([draw.uniform(0, 9.99) for _ in range(count * len(REASONS))], np.float32)
    decisions = np.array([draw.randrange(len(DECISIONS)) for _ in range(count)], np.int32)
    digits = Digits(*(text.encode() for text in numbers))
    rows, size = writer.rows(digits, decisions, reasons, contributions.reshape(count, -1))
    for row, place in np.argwhere(reasons >= 0):
        told = f"{contributions.reshape(count, -1)[row, reasons[row, place]]:.6f}"
        assert int(told.replace(".", "")) == rows.millionths[row, place], "a contribution differs"
    return rows, size


def main(library: str, count: int) -> None:
    writer, draw = Writer(library, DECISIONS, REASONS), random.Random(11)  # noqa: S311 - the same in every run
    for _ in range(count):
        rows, size = drawn(draw, writer)
        right = expected(rows)
        assert size == len(right), "the size differs"
        start, room = draw.randint(0, 3), len(right) + draw.choice([0, 0, 0, -1, 1, -len(right) // 2])
        out = bytearray(start + room)
        try:
            writer.write(rows, out, start)
        except RuntimeError:
            assert room != len(right), "what fits was refused"
        else:
            assert out[start:] == right, "the results differ"
        contributions = np.array([draw.gauss(0, 1) for _ in range(60)], np.float32).reshape(-1, draw.choice([1, 3, 5]))
        writer.top_reasons(contributions)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
