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
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple
from numpy.typing import NDArray

from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract, Feature
from creditmodel_bundle.encoder import Encoder, describe
from creditmodel_bundle.errors import ContractViolation
from creditmodel_inference.errors import FieldError, Malformed, Problem, TooLarge, Unacceptable
from creditmodel_inference.steps import Steps

_FEW_BYTES = 4096
"""Quotation marks of shorter bodies are counted without NumPy, whose calls cost more than they save there."""

_PART = 32 * 1024
_MARK, _BACKSLASH = b'"\\'

__all__ = ["Intake", "Request", "check_request_id", "parse", "pieces"]

MAX_ERRORS = 50
"""Violations listed in one answer."""

CAREFUL_BYTES = 64 * 1024
"""Bodies above this are read once, by the fast reader: their answer names the first violation only. The careful reader
takes ten times as long, and more than a few milliseconds of it would be felt by other clients."""

MAX_INTEGER_DIGITS = 400
"""A longer integer is beyond every float, whatever its digits say."""

_MARKS = 2
"""Quotation marks of the request itself: around "applicants"."""

_MARKS_WITH_ID = 6
"""And around "request_id" and its value."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")


class Request(msgspec.Struct, frozen=True):
    """What a client asked: one row of floats per applicant, in the graph's order, NaN where missing."""

    rows: list[Sequence[float]]
    request_id: str | None


class _Envelope(msgspec.Struct):
    """What both readers agree on; the generated type has these two fields."""

    applicants: list[Any]
    request_id: str | UnsetType = UNSET


class Intake:
    """Reads the bodies of /v1/score for one contract."""

    def __init__(self, contract: Contract, max_rows: int) -> None:
        self._contract = contract
        self._encoder = Encoder(contract)
        self.max_rows = max_rows
        self._features = {feature.name: feature for feature in contract.features}
        _, envelope = _types(contract, range(len(contract.features)))
        self._decode = msgspec.json.Decoder(envelope).decode
        self._columns = _ColumnReader(contract)
        self._read_row = _row_reader(contract)

    def read(self, body: bytes) -> Request:
        """The request in these bytes. Raises Malformed, TooLarge, or Unacceptable naming every violation."""
        if len(body) > CAREFUL_BYTES and body.count(b"{") > self.max_rows + 1:
            raise self._too_many()
        try:
            envelope = self._decode(body)
        except msgspec.ValidationError as e:
            return self._explain(body, e)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            return self._explain(body, e)
        applicants, request_id = envelope.applicants, envelope.request_id
        if not 0 < len(applicants) <= self.max_rows:
            raise self._too_many() if applicants else _no_rows()
        rows = []
        marks = _MARKS if request_id is UNSET else _MARKS_WITH_ID
        for row, found in map(self._read_row, applicants):
            rows.append(row)
            marks += found
        if quotation_marks(body) != marks:
            # A key stands twice: the fast reader would keep the last one in silence.
            return self._explain(body, None)
        return Request(rows, None if request_id is UNSET else check_request_id(request_id))

    def read_columns(self, *parts: bytes) -> Steps[tuple[NDArray[np.float64], str | None]]:
        """The same for many rows in a body that came in parts: an array [n, F] and the request id.

        Raises what `read` raises. Pauses between pieces, so that whoever asks can turn to others.
        """
        found = yield from self._columns.read(parts, self.max_rows)
        if found is not None:
            rows, request_id = found
            if len(rows) > self.max_rows:
                raise self._too_many()
            return rows, None if request_id is None else check_request_id(request_id)
        request = self.read(b"".join(parts))
        return np.array(request.rows, np.float64), request.request_id

    def _explain(self, body: bytes, cause: Exception | None) -> Request:
        if len(body) <= CAREFUL_BYTES:
            return self._read_carefully(body)
        if isinstance(cause, msgspec.ValidationError):
            raise _first_violation(cause, self._features)
        if cause is None:
            raise Unacceptable(
                "A key stands more than once in one object.",
                [FieldError("", "repeats a key in one of its objects", "duplicate")],
            )
        raise _malformed(cause)

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
        errors.extend(FieldError(_pointer("", key), "is no field of this request", "unknown", known) for key in unknown)
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
            raise self._too_many() if applicants else _no_rows()
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
            errors.extend(FieldError(_pointer(path, v.feature), v.message, v.kind, v.allowed) for v in e.violations)
            return []
        return [row] if not repeated else []

    def _without_most_unknown(self, applicant: _Object) -> dict[str, object]:
        """The applicant with as many unknown keys as an answer would name, and one more."""
        if len(applicant) <= len(self._features) + MAX_ERRORS:
            return applicant
        unknown = islice((key for key in applicant if key not in self._features), MAX_ERRORS + 1)
        return {key: applicant[key] for key in [*(applicant.keys() & self._features.keys()), *unknown]}

    def _too_many(self) -> TooLarge:
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


def _repeated(path: str, key: str) -> FieldError:
    return FieldError(_pointer(path, key), "stands more than once in one object", "duplicate")


def _pointer(path: str, key: str) -> str:
    """JSON Pointer (RFC 6901) of a key, cut where a hostile key would be repeated at length."""
    shown = key[:128].encode("utf-8", "backslashreplace").decode()
    return f"{path}/{shown.replace('~', '~0').replace('/', '~1')}"


# The fast reader: types generated from the contract.


def _types(contract: Contract, order: Iterable[int], *, bounded: bool = True) -> tuple[Any, Any]:
    """Struct types of an applicant, feature i as the field f{i}, and of a request."""
    fields = [(f"f{i}", *_field(contract.features[i], bounded=bounded)) for i in order]
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


def _field(feature: Feature, *, bounded: bool) -> tuple[Any, ...]:
    """Type, and the default where a missing value is allowed."""
    number = _number_type(feature) if bounded else float
    annotation = _category_type(feature) if feature.dtype == "category" else number
    if feature.missing == "forbidden":
        return (annotation,)
    return (annotation | None | UnsetType, UNSET)


def _category_type(feature: Feature) -> Any:
    return Literal[tuple(category.value for category in feature.categories)]


def _number_type(feature: Feature) -> Any:
    low, high = _range(feature)
    if feature.dtype == "integer":
        return Annotated[float, msgspec.Meta(ge=low, le=high, multiple_of=1)]
    return Annotated[float, msgspec.Meta(ge=low, le=high)]


def _range(feature: Feature) -> tuple[float, float]:
    low = -FLOAT32_LIMIT if feature.minimum is None else feature.minimum
    return low, FLOAT32_LIMIT if feature.maximum is None else feature.maximum


def _row_reader(contract: Contract) -> Callable[[Any], tuple[Sequence[float], int]]:
    """A function from a decoded applicant to its floats, and to the quotation marks that its JSON must have.

    It does only what this contract needs: names and texts are counted beforehand where they cannot vary.
    """
    marks = 2 * len(contract.features)
    tables = [
        (index, table) for index, feature in enumerate(contract.features) if (table := _table(feature)) is not None
    ]
    gaps = [
        index
        for index, feature in enumerate(contract.features)
        if feature.dtype != "category" and feature.missing == "allowed"
    ]
    if not tables and not gaps:
        return lambda applicant: (astuple(applicant), marks)

    def read(applicant: Any) -> tuple[Sequence[float], int]:
        values = list(astuple(applicant))
        found = marks
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
        return values, found

    return read


def _table(feature: Feature) -> dict[object, float] | None:
    """Category values to codes; None where every value is its own code and none may be missing."""
    if feature.dtype != "category":
        return None
    table: dict[object, float] = {category.value: float(category.code) for category in feature.categories}
    if feature.missing == "allowed":
        return table | {None: math.nan, UNSET: math.nan}
    return None if all(value == code for value, code in table.items()) else table


# The fast reader of many applicants: piece by piece, and by column.


PIECE_BYTES = 256 * 1024
"""About as much is decoded at once: the structs of a piece are gone before the next is read."""


class _ColumnReader:
    """Cuts the list of applicants between two of them and decodes the pieces as lists of their own.

    Pieces that are all valid make a valid whole. A cut at the wrong place, within a text say, makes an invalid piece;
    then, as for all that the contract refuses, `read` says None, and the whole is left to the other readers.
    """

    def __init__(self, contract: Contract) -> None:
        features = contract.features
        plain = [i for i, feature in enumerate(features) if _is_plain(feature)]
        special = [i for i, feature in enumerate(features) if not _is_plain(feature)]
        # What can be packed as it is comes first, so that one slice of a struct's values has it.
        applicant, envelope = _types(contract, [*plain, *special])
        unbounded, _ = _types(contract, [*plain, *special], bounded=False)
        self._width, self._plain = len(features), plain
        self._pack = struct.Struct(f"={len(plain)}d").pack
        self._features = {feature.name: feature for feature in features}
        self._special = [(i, attrgetter(f"f{i}"), _column_converter(features[i])) for i in special]
        self._bounds = _Bounds(features)
        self._piece = msgspec.json.Decoder(list[applicant])  # type: ignore[valid-type]
        self._unbounded = msgspec.json.Decoder(list[unbounded])  # type: ignore[valid-type]
        self._envelope = msgspec.json.Decoder(envelope)

    def read(self, parts: Sequence[bytes], max_rows: int) -> Steps[tuple[NDArray[np.float64], str | None] | None]:
        """Rows [n, F] and the request id, or None if this reader cannot tell; stops beyond `max_rows`."""
        if len(parts) > 1 and b"]" not in parts[-1]:
            parts = [*parts[:-2], parts[-2] + parts[-1]]  # the last one has but the very end
        if not parts:
            return None
        begin, end = parts[0].find(b"[") + 1, parts[-1].rfind(b"]")
        if begin < 1 or end < 0 or (len(parts) == 1 and end < begin):
            return None
        try:
            envelope: Any = self._envelope.decode(parts[0][:begin] + parts[-1][end:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        read: list[NDArray[np.float64]] = []
        count = marks = 0
        try:
            for piece in _pieces_of(parts, begin, end):
                rows, found = self._decode(b"[%b]" % piece)
                read.append(rows)
                count, marks = count + len(rows), marks + found
                if not len(rows) or count > max_rows:
                    break
                yield 0.0
        except msgspec.ValidationError as e:
            if sum(map(len, parts)) <= CAREFUL_BYTES:
                return None
            # What precedes was valid, so that the piece begins with an applicant: the fault is where it seems to be.
            raise _first_violation(e, self._features, count) from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if envelope.applicants or not len(rows):
            return None
        given = envelope.request_id is not UNSET
        if count <= max_rows and _marks_in(parts) != marks + (_MARKS_WITH_ID if given else _MARKS):
            return None
        return np.concatenate(read), envelope.request_id if given else None

    def _decode(self, piece: bytes) -> tuple[NDArray[np.float64], int]:
        """Rows, and the quotation marks that their JSON must have."""
        try:
            applicants = self._unbounded.decode(piece)
        except msgspec.ValidationError:
            self._piece.decode(piece)  # names the first violation, which may be one of the bounds
            raise
        count, plain, pack = len(applicants), len(self._plain), self._pack
        packed = b"".join([pack(*values[:plain]) for values in map(astuple, applicants)])
        rows = np.empty((count, self._width), np.float64)
        rows[:, self._plain] = np.frombuffer(packed, np.float64).reshape(count, plain)
        marks = 2 * rows.size
        for index, get, convert in self._special:
            rows[:, index], found = convert(list(map(get, applicants)))
            marks += found
        if not self._bounds.hold(rows):
            self._piece.decode(piece)  # names the first value that breaks them
        return rows, marks


class _Bounds:
    """Ranges and whole numbers, of all rows at once: value by value, msgspec takes longer over them than NumPy."""

    def __init__(self, features: Sequence[Feature]) -> None:
        numbers = [(i, *_range(feature)) for i, feature in enumerate(features) if feature.dtype != "category"]
        self._columns = [i for i, _, _ in numbers]
        self._low, self._high = np.array([low for _, low, _ in numbers]), np.array([high for _, _, high in numbers])
        self._integers = [i for i, feature in enumerate(features) if feature.dtype == "integer"]

    def hold(self, rows: NDArray[np.float64]) -> bool:
        """Whether all rows [n, F] are within; what is missing is."""
        numbers, integers = rows[:, self._columns], rows[:, self._integers]
        outside = (numbers < self._low) | (numbers > self._high)
        broken = (integers != np.rint(integers)) & ~np.isnan(integers)
        return not (outside.any() or broken.any())


def _pieces_of(parts: Sequence[bytes], begin: int, end: int) -> Iterator[bytes]:
    """The list between `begin` in the first part and `end` in the last, cut between two applicants."""
    held: list[bytes] = []
    size, wanted = 0, PIECE_BYTES
    last = len(parts) - 1
    for number, part in enumerate(parts):
        held.append(part[begin if number == 0 else 0 : end if number == last else len(part)])
        size += len(held[-1])
        if number == last:
            text = b"".join(held)
            yield from pieces(text, 0, len(text), b"}")
        elif size >= wanted:
            text = b"".join(held)
            comma = _last_comma(text)
            if comma > 0:
                yield from pieces(text, 0, comma, b"}")
            held = [text[comma + 1 :]]
            size = len(held[0])
            wanted = size + max(size, PIECE_BYTES)  # what has no end must not be put together again with every part


def _last_comma(text: bytes) -> int:
    """The last comma behind an object, or -1."""
    close = text.rfind(b"}")
    comma = text.find(b",", close) if close > 0 else -1
    if comma < 0 < close:
        close = text.rfind(b"}", 0, close)
        comma = text.find(b",", close) if close > 0 else -1
    return comma


def _marks_in(parts: Sequence[bytes]) -> int:
    """Quotation marks around the texts of a JSON document that came in parts."""
    if any(part.endswith(b"\\") for part in parts):
        return quotation_marks(b"".join(parts))  # an escape must not be torn apart
    return sum(map(quotation_marks, parts))


def pieces(body: bytes, begin: int, end: int, closing: bytes) -> Iterator[bytes]:
    """The content of a list, body[begin:end], cut at commas after a `closing` bracket."""
    while True:
        last = body.find(closing, begin + PIECE_BYTES, end)
        comma = -1 if last < 0 else body.find(b",", last, end)
        if comma < 0:
            yield body[begin:end]
            return
        yield body[begin:comma]
        begin = comma + 1


def _is_plain(feature: Feature) -> bool:
    """Whether every accepted value is the number that the graph takes."""
    return _table(feature) is None and (feature.dtype == "category" or feature.missing == "forbidden")


def _column_converter(feature: Feature) -> Callable[[list[Any]], tuple[list[float], int]]:
    """A function from a decoded column to its floats, and to the quotation marks beyond two a value."""
    table = _table(feature)
    if table is None:
        return lambda column: (
            [math.nan if value is None or value is UNSET else value for value in column],
            -2 * column.count(UNSET),
        )
    if not any(type(value) is str for value in table):
        return lambda column: ([table[value] for value in column], -2 * column.count(UNSET))
    return lambda column: (
        [table[value] for value in column],
        2 * (sum([type(value) is str for value in column]) - column.count(UNSET)),
    )


def quotation_marks(body: bytes) -> int:
    """Quotation marks around the texts of a JSON document."""
    if len(body) < _FEW_BYTES:
        if b"\\" in body:
            body = _without_escapes(body)
        return body.count(b'"')
    content = np.frombuffer(body, np.uint8)
    if b"\\" in body and _has_escaped_marks(content):
        content = np.frombuffer(_without_escapes(body), np.uint8)
    return sum(int(np.count_nonzero(part == _MARK)) for part in _parts(content))


def _without_escapes(body: bytes) -> bytes:
    return body.replace(b"\\\\", b"").replace(b'\\"', b"")


def _has_escaped_marks(content: NDArray[np.uint8]) -> bool:
    """Whether a backslash stands before a quotation mark or another backslash."""
    places = [np.flatnonzero(part == _BACKSLASH) + i * _PART for i, part in enumerate(_parts(content))]
    after = content[np.minimum(np.concatenate(places) + 1, len(content) - 1)]
    return bool(np.any((after == _MARK) | (after == _BACKSLASH)))


def _parts(content: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The content, a few pages at a time: masks of them stay in the processor's cache."""
    return (content[start : start + _PART] for start in range(0, len(content), _PART))


_APPLICANT = re.compile(r"(?:\.applicants)?\[(?P<row>\d+)\](?:\.(?P<feature>.+))?")
_FIELD = re.compile(r"Object (?P<fault>missing required field|contains unknown field) `(?P<field>.*)`", re.DOTALL)


def _first_violation(cause: msgspec.ValidationError, features: dict[str, Feature], before: int = 0) -> Unacceptable:
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
        return FieldError(_pointer(path, field["field"]), message, kind, describe(feature) if feature else None)
    feature = features.get(name or "")
    path = _pointer(path, name) if name else path
    return FieldError(path, what[:200], _kind(what), describe(feature) if feature else None)


def _kind(message: str) -> str:
    if message.startswith("Invalid enum value"):
        return "category"
    if ">=" in message or "<=" in message or "out of range" in message:
        return "range"
    return "type"


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


def _malformed(error: Exception) -> Problem:
    if isinstance(error, UnicodeDecodeError):
        return Malformed(f"The body is not UTF-8: byte {error.start} cannot be decoded.")
    if isinstance(error, RecursionError):
        return Malformed("The body is nested too deeply.")
    if isinstance(error, json.JSONDecodeError):
        return Malformed(f"The body is not JSON: {error.msg} at character {error.pos}.")
    return Malformed(f"The body is not JSON: {error}.")
