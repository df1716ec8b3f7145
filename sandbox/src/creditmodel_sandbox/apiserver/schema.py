"""Structural schemas: one tree of nodes for built-in kinds and custom resources alike.

`prune` drops what a schema does not declare, `fill` adds defaults, `validate` says what is wrong. All three walk the
same `Node`, which also carries the list and map types that server-side apply and strategic merge need.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from creditmodel_sandbox.apiserver.errors import FieldError, invalid_value, required, show, unsupported_value

__all__ = ["MISSING", "TYPE_INVALID", "Node", "Rule", "ask_rules", "fill", "item_key", "judge", "prune", "validate"]

JSON = dict[str, Any]
MISSING: Any = object()
"""Stands for a value that is not there, where None is a value."""

TYPE_INVALID = "FieldValueTypeInvalid"


class Rule:
    """A CEL rule of a node: gives the field errors of a value, given the value before it (or MISSING)."""

    transition = False

    def check(self, node: Node, value: Any, old: Any, path: str) -> list[FieldError]:
        raise NotImplementedError


class Node:
    """One schema: its type, its children, and what a value must satisfy."""

    __slots__ = (
        "alternatives",
        "bounded",
        "builtin",
        "default",
        "enum",
        "extra",
        "filled",
        "format",
        "int_or_string",
        "items",
        "limits",
        "list_type",
        "looks_back",
        "map_keys",
        "map_type",
        "merge_key",
        "nullable",
        "preserve",
        "properties",
        "required",
        "ruled",
        "rules",
        "strategy",
        "type",
    )

    def __init__(self, schema: JSON, builtin: bool = False) -> None:
        """Read what a schema says of the value itself; the children are added by whoever resolves references."""
        declared = schema.get("type")
        self.type: str | None = declared[0] if isinstance(declared, list) else declared
        self.builtin = builtin
        self.nullable: bool = bool(schema.get("nullable"))
        self.format: str | None = schema.get("format")
        self.int_or_string: bool = bool(schema.get("x-kubernetes-int-or-string"))
        self.preserve: bool = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.list_type: str = schema.get("x-kubernetes-list-type", "atomic")
        self.map_type: str = schema.get("x-kubernetes-map-type", "granular")
        self.map_keys: list[str] = schema.get("x-kubernetes-list-map-keys", [])
        self.merge_key: str | None = schema.get("x-kubernetes-patch-merge-key")
        self.strategy: str = schema.get("x-kubernetes-patch-strategy", "")
        self.default: Any = MISSING if builtin else schema.get("default", MISSING)
        self.enum: list[Any] | None = schema.get("enum")
        self.required: list[str] = schema.get("required", [])
        self.limits: JSON = {key: schema[key] for key in _LIMITS if key in schema}
        self.bounded = bool(
            self.enum is not None
            or self.required
            or self.limits
            or self.format
            or self.type == "integer"
            or self.list_type != "atomic"
        )
        """Whether a value of the right type can be wrong in itself."""
        self.properties: dict[str, Node] = {}
        self.extra: Node | bool = False
        self.items: Node | None = None
        self.alternatives: dict[str, list[Node]] = {}
        self.filled = False
        """Whether there are defaults below."""
        self.rules: list[Rule] = []
        self.ruled = False
        """Whether there are rules here or below."""
        self.looks_back = False
        """Whether there are transition rules here or below, which are asked of unchanged values too."""

    def child(self, name: str) -> Node | None:
        """The schema of a field, declared or additional; None where anything goes or nothing is declared."""
        found = self.properties.get(name)
        return found or (self.extra if isinstance(self.extra, Node) else None)

    def atomic(self) -> bool:
        """Whether server-side apply treats a value as one field."""
        return (self.list_type if self.type == "array" else self.map_type) == "atomic"

    @classmethod
    def parse(
        cls, schema: JSON, rules: Callable[[JSON], list[Rule]] = lambda _: [], metadata: Node | None = None
    ) -> Node:
        """A custom resource's schema.

        `rules` compiles a node's x-kubernetes-validations, `metadata` is the schema of embedded objects' metadata.
        """
        node = cls(schema)
        properties = schema.get("properties", {})
        node.properties = {name: cls.parse(child, rules, metadata) for name, child in properties.items()}
        extra = schema.get("additionalProperties")
        node.extra = cls.parse(extra, rules, metadata) if isinstance(extra, dict) else bool(extra)
        if isinstance(schema.get("items"), dict):
            node.items = cls.parse(schema["items"], rules, metadata)
        if schema.get("x-kubernetes-embedded-resource") and metadata is not None:
            node.properties |= {"apiVersion": cls({"type": "string"}), "kind": cls({"type": "string"})}
            node.properties["metadata"] = metadata
            node.required, node.bounded = [*dict.fromkeys([*node.required, "apiVersion", "kind"])], True
        for word in ("allOf", "anyOf", "oneOf"):
            if word in schema:
                node.alternatives[word] = [cls.parse(part) for part in schema[word]]
        if "not" in schema:
            node.alternatives["not"] = [cls.parse(schema["not"])]
        node.rules = rules(schema)
        below = [*node.properties.values(), *(part for part in (node.extra, node.items) if isinstance(part, Node))]
        node.ruled = bool(node.rules) or any(child.ruled for child in below)
        node.filled = any(child.filled or child.default is not MISSING for child in below)
        node.looks_back = any(rule.transition for rule in node.rules) or any(child.looks_back for child in below)
        return node


def item_key(node: Node, item: Any) -> tuple[Any, ...] | None:
    """What identifies an item of a list of type map: its keys, defaulted. None when a key is missing."""
    if not isinstance(item, dict) or node.items is None:
        return None
    values = []
    for name in node.map_keys:
        child = node.items.properties.get(name)
        value = item.get(name, child.default if child else MISSING)
        if value is MISSING:
            return None
        values.append(value)
    return tuple(values)


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# Pruning


def prune(node: Node, value: Any, path: str = "", keep_null: bool = False) -> list[str]:
    """Remove in place the fields that the schema does not declare; their paths.

    In built-in kinds a null means absent, and an empty map or list is not stored, as with Go's omitempty. In custom
    resources a null means absent where it is not allowed, unless `keep_null`.
    """
    unknown: list[str] = []
    if isinstance(value, dict):
        for name in list(value):
            child = node.properties.get(name)
            if child is None:
                if isinstance(node.extra, Node):
                    child = node.extra
                elif not (node.preserve or node.extra or (node.builtin and not node.properties)):
                    unknown.append(join(path, name))
                    del value[name]
                    continue
            if child is not None:
                item = value[name]
                if isinstance(item, dict | list):
                    unknown += prune(child, item, join(path, name), keep_null)
                if not item and _vanishes(node, child, name, item) and not (keep_null and not child.builtin):
                    del value[name]
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            unknown += prune(node.items, item, f"{path}[{index}]", keep_null)
    return unknown


def _vanishes(parent: Node, child: Node, name: str, value: Any) -> bool:
    if not child.builtin:
        return value is None and not child.nullable
    if value is None:
        return True
    collection = child.type == "array" or isinstance(child.extra, Node)
    return collection and not value and name not in parent.required and not isinstance(parent.extra, Node)


# Defaulting


def fill(node: Node, value: Any) -> None:
    """Add the schema's defaults in place."""
    if isinstance(value, dict):
        for name, child in node.properties.items():
            if name not in value and child.default is not MISSING:
                value[name] = deepcopy(child.default)
        for name, item in value.items():
            found = node.child(name)
            if found is not None and found.filled:
                fill(found, item)
    elif isinstance(value, list) and node.items is not None and node.items.filled:
        for item in value:
            fill(node.items, item)


# Validation

_LIMITS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
    "number": lambda v: not isinstance(v, bool) and isinstance(v, int | float),
}


def type_name(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    return next(name for name in ("object", "array", "string", "boolean", "integer", "number") if _TYPES[name](value))


def validate(node: Node, value: Any, old: Any = MISSING, path: str = "") -> list[FieldError]:
    """What a schema finds wrong with a value. What did not change since `old` is not judged again."""
    if old is not MISSING and old == value:
        return []
    wrong = _type_error(node, value, path)
    if wrong:
        return [wrong]
    if value is None:
        return []
    errors = list(_own_errors(node, value, path)) if node.bounded else []
    if node.alternatives:
        errors += _alternative_errors(node, value, path)
    for child, item, before, where in _children(node, value, old, path):
        errors += validate(child, item, before, where)
    return errors


_BLOCKING = {f"FieldValue{word}" for word in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid")}
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


def judge(node: Node, value: Any, old: Any, errors: Sequence[FieldError]) -> list[FieldError]:
    """What the rules find wrong with a whole object in which `validate` found `errors`: of some kinds, they keep
    rules from being asked at all."""
    if node.ruled and any(error.reason in _BLOCKING for error in errors):
        return [invalid_value("<nil>", None, _NOT_CHECKED)]
    return ask_rules(node, value, old, "")


def ask_rules(node: Node, value: Any, old: Any, path: str) -> list[FieldError]:
    """What the rules find wrong with a value of the right form."""
    if not node.ruled or value is None:
        return []
    unchanged = old is not MISSING and old == value
    if unchanged and not node.looks_back:
        return []
    asked = [rule for rule in node.rules if rule.transition or not unchanged]
    errors = [error for rule in asked for error in rule.check(node, value, old, path)]
    for child, item, before, where in _children(node, value, old, path):
        errors += ask_rules(child, item, before, where)
    return errors


def _type_error(node: Node, value: Any, path: str) -> FieldError | None:
    if node.int_or_string:
        good, wanted = isinstance(value, str) or _TYPES["integer"](value), "integer,string"
    elif node.type is None or (value is None and node.nullable):
        return None
    else:
        good, wanted = _TYPES[node.type](value), node.type
    if good or (value is None and node.nullable):
        return None
    found = type_name(value)
    text = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
    return FieldError(path, TYPE_INVALID, text)


def _children(node: Node, value: Any, old: Any, path: str) -> Iterator[tuple[Node, Any, Any, str]]:
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            child = node.child(name)
            if child is not None:
                yield child, item, before.get(name, MISSING), join(path, name)
    elif isinstance(value, list) and node.items is not None:
        known = {}
        if node.list_type == "map" and isinstance(old, list):
            known = {item_key(node, item): item for item in old}
        for index, item in enumerate(value):
            before = known.get(item_key(node, item), MISSING) if known else item if old == value else MISSING
            yield node.items, item, before, f"{path}[{index}]"


def _own_errors(node: Node, value: Any, path: str) -> Iterator[FieldError]:
    if node.enum is not None and value not in node.enum:
        yield unsupported_value(path, value, node.enum)
    match value:
        case dict():
            missing = [name for name in node.required if name not in value]
            yield from (required(join(path, name)) for name in missing)
            yield from _count_errors(node, value, path, "Properties", "properties")
        case list():
            yield from _count_errors(node, value, path, "Items", "items")
            yield from _duplicates(node, value, path)
        case str():
            yield from _string_errors(node, value, path)
        case int() | float() if not isinstance(value, bool):
            yield from _builtin_bounds(node.limits, value, path) if node.builtin else _number_errors(node, value, path)
        case _:
            pass


def _count_errors(node: Node, value: Any, path: str, suffix: str, noun: str) -> Iterator[FieldError]:
    least, most = node.limits.get(f"min{suffix}"), node.limits.get(f"max{suffix}")
    if least is not None and len(value) < least and node.builtin:
        yield required(path)
    elif least is not None and len(value) < least:
        yield invalid_value(path, len(value), f"{path} in body should have at least {least} {noun}")
    if most is not None and len(value) > most:
        yield FieldError(path, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {most} {noun}")


def _duplicates(node: Node, value: list[Any], path: str) -> Iterator[FieldError]:
    if node.builtin:  # not every list of a built-in kind must keep to its published keys: env may name one twice
        return
    seen: list[Any] = []
    for index, item in enumerate(value):
        if node.list_type == "map":
            key: Any = item_key(node, item)
            shown: Any = dict(zip(node.map_keys, key, strict=True)) if key else None
        elif node.list_type == "set" or node.limits.get("uniqueItems"):
            key = shown = item
        else:
            return
        if key is not None and key in seen:
            duplicate = invalid_value("", shown, "").text.removeprefix("Invalid value: ").removesuffix(": ")
            yield FieldError(f"{path}[{index}]", "FieldValueDuplicate", f"Duplicate value: {duplicate}")
        seen.append(key)


def _string_errors(node: Node, value: str, path: str) -> Iterator[FieldError]:
    limits = node.limits
    if len(value) < limits.get("minLength", 0) and node.builtin:
        yield required(path)
    elif len(value) < limits.get("minLength", 0):
        yield invalid_value(path, value, f"{path} in body should be at least {limits['minLength']} chars long")
    if "maxLength" in limits and len(value) > limits["maxLength"]:
        text = f"Too long: may not be more than {limits['maxLength']} bytes"
        yield FieldError(path, "FieldValueTooLong", text)
    if "pattern" in limits and not re.search(limits["pattern"], value):
        yield invalid_value(path, value, f"{path} in body should match '{limits['pattern']}'")
    if node.format and (not node.builtin or node.format == "byte") and not has_format(node.format, value):
        text = f'Invalid value: {show(value)}: {path} in body must be of type {node.format}: "{value}"'
        yield FieldError(path, TYPE_INVALID, text)


_BITS = {"int32": 31, "int64": 63}


def _builtin_bounds(limits: JSON, value: float, path: str) -> Iterator[FieldError]:
    """The same for a built-in kind, in the words of its validation."""
    least, most = limits.get("minimum", value), limits.get("maximum", value)
    if not least <= value <= most:
        text = f"between {least} and {most}, inclusive" if "maximum" in limits else f"greater than or equal to {least}"
        yield invalid_value(path, value, f"must be {text}")


def _number_errors(node: Node, value: float, path: str) -> Iterator[FieldError]:
    limits = node.limits
    bits = _BITS.get(node.format or "int64", 63)
    if node.type == "integer" and not -(2**bits) <= value < 2**bits:
        kind = f"with format {node.format}" if node.format else "(default format)"
        yield invalid_value("<nil>", "", f"Checked value must be of type integer {kind} in {path}")
    if "minimum" in limits:
        least, strict = limits["minimum"], limits.get("exclusiveMinimum")
        if value < least or (strict and value == least):
            yield invalid_value(
                path, value, f"{path} in body should be greater than {'' if strict else 'or equal to '}{least}"
            )
    if "maximum" in limits:
        most, strict = limits["maximum"], limits.get("exclusiveMaximum")
        if value > most or (strict and value == most):
            yield invalid_value(
                path, value, f"{path} in body should be less than {'' if strict else 'or equal to '}{most}"
            )
    if "multipleOf" in limits and value % limits["multipleOf"]:
        yield invalid_value(path, value, f"{path} in body should be a multiple of {limits['multipleOf']}")


_ALTERNATIVES: dict[str, tuple[Callable[[Sequence[bool]], bool], str]] = {
    "allOf": (all, "must validate all the schemas (allOf)"),
    "anyOf": (any, "must validate at least one schema (anyOf)"),
    "oneOf": (lambda good: sum(good) == 1, "must validate one and only one schema (oneOf)"),
    "not": (lambda good: not good[0], "must not validate the schema (not)"),
}


def _alternative_errors(node: Node, value: Any, path: str) -> Iterator[FieldError]:
    for word, parts in node.alternatives.items():
        verdicts = [validate(part, value, path=path) for part in parts]
        accepted, message = _ALTERNATIVES[word]
        if not accepted([not errors for errors in verdicts]):
            yield from (error for errors in verdicts for error in errors if word == "allOf")
            yield invalid_value(path, value, f'"{path}" {message}')


# Formats


def _date_time(value: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", value):
        return False
    return _succeeds(datetime.fromisoformat, value[:19])


def _succeeds(function: Callable[[str], Any], value: str) -> bool:
    try:
        function(value)
    except ValueError:
        return False
    return True


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _date_time,
    "date": lambda v: bool(re.fullmatch(r"\d{4}-\d\d-\d\d", v)) and _succeeds(datetime.fromisoformat, v),
    "duration": lambda v: bool(re.fullmatch(r"[+-]?(\d+(\.\d*)?\s*(ns|us|µs|ms|s|m|h|d|w)\s*)+|0", v)),
    "byte": lambda v: _succeeds(lambda text: b64decode(text, validate=True), v),
    "email": lambda v: bool(re.fullmatch(r"[^@\s]+@[^@\s]+", v)),
    "hostname": lambda v: len(v) < 256 and bool(re.fullmatch(r"([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.?)+", v)),
    "ipv4": lambda v: _succeeds(ipaddress.IPv4Address, v),
    "ipv6": lambda v: _succeeds(ipaddress.IPv6Address, v),
    "cidr": lambda v: "/" in v and _succeeds(lambda text: ipaddress.ip_network(text, strict=False), v),
    "mac": lambda v: bool(re.fullmatch(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", v)),
    "uuid": lambda v: _succeeds(UUID, v),
    "uri": lambda v: bool(urlsplit(v).scheme) or v.startswith("/"),
}


def has_format(name: str, value: str) -> bool:
    """Whether a string has a format; a format that Kubernetes does not know is not checked."""
    check = _FORMATS.get(name)
    return check is None or check(value)
