"""Reading applicants in C, where they are plainly right: native/scan.c, and its tables from a contract.

Optional: `pip` builds the library where it finds a C compiler. What it declines, or all without it, is read in Python.
"""

from __future__ import annotations

import ctypes
import json
import logging
from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract, Feature
from creditmodel_inference.decoding import codes_of, range_of

__all__ = ["LIBRARY", "Scanner", "scanner"]

logger = logging.getLogger("creditmodel.serve")


def _library() -> str | None:
    spec = find_spec("creditmodel_inference._native")
    return None if spec is None else spec.origin


LIBRARY = _library()
"""The library's path; None where it was not built."""


_FAR_POWERS = range(28, 100)
"""Where 5**power is beyond 64 bits: a divisor of ten to that power has mostly what is left of a difference, 5.6e-17."""


class _Spelling(ctypes.Structure):
    _fields_ = (
        ("head", ctypes.c_uint64),
        ("size", ctypes.c_size_t),
        ("text", ctypes.c_char_p),
        ("value", ctypes.c_double),
    )


class _Spellings(ctypes.Structure):
    _fields_ = (("all", ctypes.POINTER(_Spelling)), ("count", ctypes.c_size_t))


class _Feature(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_size", ctypes.c_size_t),
        ("categories", _Spellings),
        ("low", ctypes.c_double),
        ("high", ctypes.c_double),
        ("integer", ctypes.c_bool),
        ("may_miss", ctypes.c_bool),
    )


class _Reciprocal(ctypes.Structure):
    _fields_ = (("high", ctypes.c_uint64), ("low", ctypes.c_uint64), ("exponent", ctypes.c_int64))


class _Contract(ctypes.Structure):
    _fields_ = (
        ("features", ctypes.POINTER(_Feature)),
        ("width", ctypes.c_size_t),
        ("names", _Spellings),
        ("reciprocals", ctypes.POINTER(_Reciprocal)),
        ("reciprocal_count", ctypes.c_int64),
    )


class Scanner:
    """Reads pieces of a request for one contract."""

    def __init__(self, library: str, contract: Contract, max_rows: int) -> None:
        # PyDLL keeps the interpreter's lock: a piece takes less time than getting the lock back.
        self._scan = ctypes.PyDLL(library).creditmodel_scan
        self._scan.argtypes = (
            ctypes.POINTER(_Contract),
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_size_t,
        )
        self._scan.restype = ctypes.c_ssize_t
        self._contract = _contract(contract)
        self._width, self._max_rows = len(contract.features), max_rows
        self._least = _least_size(contract)

    def rows(self, piece: bytes) -> NDArray[np.float64] | None:
        """Rows [n, F] of the applicants in a piece; None if not all are plainly right, or there are over `max_rows`."""
        capacity = min((len(piece) + 1) // self._least, self._max_rows)
        rows = np.empty((capacity, self._width), np.float64)
        count = self._scan(self._contract, piece, len(piece), rows.ctypes.data, capacity)
        if count < 0:
            return None
        rows.resize((count, self._width), refcheck=False)  # gives back what was too much
        return rows


def scanner(contract: Contract, max_rows: int) -> Scanner | None:
    """A scanner for a contract; None, and a line in the log, where the library was not built."""
    if LIBRARY is None:
        logger.warning("large requests take longer to read: creditmodel-inference was installed without a C compiler")
        return None
    return Scanner(LIBRARY, contract, max_rows)


def _contract(contract: Contract) -> _Contract:
    features = contract.features
    names = {_name(feature): float(place) for place, feature in enumerate(features)}
    made = (_Feature * len(features))(*map(_feature, features))
    return _Contract(made, len(features), _spellings(names.items()), _reciprocals(), len(_FAR_POWERS))


def _least_size(contract: Contract) -> int:
    """Bytes of the shortest applicant that is accepted, with its comma: a digit for each value that must be there."""
    required = [len(_name(feature)) + len(":0,") for feature in contract.features if feature.missing == "forbidden"]
    return len("{},") + max(0, sum(required) - 1)


def _reciprocals() -> ctypes.Array[_Reciprocal]:
    """1 / 5**power, cut off behind 128 bits."""
    shifts = [(power, (5**power).bit_length() + 127) for power in _FAR_POWERS]
    parts = ((*divmod((1 << shift) // 5**power, 1 << 64), -shift) for power, shift in shifts)
    return (_Reciprocal * len(_FAR_POWERS))(*(_Reciprocal(*part) for part in parts))


def _feature(feature: Feature) -> _Feature:
    name, may_miss = _name(feature), feature.missing == "allowed"
    if feature.dtype == "category":
        spelled = {text: code for value, code in codes_of(feature).items() for text in _texts(value)}
        return _Feature(name, len(name), _spellings(spelled.items()), 0, 0, False, may_miss)
    return _Feature(name, len(name), _spellings(()), *range_of(feature), feature.dtype == "integer", may_miss)


def _name(feature: Feature) -> bytes:
    """In quotation marks. A name has no character that could be spelled in two usual ways."""
    return json.dumps(feature.name).encode()


def _texts(value: object) -> set[bytes]:
    """The usual spellings of a category: with escapes, as json.dumps has it, and in UTF-8 where that can be."""
    return {json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")}


def _spellings(values: Iterable[tuple[bytes, float]]) -> _Spellings:
    """Sorted as scan.c searches them."""
    made = sorted((int.from_bytes(text[:8].ljust(8, b"\0")), len(text), text, value) for text, value in values)
    return _Spellings((_Spelling * len(made))(*(_Spelling(*one) for one in made)), len(made))
