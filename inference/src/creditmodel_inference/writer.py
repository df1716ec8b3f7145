"""The verdicts of large requests in C, native/results.c: top reasons, and the results as JSON."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.reasons import DECIMALS, MAX_REASONS
from creditmodel_inference.answers import Answers
from creditmodel_inference.native import LIBRARY

__all__ = ["Digits", "Places", "Rows", "Writer", "writer"]

Places = NDArray[np.int32]


class Digits(NamedTuple):
    """Numbers of all rows, as JSON with commas between them."""

    probability: bytes
    log_odds: bytes
    points: bytes


class Rows(NamedTuple):
    """What the results of n rows are made of: places of texts, `decisions` [n] and `reasons` [n, MAX_REASONS].

    `millionths` are the contributions of the reasons, any number where there is no reason.
    """

    digits: Digits
    decisions: Places
    reasons: Places
    millionths: Places


class _Texts(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_char_p), ("ends", ctypes.POINTER(ctypes.c_int64)), ("count", ctypes.c_int64))


class _Results(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("numbers", ctypes.c_char_p * len(Digits._fields)),
        ("decisions", ctypes.c_void_p),
        ("reasons", ctypes.c_void_p),
        ("millionths", ctypes.c_void_p),
        ("decision_texts", _Texts),
        ("reason_texts", _Texts),
    )


class Writer:
    """Judges and writes many rows of one model, which has these texts for its decisions and reasons."""

    def __init__(self, library: str, decisions: Sequence[str], reasons: Sequence[str]) -> None:
        functions = ctypes.PyDLL(library)  # keeps the interpreter's lock: a call takes less time than getting it back
        self._measure, self._write = functions.creditmodel_measure_results, functions.creditmodel_write_results
        self._top = functions.creditmodel_top_reasons
        self._measure.argtypes = (ctypes.POINTER(_Results), ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
        self._measure.restype = ctypes.c_int64
        self._write.argtypes = (ctypes.POINTER(_Results), ctypes.c_void_p, ctypes.c_int64)
        self._write.restype = ctypes.c_void_p
        self._top.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p)
        self._top.restype = None
        self._decisions, self._reasons = _texts(decisions), _texts(reasons)

    def top_reasons(self, contributions: NDArray[np.float32]) -> Places:
        """What the bundle's `top_reasons` says of rows [n, F]: places [n, MAX_REASONS], -1 where there are fewer."""
        places = np.empty((len(contributions), MAX_REASONS), np.int32)
        self._top(_begin(contributions, np.float32), *contributions.shape, 10**DECIMALS, places.ctypes.data)
        return places

    def rows(
        self, digits: Digits, decisions: Places, reasons: Places, contributions: NDArray[np.float32]
    ) -> tuple[Rows, int]:
        """What n results are made of, contributions [n, F] up to 9.999 among it, and how many bytes they will take."""
        rows = Rows(digits, decisions, reasons, np.empty(reasons.shape, np.int32))
        begin = _begin(contributions, np.float32)
        size = self._measure(self._results(rows), begin, contributions.shape[1], rows.millionths.ctypes.data)
        if size < 0:
            raise ValueError("a decision or a reason that the model does not have")
        return rows, size

    def write(self, rows: Rows, out: bytearray, start: int) -> None:
        """Fill out[start:] with their results."""
        results = self._results(rows)
        room = (ctypes.c_char * (len(out) - start)).from_buffer(out, start)
        if self._write(results, room, len(room)) != ctypes.addressof(room) + len(room):
            raise RuntimeError("the results of a large request take another size than was foreseen")

    def _results(self, rows: Rows) -> _Results:
        arrays = [_begin(array, np.int32) for array in rows[1:]]
        digits = (ctypes.c_char_p * len(rows.digits))(*rows.digits)
        return _Results(len(rows.decisions), digits, *arrays, self._decisions, self._reasons)


def writer(answers: Answers) -> Writer | None:
    """A writer for a model's answers; None where the library was not built."""
    return None if LIBRARY is None else Writer(LIBRARY, answers.decisions, answers.reasons)


def _texts(texts: Sequence[str]) -> _Texts:
    encoded = [text.encode() for text in texts]
    ends = (ctypes.c_int64 * len(texts))(*accumulate(map(len, encoded)))
    return _Texts(b"".join(encoded), ends, len(texts))


def _begin(array: NDArray[Any], kind: type) -> int:
    """Its address. C reads what it is told to: a view with gaps, or other numbers, would be read wrong."""
    if array.dtype != kind or not array.flags.c_contiguous:
        raise TypeError(f"not a contiguous array of {kind.__name__}")
    return array.ctypes.data
