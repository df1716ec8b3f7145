"""Kubernetes' small notations, for every part of the sandbox: label selectors, flags, quantities and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

__all__ = [
    "QuantityError",
    "SelectorError",
    "format_selector",
    "format_time",
    "is_set",
    "matches",
    "parse_quantity",
    "parse_selector",
]

Labels = Mapping[str, str]

# Label selectors

_OPERATORS: dict[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}
_REQUIREMENT = re.compile(
    r"""(?P<absent>!)?\s*(?P<key>[^\s,!=()<>]+)\s*
        (?: (?P<set>\b(?:in|notin))\s*\((?P<values>[^)]*)\) | (?P<sign>==|!=|=)\s*(?P<value>[^\s,!=()<>]*) )?""",
    re.VERBOSE,
)
_NAMED = {"in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn"}


class SelectorError(ValueError):
    """A text that is not a label selector."""


def matches(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a LabelSelector object selects labels. None selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(
        _OPERATORS[expression["operator"]](labels.get(expression["key"]), expression.get("values") or [])
        for expression in selector.get("matchExpressions") or ()
    )


def parse_selector(text: str) -> dict[str, Any]:
    """The LabelSelector object of a text such as `a=b,c!=d,e in (f,g),h,!i`. Raises SelectorError."""
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    return {"matchExpressions": [_requirement(part) for part in parts if part]}


def _requirement(text: str) -> dict[str, Any]:
    found = _REQUIREMENT.fullmatch(text)
    word = found and (found["set"] or found["sign"])
    if found is None or (found["absent"] and word):
        raise SelectorError(f"unable to parse requirement: {text!r} is not a label selector")
    if not word:
        return {"key": found["key"], "operator": "DoesNotExist" if found["absent"] else "Exists"}
    values = [value.strip() for value in found["values"].split(",")] if found["set"] else [found["value"]]
    return {"key": found["key"], "operator": _NAMED[word], "values": values}


def format_selector(selector: Mapping[str, Any]) -> str:
    """A LabelSelector object as a query's text."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        operator = expression["operator"]
        parts.append({"Exists": key, "DoesNotExist": f"!{key}"}.get(operator, f"{key} {operator.lower()} ({values})"))
    return ",".join(parts)


# Flags


def is_set(text: str | None) -> bool:
    """Whether a flag of a query is on: `0` and `false` in any case say no, and every other word, none too, says yes."""
    return text is not None and text.lower() not in ("0", "false")


# Quantities

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i|))")


class QuantityError(ValueError):
    """A text that is not a quantity."""


def parse_quantity(value: str | float) -> Decimal:
    """An amount such as `500m`, `1.5Gi`, `2e3` or 3 in the base unit. Raises QuantityError."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        raise QuantityError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    number, exponent, suffix = found.groups()
    return Decimal(number + exponent) if exponent else Decimal(number) * _SUFFIXES[suffix]


# Times


def format_time(time: datetime | None = None) -> str:
    """A metav1.Time, now without one: UTC, whole seconds."""
    return (time or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
