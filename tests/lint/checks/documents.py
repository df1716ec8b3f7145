"""Documentation: what a page links to is there, and so is every target of make that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from checks.common import Outcome, files

__all__ = ["documents"]

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MAKE = re.compile(r"(?:`|^|&& )make ([a-z][a-z0-9-]*)", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z0-9 -]*):", re.MULTILINE)


def documents(root: Path) -> Outcome:
    """Every page's broken links, missing headings and unknown targets."""
    targets = {name for line in TARGET.findall((root / "Makefile").read_text()) for name in line.split()}
    found = ((page.relative_to(root), error) for page in files(root, "*.md") for error in _errors(root, page, targets))
    return Outcome(tuple(f"{page}: {error}" for page, error in found))


def _errors(root: Path, page: Path, targets: set[str]) -> Iterator[str]:
    text = page.read_text()
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or not target.is_relative_to(root.resolve()):
            yield f"links to {name}, which is not there"
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            yield f"links to {link}, but there is no such heading"
    yield from (f"names make {name}, which is no target" for name in sorted(set(MAKE.findall(text)) - targets))


def _anchors(page: Path) -> set[str]:
    """Headings as GitHub makes anchors of them."""
    headings = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
