"""The part of kubectl's JSONPath that printer columns use: fields, indexes, `[*]` and `[?(@.a=="b")]`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

__all__ = ["JsonPathError", "compile_path"]

_STEP = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+) | \[(?P<index>-?\d+)\] | \[(?P<all>\*)\]
      | \[['"](?P<quoted>(?:\\.|[^'"\\])+)['"]\]
      | \[\?\(\s*@(?P<path>[^=!<>\s]+)\s*(?P<operator>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]""",
    re.VERBOSE,
)

Step = Callable[[Any], list[Any]]


class JsonPathError(ValueError):
    """A path that cannot be read."""


def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """A function that finds all values at a path.

    Raises JsonPathError.
    """
    steps: list[Step] = []
    position = 0
    while position < len(path):
        found = _STEP.match(path, position)
        if found is None:
            raise JsonPathError(f"cannot read {path!r} from {path[position:]!r} on")
        steps.append(_step(found))
        position = found.end()

    def find(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            values = [result for item in values for result in step(item)]
        return values

    return find


def _step(found: re.Match[str]) -> Step:
    if found["all"]:
        return lambda value: (
            list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        )
    if found["index"]:
        index = int(found["index"])
        return lambda value: value[index:][:1] if isinstance(value, list) else []
    if found["path"]:
        return _filter(found["path"], found["operator"], found["value"])
    name = re.sub(r"\\(.)", r"\1", found["name"] or found["quoted"])
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else []


def _filter(path: str, operator: str, text: str) -> Step:
    find = compile_path(path)
    wanted = text[1:-1] if text[0] in "'\"" else json.loads(text)
    return lambda value: [
        item for item in (value if isinstance(value, list) else []) if (wanted in find(item)) == (operator == "==")
    ]
