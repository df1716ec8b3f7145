"""What every check is: a function from the root of a checkout to what it found, and helpers to write one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["BIN", "Check", "Outcome", "files", "ran", "tool"]

BIN = Path(sys.executable).parent
"""Where the tools of the environment lie."""
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Outcome:
    """What a check found, a line or a paragraph each; empty is clean. `note` says what it could not look at."""

    findings: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One static check."""

    name: str
    looks_at: str
    run: Callable[[Path], Outcome]


def files(root: Path, *patterns: str) -> list[Path]:
    """The files of a checkout whose path matches a pattern (`*` also stands for slashes): what git tracks, and what is
    new and not ignored. Without git, everything but hidden folders.
    """
    found = _known_to_git(root) if (root / ".git").exists() else _walked(root)
    paths = sorted(path for path in found if path.is_file())
    return [path for path in paths if any(fnmatch(path.relative_to(root).as_posix(), pattern) for pattern in patterns)]


def _known_to_git(root: Path) -> Iterator[Path]:
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    yield from (root / name for name in listed.split("\0") if name)


def _walked(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name in (".github", ".ci") or not name.startswith((".", "__"))]
        yield from (Path(folder) / name for name in names)


def tool(name: str, *arguments: str | Path) -> Callable[[Path], Outcome]:
    """A check that is a program of the environment: what it prints when its exit code is not 0."""

    def run(root: Path) -> Outcome:
        command = [str(BIN / name), *(str(argument) for argument in arguments)]
        return ran(command, root)

    return run


def ran(command: list[str], root: Path, **environment: str) -> Outcome:
    """The outcome of a command run in `root`, with these variables besides those of this process."""
    environment |= {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    if done.returncode == 0:
        return Outcome()
    said = f"{done.stdout}{done.stderr}".strip()
    return Outcome((said or f"{command[0]} ended with exit code {done.returncode}",))
