"""The types that a rule is checked against when its definition is created: a misspelt field is found there, not later.

The engine knows structs as protobuf messages only, so a schema is described as messages. Rules are evaluated on plain
values; these descriptions serve the checker alone.
"""

from __future__ import annotations

import re
from typing import Any

from cel_expr_python import cel
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2

from creditmodel_sandbox.apiserver.cel import CelError, compile_rule, environment, escape

__all__ = ["check_rules"]

JSON = dict[str, Any]
T = cel.Type
_PROTO = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "schema"
_ANY = (_PROTO.TYPE_MESSAGE, ".google.protobuf.Value", T.DYN)
_SCALARS: dict[tuple[str, str], tuple[Any, str, Any]] = {
    ("string", "date-time"): (_PROTO.TYPE_MESSAGE, ".google.protobuf.Timestamp", T.TIMESTAMP),
    ("string", "date"): (_PROTO.TYPE_MESSAGE, ".google.protobuf.Timestamp", T.TIMESTAMP),
    ("string", "duration"): (_PROTO.TYPE_MESSAGE, ".google.protobuf.Duration", T.DURATION),
    ("string", "byte"): (_PROTO.TYPE_BYTES, "", T.BYTES),
    ("string", ""): (_PROTO.TYPE_STRING, "", T.STRING),
    ("integer", ""): (_PROTO.TYPE_INT64, "", T.INT),
    ("number", ""): (_PROTO.TYPE_DOUBLE, "", T.DOUBLE),
    ("boolean", ""): (_PROTO.TYPE_BOOL, "", T.BOOL),
}
_META = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}
_ROOT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _META}


class _Messages:
    """A schema's structs as protobuf messages of one file."""

    def __init__(self) -> None:
        self.file = descriptor_pb2.FileDescriptorProto(name="schema.proto", package=_PACKAGE, syntax="proto3")
        for known in (timestamp_pb2, duration_pb2, struct_pb2):
            self.file.dependency.append(known.DESCRIPTOR.name)

    def pool(self) -> descriptor_pool.DescriptorPool:
        pool = descriptor_pool.DescriptorPool()
        for known in (timestamp_pb2, duration_pb2, struct_pb2):
            pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(self.file.SerializeToString())
        return pool

    def struct(self, properties: JSON) -> str:
        """Add a message; its name."""
        message = self.file.message_type.add(name=f"M{len(self.file.message_type)}")
        for name, schema in properties.items():
            if re.fullmatch(r"\w+", written := escape(name)):
                self._field(message, written, schema)
        return f"{_PACKAGE}.{message.name}"

    def _field(self, message: Any, name: str, schema: JSON) -> None:
        field = message.field.add(name=name, number=len(message.field) + 1, label=_PROTO.LABEL_OPTIONAL)
        items, extra = schema.get("items"), schema.get("additionalProperties")
        if schema.get("type") == "array" and isinstance(items, dict) and items.get("type") not in ("array", None):
            field.label = _PROTO.LABEL_REPEATED
            self._fill(field, items)
        elif schema.get("type") == "object" and isinstance(extra, dict):
            entry = message.nested_type.add(name="".join(p[:1].upper() + p[1:] for p in name.split("_")) + "Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_PROTO.LABEL_OPTIONAL, type=_PROTO.TYPE_STRING)
            value = entry.field.add(name="value", number=2, label=_PROTO.LABEL_OPTIONAL)
            self._fill(value, extra)
            field.label, field.type = _PROTO.LABEL_REPEATED, _PROTO.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        else:
            self._fill(field, schema)

    def _fill(self, field: Any, schema: JSON) -> None:
        field.type, name, _ = self.single(schema)
        if name:
            field.type_name = name

    def single(self, schema: JSON) -> tuple[Any, str, Any]:
        """Protobuf type, its name, and CEL type of a value that is neither list nor map; anything else may be all."""
        kind = schema.get("type")
        if schema.get("nullable") or schema.get("x-kubernetes-preserve-unknown-fields"):
            return _ANY
        if kind == "object" and schema.get("properties"):
            name = self.struct(schema["properties"])
            return _PROTO.TYPE_MESSAGE, f".{name}", name
        return _SCALARS.get((kind or "", schema.get("format", "")), _SCALARS.get((kind or "", ""), _ANY))

    def of(self, schema: JSON, root: bool) -> Any:
        """The CEL type of `self` for a schema's rules, by name for a struct."""
        items = schema.get("items")
        if root:
            return self.struct({**schema.get("properties", {}), **_ROOT})
        if schema.get("type") == "array" and isinstance(items, dict):
            return [self.single(items)[2]]
        return self.single(schema)[2]


def check_rules(schema: JSON, root: bool = False) -> list[str]:
    """What is wrong with each of a schema's rules; an empty text where nothing is."""
    rules = schema.get("x-kubernetes-validations") or ()
    if not rules:
        return []
    checker = _checker(schema, root)
    return [_complaint(rule, checker) for rule in rules]


def _checker(schema: JSON, root: bool) -> Any:
    messages = _Messages()
    described = messages.of(schema, root)
    try:
        pool = messages.pool()
    except TypeError:  # names that no message can have together, such as a_b and aB: only functions are checked then
        return environment(T.DYN)
    kind = T.List(_type(described[0])) if isinstance(described, list) else _type(described)
    return environment(kind, pool)


def _type(described: Any) -> Any:
    return T(described) if isinstance(described, str) else described


def _complaint(rule: JSON, checker: Any) -> str:
    try:
        compile_rule(rule, checker)
    except CelError as error:
        return str(error)
    return ""
