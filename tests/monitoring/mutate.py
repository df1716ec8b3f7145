"""make mutate-alerts: changes each alert in one place, and sees whether promtool's unit tests notice.

Changed are limits, windows, `for`, selectors and operators. Prints every change that no test noticed; exits 1 if there
is one, 2 where promtool is not installed.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).resolve().parents[2] / "manifests" / "monitoring"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
UNSEEN = {
    # Twice and half of a day's window: the tests of minutes would have to run for days.
    ("CreditModelChampionUnhealthy", "[1d:1m] times 0.2"),
    ("CreditModelChampionUnhealthy", "[1d:1m] times 4"),
}

Rule = dict[str, Any]
Mutant = tuple[str, str, dict[str, Any]]
"""The alert, what was changed of it, and all groups with the change."""


def main() -> int:
    if shutil.which("promtool") is None:
        print("promtool is not there (Debian, Ubuntu: apt install prometheus).", file=sys.stderr)
        return 2
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    if not passes(groups):
        print("the unit tests fail without any change; run make check-monitoring", file=sys.stderr)
        return 1
    found = [mutant for mutant in mutants(groups) if mutant[:2] not in UNSEEN]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        unnoticed = [
            mutant for mutant, seen in zip(found, pool.map(passes, (m[2] for m in found)), strict=True) if seen
        ]
    for name, change, _ in unnoticed:
        print(f"no test notices: {name}: {change}")
    print(f"{len(found)} changes, {len(unnoticed)} unnoticed")
    return int(bool(unnoticed))


def passes(spec: dict[str, Any]) -> bool:
    """Whether the unit tests pass with these groups."""
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "rules.yaml").write_text(yaml.safe_dump(spec))
        shutil.copy(MONITORING / "tests" / "rules.yaml", Path(work) / "tests.yaml")
        command = ["promtool", "test", "rules", "tests.yaml"]
        return subprocess.run(command, cwd=work, capture_output=True, timeout=120, check=False).returncode == 0


def mutants(spec: dict[str, Any]) -> Iterator[Mutant]:
    """Every change of every alert."""
    for i, group in enumerate(spec["groups"]):
        for j, rule in enumerate(group["rules"]):
            for change, mutated in changes(rule):
                whole = copy.deepcopy(spec)
                whole["groups"][i]["rules"][j] = mutated
                yield rule["alert"], change, whole


def changes(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """What to call a change of a rule, and the rule with it."""
    waits = seconds(rule["for"])
    yield from ((f"for times {factor}", {**rule, "for": f"{int(waits * factor)}s"}) for factor in (0.5, 2))
    for edit in (windows, limits, selectors, operators):
        yield from ((change, {**rule, "expr": expression}) for change, expression in edit(rule["expr"]))


def seconds(duration: str) -> int:
    return int(duration[:-1]) * SECONDS[duration[-1]]


def windows(query: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"\[(\d+[smhd])(:[^\]]*)?\]", query):
        for factor in (0.2, 4):
            new = f"[{int(seconds(match[1]) * factor)}s{match[2] or ''}]"
            yield f"{match[0]} times {factor}", spliced(query, match, new)


def limits(query: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"(>|<|==) ([\d.]+)\b", query):
        limit = float(match[2])
        for value in (limit * 0.5, limit * 1.9) if limit else (1, -1):
            yield f"{match[0]} to {value}", spliced(query, match, f"{match[1]} {value}")


def selectors(query: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r'(\w+)(=~|=)"([^"]*)"', query):
        names = match[3].split("|")
        if len(names) == 1:
            yield f"without {match[0]}", spliced(query, match, f'{match[1]}=~".*"')
            continue
        for name in names:
            rest = "|".join(other for other in names if other != name)
            yield f"without {name}", spliced(query, match, f'{match[1]}=~"{rest}"')


def operators(query: str) -> Iterator[tuple[str, str]]:
    for old, new in ((" unless ", " and "), ("\nand\n", "\nor\n"), (" or vector(0)", ""), ("(0.99,", "(0.9,")):
        if old in query:
            yield f"{old.strip()!r} for {new.strip()!r}", query.replace(old, new)


def spliced(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


if __name__ == "__main__":
    sys.exit(main())
