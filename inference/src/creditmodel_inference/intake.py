"""From the bytes of a request to rows of numbers.

Two readers share one contract. The fast one decodes into struct types generated from the contract and accepts nothing
that the contract refuses. What it does not accept goes to the careful one, which reads the JSON again, finds every
violation and names it, or accepts what the fast one was too strict about. `Encoder` is the judge in both: the types
below say no more than it does, and a property test holds them to that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.errors import ContractViolation
from creditmodel_inference.decoding import (
    CANNOT_DECODE,
    MARKS,
    MARKS_WITH_ID,
    code_table,
    first_violation,
    has_more_marks,
    pointer,
    types_of,
)
from creditmodel_inference.errors import FieldError, Malformed, Problem, TooLarge, Unacceptable

__all__ = [
    "CAREFUL_BYTES",
    "MAX_ERRORS",
    "REQUEST_ID",
    "Intake",
    "Preceding",
    "Request",
    "check_request_id",
    "parse",
    "repeated_key",
    "rows_reader",
]

MAX_ERRORS = 50
"""Violations listed in one answer."""

CAREFUL_BYTES = 64 * 1024
"""Bodies above this are read once, by the fast reader: their answer names the first violation only. The careful reader
takes ten times as long, and more than a few milliseconds of it would be felt by other clients."""

MAX_INTEGER_DIGITS = 400
"""A longer integer is beyond every float, whatever its digits say."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")


class Request(msgspec.Struct, frozen=True):
    """What a client asked: one row of floats per applicant, in the graph's order, NaN where missing."""

    rows: list[Sequence[float]]
    request_id: str | None


class Preceding(NamedTuple):
    """What was read of a body before the rest was left to another reader: applicants, and the bytes they took."""

    rows: int = 0
    size: int = 0


NOTHING = Preceding()


class Intake:
    """Reads the bodies of /v1/score for one contract."""

    def __init__(self, contract: Contract, max_rows: int) -> None:
        self.contract = contract
        self.max_rows = max_rows
        self._encoder = Encoder(contract)
        self._features = {feature.name: feature for feature in contract.features}
        _, envelope = types_of(contract)
        self._decode = msgspec.json.Decoder(envelope).decode
        self._read_rows = rows_reader(contract)

    def read(self, body: bytes, before: Preceding = NOTHING) -> Request:
        """The request in these bytes. Raises Malformed, TooLarge, or Unacceptable naming every violation.

        Where applicants were read `before`, `body` is the request without them. They are counted, and no more.
        """
        left = self.max_rows - before.rows
        if len(body) > CAREFUL_BYTES and body.count(b"{") > left + 1:
            raise self.too_many()
        try:
            envelope = self._decode(body)
        except CANNOT_DECODE as e:
            return self._explain(body, before, e)
        applicants, request_id = envelope.applicants, envelope.request_id
        if not 0 < len(applicants) <= left:
            raise self.too_many() if applicants else _no_rows()
        rows, marks = self._read_rows(applicants)
        if has_more_marks(body, marks + (MARKS if request_id is UNSET else MARKS_WITH_ID)):
            # A key stands twice: the fast reader would keep the last one in silence.
            return self._explain(body, before, None)
        return Request(rows, None if request_id is UNSET else check_request_id(request_id))

    def is_careful(self, size: int) -> bool:
        """Whether every violation in a body of that size is named."""
        return size <= CAREFUL_BYTES

    def _explain(self, body: bytes, before: Preceding, cause: Exception | None) -> Request:
        if self.is_careful(len(body) + before.size):
            return self._read_carefully(body)
        if isinstance(cause, msgspec.ValidationError):
            raise first_violation(cause, self._features, before.rows)
        raise repeated_key() if cause is None else _malformed(cause, before.size)

    def _read_carefully(self, body: bytes) -> Request:
        document = parse(body)
        if type(document) is not _Object:
            raise Unacceptable("The request is no object.", [FieldError("", "is no object", "type", "object")])
        applicants, request_id, errors = self._open(document)
        rows: list[Sequence[float]] = []
        for index, applicant in enumerate(applicants):
            rows.extend(self._row(applicant, f"/applicants/{index}", errors))
            if len(errors) > MAX_ERRORS:
                break
        if errors:
            detail = f"{len(errors) if len(errors) <= MAX_ERRORS else f'Over {MAX_ERRORS}'} values break the contract."
            raise Unacceptable(
                "One value breaks the contract." if len(errors) == 1 else detail,
                errors[:MAX_ERRORS],
                rows=len(applicants),
            )
        return Request(rows, request_id)

    def _open(self, document: _Object) -> tuple[list[object], str | None, list[FieldError]]:
        """Applicants, request id and the violations of the envelope itself."""
        errors = [_repeated("", key) for key in document.repeated[:MAX_ERRORS]]
        known = ["applicants", "request_id"]
        unknown = islice((key for key in document if key not in known), MAX_ERRORS + 1)
        errors.extend(FieldError(pointer("", key), "is no field of this request", "unknown", known) for key in unknown)
        request_id = document.get("request_id")
        if "request_id" in document and not (isinstance(request_id, str) and REQUEST_ID.fullmatch(request_id)):
            errors.append(_bad_request_id())
        applicants = document.get("applicants")
        if not isinstance(applicants, list):
            kind = "type" if "applicants" in document else "missing"
            message = "is no array" if "applicants" in document else "is required"
            raise Unacceptable(
                "The request has no list of applicants.",
                [*errors, FieldError("/applicants", message, kind, "array of applicants")],
            )
        if not 0 < len(applicants) <= self.max_rows:
            raise self.too_many() if applicants else _no_rows()
        return applicants, request_id if isinstance(request_id, str) else None, errors

    def _row(self, applicant: object, path: str, errors: list[FieldError]) -> list[list[float]]:
        """The row in a list, or nothing and its violations added to `errors`."""
        if type(applicant) is not _Object:
            errors.append(FieldError(path, "is no object", "type", "object"))
            return []
        repeated = [_repeated(path, key) for key in applicant.repeated[:MAX_ERRORS]]
        errors.extend(repeated)
        try:
            row = self._encoder.encode(self._without_most_unknown(applicant))
        except ContractViolation as e:
            errors.extend(FieldError(pointer(path, v.feature), v.message, v.kind, v.allowed) for v in e.violations)
            return []
        return [row] if not repeated else []

    def _without_most_unknown(self, applicant: _Object) -> dict[str, object]:
        """The applicant with as many unknown keys as an answer would name, and one more."""
        if len(applicant) <= len(self._features) + MAX_ERRORS:
            return applicant
        unknown = islice((key for key in applicant if key not in self._features), MAX_ERRORS + 1)
        return {key: applicant[key] for key in [*(applicant.keys() & self._features.keys()), *unknown]}

    def too_many(self) -> TooLarge:
        """The answer to more applicants than a request may have."""
        return TooLarge(
            f"A request takes at most {self.max_rows} applicants; send them in several.",
            [FieldError("/applicants", "has too many items", "rows", {"maximum": self.max_rows})],
        )


def check_request_id(request_id: str) -> str:
    """The id itself. Raises Unacceptable for anything but 1 to 128 letters, digits and ._:+/=-"""
    if not REQUEST_ID.fullmatch(request_id):
        raise Unacceptable("The request id is not acceptable.", [_bad_request_id()])
    return request_id


def _bad_request_id() -> FieldError:
    return FieldError("/request_id", "is no acceptable request id", "type", {"pattern": f"^{REQUEST_ID.pattern}$"})


def _no_rows() -> Unacceptable:
    return Unacceptable(
        "The request has no applicants.", [FieldError("/applicants", "has no items", "rows", {"minimum": 1})]
    )


def repeated_key() -> Unacceptable:
    """The answer to a long body in which a key stands twice."""
    return Unacceptable(
        "A key stands more than once in one object.",
        [FieldError("", "repeats a key in one of its objects", "duplicate")],
    )


def _repeated(path: str, key: str) -> FieldError:
    return FieldError(pointer(path, key), "stands more than once in one object", "duplicate")


# The fast reader.


def rows_reader(contract: Contract) -> Callable[[list[Any]], tuple[list[Sequence[float]], int]]:
    """A function from decoded applicants to their floats, and to the quotation marks that their JSON must have.

    It does only what this contract needs: names and texts are counted beforehand where they cannot vary.
    """
    marks = 2 * len(contract.features)
    tables = [
        (index, table) for index, feature in enumerate(contract.features) if (table := code_table(feature)) is not None
    ]
    gaps = [
        index
        for index, feature in enumerate(contract.features)
        if feature.dtype != "category" and feature.missing == "allowed"
    ]
    if not tables and not gaps:
        return lambda applicants: (list(map(astuple, applicants)), marks * len(applicants))

    def read(applicants: list[Any]) -> tuple[list[Sequence[float]], int]:
        rows: list[Sequence[float]] = []
        found = marks * len(applicants)
        for applicant in applicants:
            values = list(astuple(applicant))
            for index, table in tables:
                value = values[index]
                if type(value) is str:
                    found += 2
                elif value is UNSET:
                    found -= 2
                values[index] = table[value]
            for index in gaps:
                value = values[index]
                if value is None:
                    values[index] = math.nan
                elif value is UNSET:
                    values[index] = math.nan
                    found -= 2
            rows.append(values)
        return rows, found

    return read


# The careful reader.


class _Object(dict[str, object]):
    """A JSON object that remembers which of its keys stood more than once."""

    __slots__ = ("repeated",)
    repeated: tuple[str, ...]


class _NotJson(ValueError):
    pass


def parse(body: bytes) -> object:
    """Any JSON document, repeated keys noted. Raises Malformed."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as e:
        raise _malformed(e) from e
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer, parse_float=float
        )
    except (ValueError, RecursionError) as e:
        raise _malformed(e) from e


def _object(pairs: list[tuple[str, object]]) -> _Object:
    made = _Object(pairs)
    made.repeated = ()
    if len(made) < len(pairs):
        seen: set[str] = set()
        made.repeated = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return made


def _no_constant(name: str) -> object:
    raise _NotJson(f"{name} is no JSON number; a missing value is null")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else math.inf


def _malformed(error: Exception, before: int = 0) -> Problem:
    """The answer to a body that is not JSON, or to what followed the first `before` bytes of one."""
    if isinstance(error, UnicodeDecodeError):
        return Malformed(f"The body is not UTF-8: byte {error.start} cannot be decoded.")
    if isinstance(error, RecursionError):
        return Malformed("The body is nested too deeply.")
    if isinstance(error, json.JSONDecodeError):
        return Malformed(f"The body is not JSON: {error.msg} at character {error.pos}.")
    told = _PLACE.sub(lambda place: f"(byte {int(place[1]) + before})", str(error))
    return Malformed(f"The body is not JSON: {told}.")


_PLACE = re.compile(r"\(byte (\d+)\)\Z")
"""Where the fast reader met what is not JSON."""
