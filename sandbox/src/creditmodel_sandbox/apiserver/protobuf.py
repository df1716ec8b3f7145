"""Built-in kinds as protobuf, in which clients with generated types (kubectl create) send their bodies.

Requests only: answers are JSON, which every such client accepts too. `protobuf_fields.json` holds the published field
numbers of the served kinds: message → number → [JSON name, type, when it is written]; `protobuf_table.py` in the
distribution's folder reads them again from a kubectl binary.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from creditmodel_sandbox.apiserver.errors import bad_request, not_implemented

__all__ = ["PROTOBUF", "decode_object"]

PROTOBUF = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_META = "meta/v1"

_Wire = tuple[int, int | bytes]
"""A field's number and its raw value: an integer, or the bytes of something with a length."""


def decode_object(data: bytes) -> dict[str, Any]:
    """The object in a Kubernetes protobuf envelope. Raises 400 for bytes that are none, 501 for an unknown kind."""
    if not data.startswith(_MAGIC):
        raise bad_request("the body is no Kubernetes protobuf: it does not begin with its magic number")
    try:
        envelope = dict(_fields(data[len(_MAGIC) :]))
        type_meta = dict(_fields(_bytes(envelope.get(1, b""))))
        version, kind = _bytes(type_meta.get(1, b"")).decode(), _bytes(type_meta.get(2, b"")).decode()
        message = _message(version, kind)
        return {"apiVersion": version, "kind": kind, **_decode(message, _bytes(envelope.get(2, b"")))}
    except (ValueError, IndexError, struct.error) as e:
        raise bad_request(f"the body is not valid protobuf: {e}") from e


@cache
def _tables() -> dict[str, dict[str, list[str]]]:
    text = files("creditmodel_sandbox.apiserver").joinpath("protobuf_fields.json").read_text()
    tables: dict[str, dict[str, list[str]]] = json.loads(text)
    return tables


def _message(api_version: str, kind: str) -> str:
    """The name of a kind's message, as in apps/v1.Deployment."""
    group, _, version = api_version.rpartition("/")
    for name in (f"{group.split('.')[0] or 'core'}/{version}.{kind}", f"{_META}.{kind}"):
        if name in _tables():
            return name
    raise not_implemented(f"{api_version} {kind} as protobuf; send it as JSON")


def _decode(message: str, data: bytes) -> dict[str, Any]:
    """A message's fields by their JSON names; embedded messages without a name are merged into it."""
    table = _tables()[message]
    result: dict[str, Any] = {}
    for number, value in _fields(data):
        if str(number) not in table:
            raise not_implemented(f"field {number} of {message}; send the object as JSON")
        name, kind, presence = table[str(number)]
        if kind.startswith("map "):
            key, item = _entry(kind.removeprefix("map "), _bytes(value))
            result.setdefault(name, {})[key] = item
        elif kind.startswith("list "):
            result.setdefault(name, []).extend(_items(kind.removeprefix("list "), value))
        elif name == "":
            result.update(_value(kind, value))
        elif presence != "omitempty" or (decoded := _value(kind, value)) not in (None, "", 0, False, {}):
            result[name] = _value(kind, value) if presence != "omitempty" else decoded
    return result


def _items(kind: str, value: int | bytes) -> list[Any]:
    """One element of a list, or several where integers are packed."""
    if kind in ("int", "bool") and isinstance(value, bytes):
        return [_value(kind, number) for number in _packed(value)]
    return [_value(kind, value)]


def _entry(kind: str, data: bytes) -> tuple[str, Any]:
    pair = dict(_fields(data))
    return _bytes(pair.get(1, b"")).decode(), _value(kind, pair.get(2, b""))


def _value(kind: str, value: int | bytes) -> Any:
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    return _decode(kind, _bytes(value))


def _signed(value: int | bytes) -> int:
    number = int(value) if isinstance(value, int) else 0
    return number - (1 << 64) if number >= 1 << 63 else number


def _double(value: int | bytes) -> float:
    return float(struct.unpack("<d", int(value).to_bytes(8, "little"))[0]) if isinstance(value, int) else 0.0


def _time(value: int | bytes, *, micro: bool = False) -> str | None:
    """RFC 3339; the zero time is None."""
    parts = dict(_fields(_bytes(value)))
    if not parts:
        return None
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=_signed(parts.get(1, 0)))
    moment += timedelta(microseconds=_signed(parts.get(2, 0)) // 1000 if micro else 0)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _int_or_string(value: int | bytes) -> int | str:
    parts = dict(_fields(_bytes(value)))
    return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _signed(parts.get(2, 0))


def _first_bytes(value: int | bytes) -> bytes:
    return _bytes(dict(_fields(_bytes(value))).get(1, b""))


_SCALARS: dict[str, Any] = {
    "string": lambda value: _bytes(value).decode(),
    "bytes": lambda value: base64.b64encode(_bytes(value)).decode(),
    "bool": bool,
    "int": _signed,
    "double": _double,
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": lambda value: _time(value, micro=True),
    f"{_META}.FieldsV1": lambda value: json.loads(_first_bytes(value) or b"{}"),
    "api/resource.Quantity": lambda value: _first_bytes(value).decode(),
    "util/intstr.IntOrString": _int_or_string,
    "runtime.RawExtension": lambda value: json.loads(_first_bytes(value) or b"null"),
}


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("a number stands where something with a length was expected")


def _fields(data: bytes) -> Iterator[_Wire]:
    """The fields of a message in the order in which they were written."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("it ends in the middle of a field")
        chunk = data[at : at + size]
        at += size
        yield number, chunk if wire == 2 else int.from_bytes(chunk, "little")


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("an integer of over 64 bits")
