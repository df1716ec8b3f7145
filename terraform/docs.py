"""Write the inputs and outputs of every module into its README, or with --check say which READMEs are stale.

Reads variables.tf and outputs.tf as `terraform fmt` lays them out, between the two markers of a README. Exit codes: 0
done or nothing stale, 1 stale, 2 a README or a description is missing.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "Undocumented", "blocks", "main", "render"]

BEGIN, END = "<!-- inputs and outputs: docs.py -->", "<!-- end -->"


class Undocumented(Exception):
    """A README lacks its markers, or a block its description. The message names it."""


@dataclass(frozen=True)
class Block:
    """A variable or an output."""

    name: str
    description: str
    type: str | None
    default: str | None


def blocks(text: str, kind: str) -> list[Block]:
    """Every block of this kind. Raises Undocumented."""
    found = re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', text, re.DOTALL | re.MULTILINE)
    return [_block(name, body) for name, body in found]


def _block(name: str, body: str) -> Block:
    description = _attribute(body, "description")
    if description is None:
        raise Undocumented(f"{name} has no description")
    plain = description.strip('"').replace('\\"', '"')
    return Block(name, plain, _attribute(body, "type"), _attribute(body, "default"))


def _attribute(body: str, name: str) -> str | None:
    """An attribute of the block itself; one over several lines is shown by what opens and closes it."""
    match = re.search(rf"^  {name} += (.*)$", body, re.MULTILINE)
    if match is None:
        return None
    value = match.group(1)
    closing = {"{": "}", "(": ")", "[": "]"}
    opened = [c for c in value if c in closing]
    return value if value[-1] not in closing else f"{value}…{''.join(closing[c] for c in reversed(opened))}"


def render(variables: list[Block], outputs: list[Block]) -> str:
    """The Markdown between the markers."""
    inputs = [f"| `{b.name}` | `{b.type}` | {_default(b)} | {_cell(b.description)} |" for b in variables]
    results = [f"| `{b.name}` | {_cell(b.description)} |" for b in outputs]
    head = ["| input | type | default | |", "|---|---|---|---|", *inputs]
    return "\n".join([*head, "", "| output | |", "|---|---|", *results])


def _default(block: Block) -> str:
    return "required" if block.default is None else f"`{block.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _document(directory: Path) -> tuple[str, str]:
    """The README as it is and as it should be. Raises Undocumented."""
    path = directory / "README.md"
    text = path.read_text() if path.exists() else ""
    if BEGIN not in text or END not in text:
        raise Undocumented(f"{path} lacks the lines {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    variables = blocks((directory / "variables.tf").read_text(), "variable")
    outputs = blocks((directory / "outputs.tf").read_text(), "output")
    return text, f"{before}{BEGIN}\n{render(variables, outputs)}\n{END}{after}"


def main(root: Path, check: bool) -> int:
    """Write or check every README beneath `root`; the return value is the exit code."""
    stale = []
    for variables in sorted(p for p in root.rglob("variables.tf") if ".terraform" not in p.parts):
        directory = variables.parent
        try:
            now, wanted = _document(directory)
        except Undocumented as e:
            print(f"{directory}: {e}", file=sys.stderr)
            return 2
        if now != wanted:
            stale.append(directory)
            if not check:
                (directory / "README.md").write_text(wanted)
    for directory in stale:
        print(f"{directory / 'README.md'} {'is stale; run terraform/docs.py' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        print("usage: docs.py [--check]", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(__file__).resolve().parent, sys.argv[1:] == ["--check"]))
