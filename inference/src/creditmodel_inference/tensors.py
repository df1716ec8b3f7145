"""From the bytes of an inference request to rows: the Open Inference Protocol's tensors, as JSON or as bytes.

A tensor's numbers are set apart before the rest is read: they are decoded piece by piece, so that a long request gives
way to other clients, and the rest is small enough to be searched for repeated keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract
from creditmodel_inference.decoding import pieces
from creditmodel_inference.errors import FieldError, Malformed, TooLarge, Unacceptable
from creditmodel_inference.intake import parse
from creditmodel_inference.rows import RowCheck
from creditmodel_inference.steps import Steps

__all__ = ["FEATURES", "OUTPUTS", "Call", "TensorReader"]

FEATURES = "features"
OUTPUTS = {"probability": "FP32", "log_odds": "FP32", "contributions": "FP32", "points": "INT32"}
KINDS: dict[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    **{
        f"{sign}INT{8 * size}": np.dtype(f"<{sign.lower() or 'i'}{size}") for sign in ("", "U") for size in (1, 2, 4, 8)
    },
}

HEADER_BYTES = 64 * 1024
"""An inference header without its numbers is a few hundred bytes."""


class _Numbers(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"")


class _Skeleton(msgspec.Struct):
    """What is read first: all else is passed over without being made."""

    inputs: list[_Numbers]


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Infer(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed request: its id, the rows [n, F], and which outputs are wanted, each as JSON or as bytes."""

    id: str | None
    rows: NDArray[np.float64]
    outputs: list[tuple[str, bool]]


class TensorReader:
    """Reads inference requests for one contract."""

    def __init__(self, contract: Contract, max_rows: int) -> None:
        self._width = len(contract.features)
        self._max_rows = max_rows
        self._check = RowCheck(contract)
        self._skeleton = msgspec.json.Decoder(_Skeleton).decode
        self._header = msgspec.json.Decoder(_Infer).decode

    def read(self, body: bytes, header_length: str | None) -> Steps[Call]:
        """The call in these bytes; pauses between pieces. Raises Malformed, TooLarge or Unacceptable."""
        split = len(body) if header_length is None else _header_length(header_length, len(body))
        document, numbers = self._parted(body[:split])
        tensor = document.inputs[0]
        kind = self._kind(tensor)
        count = tensor.shape[0] * self._width
        if "binary_data_size" in tensor.parameters or split < len(body):
            values = _from_bytes(tensor, numbers, body[split:], kind, count)
        else:
            values = yield from _from_json(numbers, tensor.shape[0], count)
        rows = values.reshape(-1, self._width)
        if errors := self._check.violations(rows):
            raise Unacceptable("The rows break the model's contract.", errors, rows=len(rows))
        return Call(document.id, rows, _wanted(document))

    def _parted(self, head: bytes) -> tuple[_Infer, bytes]:
        """The header, and the JSON of the first tensor's numbers."""
        try:
            inputs = self._skeleton(head).inputs
            numbers = bytes(inputs[0].data) if inputs else b""
            rest = head.replace(numbers, b"0", 1) if numbers.startswith(b"[") else head
            if len(rest) > HEADER_BYTES:
                raise Malformed(f"The inference header without its numbers takes at most {HEADER_BYTES} bytes.")
            document = self._header(rest)
        except msgspec.ValidationError as e:
            raise Unacceptable("The request is no inference request.", [FieldError("", str(e)[:300], "type")]) from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            if len(head) <= HEADER_BYTES:
                parse(head)  # tells it better
            raise Malformed(f"The inference request is not JSON: {e}; a missing value is null.") from e
        if [tensor.name for tensor in document.inputs] != [FEATURES]:
            raise _wrong("/inputs", "must be one tensor named 'features'", "missing", FEATURES)
        _refuse_repeated(parse(rest), "")
        return document, numbers

    def _kind(self, tensor: _Tensor) -> np.dtype[Any]:
        kind: np.dtype[Any] | None = KINDS.get(tensor.datatype)
        if kind is None:
            raise _wrong("/inputs/0/datatype", "is not supported", "category", list(KINDS))
        if len(tensor.shape) != 2 or tensor.shape[1] != self._width or tensor.shape[0] < 1:
            raise _wrong("/inputs/0/shape", "does not fit the model", "range", ["rows", self._width])
        if tensor.shape[0] > self._max_rows:
            raise TooLarge(f"A request takes at most {self._max_rows} rows; send them in several.")
        return kind


def _header_length(text: str, size: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= size):
        raise Malformed("Inference-Header-Content-Length is no length within the body.")
    return int(text)


def _refuse_repeated(document: Any, path: str) -> None:
    """Raise Unacceptable where an object has a key twice: which of the two is meant cannot be known."""
    if isinstance(document, dict):
        for key in getattr(document, "repeated", ()):
            raise _wrong(f"{path}/{key[:128]}", "stands more than once in one object", "duplicate", None)
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        _refuse_repeated(value, f"{path}/{key}")


def _from_bytes(tensor: _Tensor, numbers: bytes, binary: bytes, kind: np.dtype[Any], count: int) -> NDArray[np.float64]:
    size = tensor.parameters.get("binary_data_size")
    if numbers or size != len(binary) or size != count * kind.itemsize:
        raise _wrong("/inputs/0/parameters/binary_data_size", "does not fit", "range", count * kind.itemsize)
    return np.frombuffer(binary, kind).astype(np.float64)


_FLAT = msgspec.json.Decoder(list[float | None])
_BY_ROW = msgspec.json.Decoder(list[list[float | None]])
_BEGINS_BY_ROW = re.compile(rb"\[\s*\[")


def _from_json(numbers: bytes, rows: int, count: int) -> Steps[NDArray[np.float64]]:
    """The tensor's numbers, flat; the JSON may have them flat or by row. Ends as soon as there are too many."""
    body = numbers.strip()
    if not body.startswith(b"["):
        raise _no_numbers()
    by_row = _BEGINS_BY_ROW.match(body) is not None
    left = rows if by_row else count
    parts: list[NDArray[np.float64]] = []
    for piece in pieces(body, 1, len(body) - 1, b"]" if by_row else b""):
        if by_row and piece.count(b"[") > left:
            raise _other_count(count)
        try:
            decoded: list[Any] = (_BY_ROW if by_row else _FLAT).decode(b"[%b]" % piece)
            parts.append(np.array(decoded, np.float64).reshape(-1))
        except ValueError as e:  # not numbers, or rows of different lengths
            raise _no_numbers() from e
        left -= len(decoded)
        if left < 0:
            break
        yield 0.0
    if left or sum(part.size for part in parts) != count:
        raise _other_count(count)
    return np.concatenate(parts)


def _other_count(count: int) -> Unacceptable:
    return _wrong("/inputs/0/data", "has another number of numbers than the shape says", "range", count)


def _no_numbers() -> Unacceptable:
    return _wrong("/inputs/0/data", "is no array of numbers", "type", "numbers, null where missing")


def _wanted(document: _Infer) -> list[tuple[str, bool]]:
    binary = document.parameters.get("binary_data_output") is True
    if not document.outputs:
        return [(name, binary) for name in OUTPUTS]
    names = [output.name for output in document.outputs]
    for index, name in enumerate(names):
        if name not in OUTPUTS:
            raise _wrong(f"/outputs/{index}/name", "is no output of this model", "unknown", list(OUTPUTS))
        if name in names[:index]:
            raise _wrong(f"/outputs/{index}/name", "is asked for twice", "duplicate", None)
    return [(output.name, output.parameters.get("binary_data", binary) is True) for output in document.outputs]


def _wrong(path: str, message: str, kind: str, allowed: object) -> Unacceptable:
    return Unacceptable("The inference request does not fit the model.", [FieldError(path, message, kind, allowed)])
