"""Label and field selectors, as they appear in a request's query and in a LabelSelector object."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from creditmodel_sandbox.apiserver.errors import bad_request
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.storage import Record

__all__ = ["Matches", "format_labels", "matches_object", "parse_fields", "parse_labels"]

Matches = Callable[[Record], bool]

_SET = re.compile(r"([^\s,!=()]+)\s+(in|notin)\s*\(([^)]*)\)")
_EQUAL = re.compile(r"([^\s,!=()]+)\s*(==|!=|=)\s*([^\s,!=()]*)")
_EXISTS = re.compile(r"(!?)\s*([^\s,!=()]+)")


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.fullmatch(text):
        key, operator, inside = found.groups()
        values = {value.strip() for value in inside.split(",")}
        return (
            (lambda labels: labels.get(key) in values)
            if operator == "in"
            else (lambda labels: labels.get(key) not in values)
        )
    if found := _EQUAL.fullmatch(text):
        key, operator, value = found.groups()
        return (
            (lambda labels: labels.get(key) != value) if operator == "!=" else (lambda labels: labels.get(key) == value)
        )
    if found := _EXISTS.fullmatch(text):
        negated, key = bool(found[1]), found[2]
        return lambda labels: (key in labels) != negated
    raise bad_request(f"unable to parse requirement: {text!r} is not a label selector")


def parse_labels(text: str) -> Callable[[dict[str, str]], bool]:
    """A test of labels, from `a=b,c!=d,e in (f,g),h,!i`."""
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    requirements = [_requirement(part) for part in parts if part]
    return lambda labels: all(holds(labels) for holds in requirements)


def parse_fields(text: str, resource: Resource) -> Matches:
    """A test of a record, from `metadata.name=x,status.phase!=Running`."""
    wanted = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _EQUAL.fullmatch(part)
        if found is None:
            raise bad_request(f'invalid field selector: "{text}"; can\'t understand {part!r}')
        name, operator, value = found.groups()
        if name not in ("metadata.name", "metadata.namespace", *resource.fields):
            raise bad_request(f"field label not supported: {name}")
        wanted.append((name, value, operator != "!="))
    return lambda record: all((_field(record, name) == value) == equal for name, value, equal in wanted)


def _field(record: Record, name: str) -> str:
    match name:
        case "metadata.name":
            return record.key[1]
        case "metadata.namespace":
            return record.key[0]
        case _:
            return record.fields.get(name, "")


def matches_object(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector object selects labels. None selects nothing, an empty one everything."""
    return selector is not None and parse_labels(format_labels(selector))(labels)


def format_labels(selector: dict[str, Any]) -> str:
    """A LabelSelector object as a query's text."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(expression.get("values") or ())
        operator = expression["operator"]
        parts.append({"Exists": key, "DoesNotExist": f"!{key}"}.get(operator, f"{key} {operator.lower()} ({values})"))
    return ",".join(parts)
