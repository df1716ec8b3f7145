"""Mutated pieces for the scanner in C, between pages that nobody may touch: `python scan_fuzz.py LIBRARY COUNT`.

Text and rows end where a forbidden page begins, or begin where one ends, so that one byte too far kills the process.
What is accepted must be JSON without a repeated key, and the rows those of `Encoder`. Prints how many were.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from creditmodel_bundle.contract import Category, Contract, Feature, Reason
from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.native import Scanner

PAGES = 8
NO_ACCESS = 0
TEXTS = ("own", "é", 'in "quotes" \\', "a long category, number one", "a long category, number two", "}, {", "")
TOKENS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b".", b"e", b"E-", b"-", b"+", b"0", b"00", b"7"),
    *(b"null", b"nul", b"true", b"NaN", b"\x00", b"\x01", b"\xff", "é".encode(), b"\xc3", b"\\u00e9", b"\\ud800"),
    *(b"1e400", b"1e23", b"1e-28", b"1e-99", b"1e-100", b"5e-324", b"-0", b"-0.0", b"9007199254740993"),
    *(b"0.1234567890123456", b"12345678901234567890"),
    *(b'"age"', b'"age": 30', b'"home":"own"', b"{}", b'"a":1', b'"\\u0061ge": 30'),
)


def contract() -> Contract:
    """Features of every kind. No more of a contract than reading needs."""

    def feature(name: str, dtype: str, **more: Any) -> Feature:
        return Feature(name=name, dtype=dtype, reason=Reason(code="R", text=name), **more)

    def categories(*values: str | int) -> list[Category]:
        return [Category(value=value, code=7 * code) for code, value in enumerate(values)]

    features = [
        feature("limit", "number", minimum=0, maximum=1_000_000),
        feature("age", "integer", minimum=18, maximum=120),
        feature("income", "number", missing="allowed"),
        feature("income.other", "number"),
        feature("grade", "category", categories=categories(3, 1, 20, -1)),
        feature("home", "category", categories=categories(*TEXTS), missing="allowed"),
        feature("bill", "integer", missing="allowed"),
    ]
    fields: dict[str, Any] = {"features": features}
    return Contract.model_construct(**fields)


def applicant(draw: random.Random) -> bytes:
    """One that the contract accepts, in a usual spelling, perhaps in an unusual order or with gaps."""
    values: dict[str, Any] = {
        "limit": draw.choice([0, 50_000, 12.5, draw.uniform(0, 1e6)]),
        "age": draw.randint(18, 120),
        "income": draw.choice([None, draw.random(), draw.gauss(0, 1e9), 1e-7]),
        "income.other": draw.choice([-0.0, 1e22, draw.gauss(0, 1e-3), draw.randint(-(2**53), 2**53)]),
        "grade": draw.choice([3, 1, 20, -1]),
        "home": draw.choice([None, *TEXTS]),
        "bill": draw.choice([None, draw.randint(-(10**6), 10**6)]),
    }
    names = list(values) if draw.random() < 0.7 else draw.sample(list(values), len(values))
    kept = [name for name in names if values[name] is not None or draw.random() < 0.5]
    given = {name: values[name] for name in kept}
    return json.dumps(given, ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, None, 1])).encode()


def mutated(piece: bytes, draw: random.Random) -> bytes:
    """The piece with a few bytes cut out, put in, or replaced; or what is left of it where it breaks off."""
    for _ in range(draw.choice([0, 1, 1, 2, 4])):
        at, length = draw.randrange(len(piece) + 1), draw.choice([0, 1, 1, 3, 20])
        kind = draw.randrange(5)
        if kind == 0:
            piece = piece[:at]
        elif kind == 1:
            piece = piece[:at] + piece[at + length :]
        elif kind == 2:
            piece = piece[:at] + bytes([draw.randrange(256)]) + piece[at + 1 :]
        elif kind == 3:
            start = draw.randrange(len(piece) + 1)
            piece = piece[:at] + piece[start : start + 30] + piece[at:]
        else:
            piece = piece[:at] + draw.choice(TOKENS) + piece[at + length :]
    return piece


class Fenced:
    """Memory with a forbidden page on either side. `at` gives the address of so many bytes at one of its ends."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, (PAGES + 2) * mmap.PAGESIZE)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._first, self._last = begin + mmap.PAGESIZE, begin + (PAGES + 1) * mmap.PAGESIZE
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for page in (begin, self._last):
            if protect(page, mmap.PAGESIZE, NO_ACCESS):
                raise OSError(ctypes.get_errno(), "mprotect")

    def at(self, size: int, *, low: bool) -> int:
        if size > self._last - self._first:
            raise ValueError(f"{size} bytes do not fit")
        return self._first if low else self._last - size


def fenced_scan(library: str, for_contract: Contract) -> Callable[[bytes, bool], bytes | None]:
    """A function from a piece, at the low or the high end of its memory, to the bytes of its rows, or None."""
    scanner, width = Scanner(library, for_contract, 100), len(for_contract.features)
    texts, rows = Fenced(), Fenced()

    def scan(piece: bytes, low: bool) -> bytes | None:
        capacity = max(1, piece.count(b"{") - low)
        text, room = texts.at(len(piece), low=low), rows.at(capacity * width * 8, low=low)
        ctypes.memmove(text, piece, len(piece))
        count = scanner._scan(scanner._contract, ctypes.c_char_p(text), len(piece), room, capacity)
        if count > capacity:
            raise AssertionError(f"{count} rows where {capacity} fit: {piece!r}")
        return None if count < 0 else ctypes.string_at(room, count * width * 8)

    return scan


def expected(piece: bytes, encoder: Encoder) -> bytes:
    """The bytes of the rows that the careful way gives. Raises for whatever is wrong with the piece."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a repeated key")
        return found

    rows = json.loads(b"[%b]" % piece, object_pairs_hook=once)
    return np.array([encoder.encode(row) for row in rows], np.float64).tobytes()


def main(library: str, count: int) -> None:
    """Print how many of `count` mutated pieces were accepted. An exception where one should not have been."""
    draw, made = random.Random(1), contract()  # noqa: S311 - not for secrets
    scan, encoder, accepted = fenced_scan(library, made), Encoder(made), 0
    for number in range(count):
        piece = mutated(b",".join(applicant(draw) for _ in range(draw.randint(1, 3))), draw)
        found = scan(piece, number % 2 == 0)
        if found is not None:
            accepted += 1
            if found != expected(piece, encoder):
                raise AssertionError(f"other rows than the encoder's: {piece!r}")
    print(accepted)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
