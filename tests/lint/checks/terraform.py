"""Terraform's layout: by `terraform fmt` where it is installed, else by a parser and three of its rules."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import hcl2

from checks.common import Outcome, files, ran

__all__ = ["layout", "layout_errors"]

OPENING, CLOSING = "([{", ")]}"
HEREDOC = re.compile(r"<<[-~]?(\w+)$")
ATTRIBUTE = re.compile(r'^(?P<key>[\w."/-]+|\([^)]*\))(?P<space> +)=(?P<after> +)(?=[^=>])(?P<value>.*)$')


def layout(root: Path) -> Outcome:
    """Whether every file of Terraform parses and is laid out as `terraform fmt` would."""
    terraform = shutil.which("terraform")
    if terraform:
        return ran([terraform, "fmt", "-check", "-recursive", "-diff", "terraform"], root)
    found = [
        f"{path.relative_to(root)}{error}"
        for path in files(root, "terraform/*.tf", "terraform/*.hcl", "terraform/*.tfvars.example")
        for error in layout_errors(path.read_text())
    ]
    return Outcome(tuple(found), "terraform is not here: syntax, indentation and alignment only")


def layout_errors(text: str) -> Iterator[str]:
    """What is wrong with one file, each beginning with `:line: `."""
    try:
        hcl2.parses_to_tree(text)
    except Exception as e:  # noqa: BLE001 - the parser raises many types, all of which mean that it is no HCL
        yield f":{getattr(e, 'line', 1)}: does not parse: {str(e).splitlines()[0]}"
        return
    yield from _indentation_errors(text)
    yield from _alignment_errors(text)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of every line outside of heredocs."""
    end = ""
    for number, line in enumerate(text.splitlines(), 1):
        if end:
            end = "" if line.strip() == end else end
            continue
        yield number, line
        if found := HEREDOC.search(line):
            end = found[1]


def _indentation_errors(text: str) -> Iterator[str]:
    """Two spaces for every line that leaves brackets open; brackets that one line opens together count once."""
    open_lines: list[int] = []  # for each open bracket, the line that opened it
    for number, line in _lines(text):
        if line != line.rstrip():
            yield f":{number}: ends in spaces"
        code = _without_strings(line)
        leading = len(code) - len(code.lstrip(f"{CLOSING}, "))
        closing = sum(c in CLOSING for c in code[:leading])
        outer = open_lines[: len(open_lines) - closing]
        depth = len(set(outer))
        if line.strip() and len(line) - len(line.lstrip()) != 2 * depth:
            yield f":{number}: must be indented by {2 * depth} spaces"
        for c in code:
            if c in OPENING:
                open_lines.append(number)
            elif c in CLOSING and open_lines:
                open_lines.pop()


def _alignment_errors(text: str) -> Iterator[str]:
    """The equals signs of lines that follow each other at one depth stand below each other."""
    group: list[tuple[int, str, int]] = []
    for number, line in [*_lines(text), (0, "")]:
        match = ATTRIBUTE.match(line.strip())
        indent = len(line) - len(line.lstrip())
        if group and (match is None or number != group[-1][0] + 1 or indent != group[0][2]):
            yield from _group_errors(group)
            group = []
        if match:
            code = _without_strings(line)
            if match["after"] != " ":
                yield f":{number}: one space belongs after ="
            group.append((number, line.strip(), indent))
            if sum(c in OPENING for c in code) != sum(c in CLOSING for c in code):
                group.pop()  # what spans several lines is aligned with nothing
                yield from _group_errors(group)
                group = []
                if match["space"] != " ":
                    yield f":{number}: one space belongs before ="


def _group_errors(group: list[tuple[int, str, int]]) -> Iterator[str]:
    matches = [(number, ATTRIBUTE.match(line)) for number, line, _ in group]
    width = max((len(m["key"]) for _, m in matches if m), default=0)
    for number, match in matches:
        if match and len(match["key"]) + len(match["space"]) != width + 1:
            yield f":{number}: {match['key']} = is not aligned with its neighbours"


def _without_strings(line: str) -> str:
    """The line with the inside of strings, and comments, blanked out."""
    line = re.sub(r'"(?:[^"\\$]|\\.|\$(?!\{)|\$\{(?:[^{}"]|"[^"]*"|\{[^{}]*\})*\})*"', lambda m: "_" * len(m[0]), line)
    return re.sub(r"(#|//).*", "", line)
