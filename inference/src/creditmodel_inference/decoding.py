"""What both fast readers of /v1/score share: types generated from the contract, and what the decoder's errors mean.

The types say no more than `Encoder` does, and a property test holds them to that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract, Feature
from creditmodel_bundle.encoder import describe
from creditmodel_inference.errors import FieldError, Unacceptable

__all__ = [
    "CANNOT_DECODE",
    "MARKS",
    "MARKS_WITH_ID",
    "code_table",
    "codes_of",
    "first_violation",
    "has_more_marks",
    "pieces",
    "pointer",
    "range_of",
    "types_of",
]

CANNOT_DECODE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises for bytes that it cannot read, or whose values it does not accept."""

MARKS = 2
"""Quotation marks of the request itself: around "applicants"."""

MARKS_WITH_ID = 6
"""And around "request_id" and its value."""

PIECE_BYTES = 64 * 1024
"""A long list is decoded in pieces of this size up to twice of it: the objects of one are gone before the next."""

_FEW_BYTES = 4096
"""Quotation marks of shorter bodies are counted without NumPy, whose calls cost more than they save there."""

_PART = 64 * 1024
_MARK = ord('"')


def types_of(contract: Contract) -> tuple[Any, Any]:
    """Struct types of an applicant, feature i as the field f{i}, and of a request."""
    fields = [(f"f{i}", *_field(feature)) for i, feature in enumerate(contract.features)]
    applicant = msgspec.defstruct(
        "Applicant",
        fields,
        rename={f"f{i}": feature.name for i, feature in enumerate(contract.features)},
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
    )
    envelope = msgspec.defstruct(
        "ScoreRequest",
        [("applicants", list[applicant]), ("request_id", str | UnsetType, UNSET)],  # type: ignore[valid-type]
        forbid_unknown_fields=True,
        gc=False,
    )
    return applicant, envelope


def _field(feature: Feature) -> tuple[Any, ...]:
    """Type, and the default where a missing value is allowed."""
    annotation = _category_type(feature) if feature.dtype == "category" else _number_type(feature)
    if feature.missing == "forbidden":
        return (annotation,)
    return (annotation | None | UnsetType, UNSET)


def _category_type(feature: Feature) -> Any:
    return Literal[tuple(category.value for category in feature.categories)]


def _number_type(feature: Feature) -> Any:
    low, high = range_of(feature)
    if feature.dtype == "integer":
        return Annotated[float, msgspec.Meta(ge=low, le=high, multiple_of=1)]
    return Annotated[float, msgspec.Meta(ge=low, le=high)]


def range_of(feature: Feature) -> tuple[float, float]:
    low = -FLOAT32_LIMIT if feature.minimum is None else feature.minimum
    return low, FLOAT32_LIMIT if feature.maximum is None else feature.maximum


def codes_of(feature: Feature) -> dict[object, float]:
    """Category values to codes; None is one where a value may be missing."""
    codes: dict[object, float] = {category.value: float(category.code) for category in feature.categories}
    return codes | {None: math.nan} if feature.missing == "allowed" else codes


def code_table(feature: Feature) -> dict[object, float] | None:
    """Category values to codes; None where every value is its own code and none may be missing."""
    if feature.dtype != "category":
        return None
    table = codes_of(feature)
    if None in table:
        return table | {UNSET: math.nan}
    return None if all(value == code for value, code in table.items()) else table


def pieces(body: bytes, begin: int, end: int, closing: bytes) -> Iterator[bytes]:
    """The content of a list, body[begin:end], cut at commas after a `closing` bracket."""
    while end - begin > 2 * PIECE_BYTES:
        last = body.find(closing, begin + PIECE_BYTES, end)
        comma = -1 if last < 0 else body.find(b",", last, end)
        if comma < 0:
            break
        yield body[begin:comma]
        begin = comma + 1
    yield body[begin:end]


def has_more_marks(body: bytes, marks: int) -> bool:
    """Whether there are more than so many quotation marks around the texts of a JSON document, which needs them all.

    Escaped ones are not around a text. Where all together are no more, none of them is escaped.
    """
    if _marks_in(body) == marks:
        return False
    return b"\\" not in body or _marks_in(body.replace(b"\\\\", b"").replace(b'\\"', b"")) != marks


def _marks_in(body: bytes) -> int:
    if len(body) < _FEW_BYTES:
        return body.count(b'"')
    content = np.frombuffer(body, np.uint8)
    # Some pages at a time: masks of them stay in the processor's cache.
    parts = (content[start : start + _PART] for start in range(0, len(content), _PART))
    return sum(int(np.count_nonzero(part == _MARK)) for part in parts)


_APPLICANT = re.compile(r"(?:\.applicants)?\[(?P<row>\d+)\](?:\.(?P<feature>.+))?")
_FIELD = re.compile(r"Object (?P<fault>missing required field|contains unknown field) `(?P<field>.*)`", re.DOTALL)


def first_violation(cause: msgspec.ValidationError, features: dict[str, Feature], before: int = 0) -> Unacceptable:
    """The answer to a long body, of which the fast reader refused an applicant with `before` ones before its piece."""
    error = _translate(str(cause), features, before)
    return Unacceptable("The request breaks the model's contract; only its first violation is named.", [error])


def _translate(message: str, features: dict[str, Feature], before: int) -> FieldError:
    """The fast reader's message as a violation."""
    # The message repeats the value, which may be as long as the body: no regular expression looks at the whole.
    what, _, where = message.rpartition(" - at `$") if message.endswith("`") else (message, "", "")
    what, where = (what[:1_000], where[:-1]) if what else (message[:1_000], "")
    place = _APPLICANT.fullmatch(where)
    path = f"/applicants/{before + int(place['row'])}" if place else where.replace(".", "/")
    name = place["feature"] if place else None
    if field := _FIELD.fullmatch(what):
        kind, message = ("missing", "is required") if "missing" in field["fault"] else ("unknown", "is not known here")
        feature = features.get(field["field"])
        return FieldError(pointer(path, field["field"]), message, kind, describe(feature) if feature else None)
    feature = features.get(name or "")
    path = pointer(path, name) if name else path
    return FieldError(path, what[:200], _kind(what), describe(feature) if feature else None)


def _kind(message: str) -> str:
    if message.startswith("Invalid enum value"):
        return "category"
    if ">=" in message or "<=" in message or "out of range" in message:
        return "range"
    return "type"


def pointer(path: str, key: str) -> str:
    """JSON Pointer (RFC 6901) of a key, cut where a hostile key would be repeated at length."""
    shown = key[:128].encode("utf-8", "backslashreplace").decode()
    return f"{path}/{shown.replace('~', '~0').replace('/', '~1')}"
