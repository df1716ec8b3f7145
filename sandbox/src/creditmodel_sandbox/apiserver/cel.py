"""CEL rules of custom resources: the engine, the functions that Kubernetes adds to it, and values as CEL sees them."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from creditmodel_sandbox.apiserver.errors import FieldError, invalid_value, required, show
from creditmodel_sandbox.apiserver.schema import MISSING, Node, Rule
from creditmodel_sandbox.notation import parse_quantity

__all__ = ["CelError", "CelRule", "compile_rule", "environment", "escape", "to_cel"]

JSON = dict[str, Any]
T = cel.Type
_LIST, _MAP = T.List(T.DYN), T.Map(T.STRING, T.DYN)
_HAS_OLD = "oldSelfIsPresent"
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")


class CelError(ValueError):
    """An expression that cannot be compiled; the message is the engine's."""


# Kubernetes' library. A quantity or URL is a map that carries its kind, so that `==` compares values.


def _quantity(text: str) -> JSON:
    return {"quantity": str(parse_quantity(text).normalize())}


def _amount(value: JSON) -> Decimal:
    return Decimal(value["quantity"])


def _is_quantity(text: str) -> bool:
    return _holds(parse_quantity, text)


def _holds(function: Callable[[str], Any], text: str) -> bool:
    try:
        function(text)
    except ValueError:
        return False
    return True


def _of(left: JSON, right: Any, sign: int) -> JSON:
    other = _amount(right) if isinstance(right, dict) else Decimal(right)
    return {"quantity": str((_amount(left) + sign * other).normalize())}


def _url(text: str) -> JSON:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")):
        raise ValueError(f"{text!r} is not a URL")
    return {"url": text}


def _url_part(read: Callable[[Any], Any]) -> Callable[[JSON], Any]:
    return lambda value: read(urlsplit(value["url"])) or ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group(0) for match in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _index(items: list[Any], wanted: Any, last: bool = False) -> int:
    places = [index for index, item in enumerate(items) if item == wanted]
    return (places[-1] if last else places[0]) if places else -1


def _first(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found.group(0) if found else ""


def _sum(items: list[Any]) -> Any:
    return sum(items[1:], items[0]) if items else 0


# name, whether it is called on a value, result, arguments, implementation
_FUNCTIONS: list[tuple[str, bool, Any, list[Any], Callable[..., Any]]] = [
    ("isSorted", True, T.BOOL, [_LIST], lambda items: all(a <= b for a, b in pairwise(items))),
    ("sum", True, T.DYN, [_LIST], _sum),
    ("min", True, T.DYN, [_LIST], min),
    ("max", True, T.DYN, [_LIST], max),
    ("indexOf", True, T.INT, [_LIST, T.DYN], _index),
    ("lastIndexOf", True, T.INT, [_LIST, T.DYN], lambda items, wanted: _index(items, wanted, last=True)),
    ("find", True, T.STRING, [T.STRING, T.STRING], _first),
    ("findAll", True, T.List(T.STRING), [T.STRING, T.STRING], _find_all),
    ("findAll", True, T.List(T.STRING), [T.STRING, T.STRING, T.INT], _find_all),
    ("sets.contains", False, T.BOOL, [_LIST, _LIST], lambda a, b: all(item in a for item in b)),
    ("sets.intersects", False, T.BOOL, [_LIST, _LIST], lambda a, b: any(item in a for item in b) or not (a or b)),
    ("sets.equivalent", False, T.BOOL, [_LIST, _LIST], lambda a, b: all(i in a for i in b) and all(i in b for i in a)),
    ("quantity", False, _MAP, [T.STRING], _quantity),
    ("isQuantity", False, T.BOOL, [T.STRING], _is_quantity),
    ("isLessThan", True, T.BOOL, [_MAP, _MAP], lambda a, b: _amount(a) < _amount(b)),
    ("isGreaterThan", True, T.BOOL, [_MAP, _MAP], lambda a, b: _amount(a) > _amount(b)),
    ("compareTo", True, T.INT, [_MAP, _MAP], lambda a, b: (_amount(a) > _amount(b)) - (_amount(a) < _amount(b))),
    ("sign", True, T.INT, [_MAP], lambda a: (_amount(a) > 0) - (_amount(a) < 0)),
    ("isInteger", True, T.BOOL, [_MAP], lambda a: _amount(a) == _amount(a).to_integral_value()),
    ("asInteger", True, T.INT, [_MAP], lambda a: int(_amount(a))),
    ("asApproximateFloat", True, T.DOUBLE, [_MAP], lambda a: float(_amount(a))),
    ("add", True, _MAP, [_MAP, T.DYN], lambda a, b: _of(a, b, 1)),
    ("sub", True, _MAP, [_MAP, T.DYN], lambda a, b: _of(a, b, -1)),
    ("url", False, _MAP, [T.STRING], _url),
    ("isURL", False, T.BOOL, [T.STRING], lambda text: _holds(_url, text)),
    ("getScheme", True, T.STRING, [_MAP], _url_part(lambda u: u.scheme)),
    ("getHost", True, T.STRING, [_MAP], _url_part(lambda u: u.netloc.rpartition("@")[2])),
    ("getHostname", True, T.STRING, [_MAP], _url_part(lambda u: u.hostname)),
    ("getPort", True, T.STRING, [_MAP], _url_part(lambda u: str(u.port or ""))),
    ("getQuery", True, T.Map(T.STRING, T.List(T.STRING)), [_MAP], lambda u: parse_qs(urlsplit(u["url"]).query)),
    ("getEscapedPath", True, T.STRING, [_MAP], _url_part(lambda u: u.path)),
]  # fmt: skip


def _declarations() -> list[Any]:
    overloads: dict[str, list[Any]] = {}
    for name, member, result, parameters, function in _FUNCTIONS:
        identity = f"{name}_{len(overloads.get(name, ()))}"
        overloads.setdefault(name, []).append(cel.Overload(identity, result, parameters, member, function))
    return [cel.FunctionDecl(name, found) for name, found in overloads.items()]


def environment(kind: Any, pool: Any = None) -> Any:
    """The engine with Kubernetes' functions, `self` and `oldSelf` of a type, and whether there is an old value."""
    extensions = [
        ext_strings.ExtStrings(),
        ext_math.ExtMath(),
        ext_optional.ExtOptional(),
        ext_encoders.ExtEncoders(),
        ext_bindings.ExtBindings(),
        cel.CelExtension("kubernetes", _declarations()),
    ]
    return cel.NewEnv(
        descriptor_pool=pool, variables={"self": kind, "oldSelf": kind, _HAS_OLD: T.BOOL}, extensions=extensions
    )


@cache
def _untyped() -> Any:
    return environment(T.DYN)


def _compile(expression: str, result: Any, engine: Any) -> Any:
    try:
        compiled = engine.compile(expression)
    except RuntimeError as error:
        text = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
        raise CelError(f"compilation failed: {text}") from error
    found = compiled.return_type()
    if found not in (result, T.DYN):
        raise CelError(f"cel expression must evaluate to a {result.name().lower()}, not {found.name().lower()}")
    return compiled


def compile_rule(source: JSON, engine: Any) -> tuple[Any, Any]:
    """The programs of a rule and of its messageExpression (or None).

    Raises CelError, for a function that is not known too.
    """
    if source.get("reason", "FieldValueInvalid") not in _REASONS:
        raise CelError(f"reason {source['reason']!r} is none of {', '.join(_REASONS)}")
    expression = source.get("messageExpression")
    message = _compile(_optional(source, expression), T.STRING, engine) if expression else None
    return _compile(_optional(source, source["rule"]), T.BOOL, engine), message


def _optional(source: JSON, expression: str) -> str:
    """The expression with `oldSelf` as an optional value, for a rule that asks for it."""
    if not source.get("optionalOldSelf"):
        return expression
    return f"cel.bind(oldSelf, {_HAS_OLD} ? optional.of(oldSelf) : optional.none(), {expression}\n)"


# Values

_RESERVED = {
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
}


def escape(name: str) -> str:
    """A property's name as CEL can write it."""
    if name in _RESERVED:
        return f"__{name}__"
    for text, written in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(text, written)
    return name


def to_cel(node: Node | None, value: Any) -> Any:
    """A JSON value as its schema types it: a number is a double, a date-time a timestamp."""
    if isinstance(value, dict):
        if node is None or not node.properties:
            extra = node.extra if node is not None and isinstance(node.extra, Node) else None
            return {name: to_cel(extra, item) for name, item in value.items()}
        return {escape(name): to_cel(node.child(name), item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [to_cel(node.items if node else None, item) for item in value]
    if node is None or value is None:
        return value
    return _scalar(node, value)


def _scalar(node: Node, value: Any) -> Any:
    match node.type, node.format:
        case "number", _:
            return float(value)
        case "integer", _:
            return int(value)
        case "string", "date-time":
            return _timestamp(datetime.fromisoformat(value))
        case "string", "date":
            return _timestamp(datetime.fromisoformat(value).replace(tzinfo=UTC))
        case "string", "duration":
            return _duration(value)
        case "string", "byte":
            return b64decode(value)
        case _:
            return value


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _timestamp(moment: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def _duration(text: str) -> Duration:
    parts = re.findall(r"(\d+(?:\.\d*)?)\s*(ns|us|µs|ms|s|m|h|d|w)", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    found = Duration()
    found.FromTimedelta(timedelta(seconds=-seconds if text.startswith("-") else seconds))
    return found


# Rules


def _named(obj: JSON) -> JSON:
    """A whole object as rules may see it: of its metadata only the name."""
    meta = {name: text for name, text in obj.get("metadata", {}).items() if name in ("name", "generateName")}
    return {**obj, "metadata": meta}


_WHOLE = re.compile(r"\b(?:self|oldSelf)\b(?!\s*\.\s*[A-Za-z_])")
_FIELD = re.compile(r"\b(?:self|oldSelf)\s*\.\s*(\w+)")


def _fields(text: str) -> frozenset[str] | None:
    """The fields of an object that a rule reads; None if that may be all of them."""
    return None if _WHOLE.search(text) else frozenset(_FIELD.findall(text))


class CelRule(Rule):
    """One entry of x-kubernetes-validations. Of a large object only what the rule reads is made ready for it."""

    def __init__(self, source: JSON) -> None:
        """Compile it.

        Raises CelError.
        """
        self._source: str = source["rule"]
        self._message: str = source.get("message", "")
        self._program, self._message_program = compile_rule(source, _untyped())
        self._reason: str = source.get("reason", "FieldValueInvalid")
        self._field: str = source.get("fieldPath", "")
        self.transition = self.looks_back(source)
        self._needs_old = self.transition and not source.get("optionalOldSelf")
        texts = f"{self._source} {source.get('messageExpression', '')}"
        self._fields, self._names_old = _fields(texts), "oldSelf" in texts

    @staticmethod
    def looks_back(source: JSON) -> bool:
        """Whether a rule compares with the old value."""
        return bool(re.search(r"\boldSelf\b", source["rule"]))

    def check(self, node: Node, value: Any, old: Any, path: str) -> list[FieldError]:
        if self._needs_old and old is MISSING:
            return []
        if not path:
            value, old = _named(value), old if old is MISSING else _named(old)
        before = self._read(node, old) if self._names_old and old is not MISSING else None
        data = {"self": self._read(node, value), "oldSelf": before, _HAS_OLD: old is not MISSING}
        result = self._program.eval(data=data)
        if result.type() == T.ERROR:
            why = re.sub(r'^NOT_FOUND: Key not found in map : "(.*)"', r"no such key: \1", str(result.value()))
            detail = f"{why} evaluating rule: {self._message or self._source}"
        elif result.value() is True:
            return []
        else:
            detail = self._text(data)
        return [self._error(value, path, detail)]

    def _read(self, node: Node, value: Any) -> Any:
        if isinstance(value, dict) and node.properties and self._fields is not None:
            value = {name: item for name, item in value.items() if escape(name) in self._fields}
        return to_cel(node, value)

    def _text(self, data: JSON) -> str:
        if self._message_program is not None:
            found = self._message_program.eval(data=data)
            if found.type() == T.STRING and found.value().strip():
                return str(found.value()).strip()
        return self._message.strip() or f"failed rule: {self._source}"

    def _error(self, value: Any, path: str, detail: str) -> FieldError:
        where = (path + self._field).lstrip(".") or "<nil>"
        match self._reason:
            case "FieldValueRequired":
                return required(where, detail)
            case "FieldValueForbidden":
                return FieldError(where, self._reason, f"Forbidden: {detail}")
            case "FieldValueDuplicate":
                return FieldError(where, self._reason, f"Duplicate value: {show(value)}")
            case _ if isinstance(value, dict | list):  # too much to show
                return FieldError(where, self._reason, f"Invalid value: {detail}")
            case _:
                return invalid_value(where, value, detail)
