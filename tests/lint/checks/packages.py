"""What the six distributions bring along: one version of each package, under a licence that a lender may ship."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from checks.common import Outcome, files

__all__ = ["allowed", "licences", "pins"]

ALLOWED = frozenset(
    {
        "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
        "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "TCL", "Zlib",
    }
)  # fmt: skip
"""Permissive ones, and MPL-2.0, which asks for the sources of its own files only. Names as SPDX has them."""
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages write that do not use SPDX."""
OWN = "creditmodel-"

Wanted = tuple[str, frozenset[str], str]
"""A package, the extras asked for, and who asks."""


def licences(root: Path) -> Outcome:
    """Every package that a distribution needs, directly or not, and whose licence is not allowed.

    Of extras, those that are installed here.
    """
    found: list[str] = []
    for name, why in sorted(_needed(root, extras=False).items()):
        try:
            found += _licence_errors(name, why)
        except PackageNotFoundError:
            found.append(f"{why}: {name} is not installed; run make setup")
    absent: list[str] = []
    for name, why in sorted(_needed(root, extras=True).items() - _needed(root, extras=False).items()):
        try:
            found += _licence_errors(name, why)
        except PackageNotFoundError:
            absent.append(name)
    return Outcome(tuple(found), f"of extras not installed here: {', '.join(absent)}" if absent else "")


def _licence_errors(name: str, why: str) -> list[str]:
    licence = _licence(distribution(name))
    said = f"{why}: {name} is under {licence!r}, which is not on the list in tests/lint/checks/packages.py"
    return [] if allowed(licence) else [said]


def pins(root: Path) -> Outcome:
    """Every package that a distribution or the tools need, directly or not, and that constraints.txt does not pin."""
    pinned = {canonicalize_name(r.name): r for r in _lines(root / "constraints.txt")}
    loose = [f"constraints.txt: {r} does not pin one version" for r in pinned.values() if not _exact(r)]
    tools = _closure([(r.name, frozenset(r.extras), "requirements-dev.txt") for r in _tools(root)])
    needed = tools | _needed(root, extras=True)
    missing = [f"{why}: {name} has no version in constraints.txt" for name, why in needed.items() if name not in pinned]
    return Outcome((*loose, *sorted(missing)))


def allowed(licence: str) -> bool:
    """Whether an SPDX expression without parentheses can be met: one alternative, all of whose parts are allowed."""
    alternatives = re.split(r"\s+OR\s+", licence)
    return any(all(part in ALLOWED for part in re.split(r"\s+AND\s+", one)) for one in alternatives)


def _licence(found: Distribution) -> str:
    """The licence as an SPDX expression, of what the package says first: expression, classifiers, free text."""
    said = found.metadata.json
    if expression := said.get("license_expression"):
        return str(expression)
    classified = [c.rpartition(" :: ")[2] for c in said.get("classifier", []) if c.startswith("License :: ")]
    texts = classified or [str(said.get("license", "unknown")).strip().splitlines()[0].strip()]
    return " OR ".join(SPDX.get(text, text) for text in texts)


def _needed(root: Path, *, extras: bool) -> dict[str, str]:
    """Everything that the distributions need, by name, with the pyproject.toml that asks for it."""
    found: dict[str, str] = {}
    for path in files(root, "*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        groups = [project["dependencies"], *(project.get("optional-dependencies", {}).values() if extras else ())]
        lines = [Requirement(line) for group in groups for line in group]
        asked = [(r.name, frozenset(r.extras), str(path.relative_to(root))) for r in lines if _applies(r, frozenset())]
        found = _closure(asked) | found
    return found


def _closure(asked: list[Wanted]) -> dict[str, str]:
    """What is asked for and what that needs in turn, without this repository's own distributions."""
    seen: dict[str, frozenset[str]] = {}
    reasons: dict[str, str] = {}
    queue = list(asked)
    while queue:
        name, extras, why = queue.pop()
        key = canonicalize_name(name)
        if key.startswith(OWN) or extras | {""} <= seen.get(key, frozenset()):
            continue
        seen[key] = seen.get(key, frozenset()) | extras | {""}
        reasons.setdefault(key, why)
        queue += [(r.name, frozenset(r.extras), why) for r in _requires(key) if _applies(r, extras)]
    return reasons


def _requires(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in distribution(name).requires or []]
    except PackageNotFoundError:
        return []


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})


def _tools(root: Path) -> list[Requirement]:
    return _lines(root / "requirements-dev.txt")


def _lines(path: Path) -> list[Requirement]:
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _exact(requirement: Requirement) -> bool:
    return [s.operator for s in requirement.specifier] == ["=="]
