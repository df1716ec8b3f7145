"""Telling at a terminal what is being done, and keeping the list of what was shown."""

from __future__ import annotations

import shlex
import sys
import textwrap
import time
from collections.abc import Sequence

from harness.kubectl import Kubectl

__all__ = ["Story"]


class Story:
    """A narrator. `shown` holds (claim, evidence) for the closing table."""

    def __init__(self, chapters: int) -> None:
        self.shown: list[tuple[str, str]] = []
        self._chapters = chapters
        self._chapter = 0
        self._started = time.monotonic()
        styles = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")
        self._bold, self._dim, self._plain = styles

    def chapter(self, title: str) -> None:
        """Begin the next step."""
        self._chapter += 1
        elapsed = f"{self._dim}({time.monotonic() - self._started:.0f} s){self._plain}"
        heading = f"[{self._chapter}/{self._chapters}] {title}"
        print(f"\n{self._bold}{heading}{self._plain} {elapsed}", flush=True)

    def say(self, text: str) -> None:
        """A sentence of explanation."""
        print(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="  "), flush=True)

    def kubectl(self, kubectl: Kubectl, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl, and show the command and its output."""
        self.command(["kubectl", *arguments])
        output = kubectl(*arguments, stdin=stdin, timeout=timeout)
        self.output(output)
        return output

    def command(self, command: Sequence[str]) -> None:
        """Show a command as it would be typed."""
        print(f"  {self._dim}${self._plain} {shlex.join(command)}", flush=True)

    def output(self, text: str) -> None:
        """Show what a command printed."""
        print(textwrap.indent(text.rstrip(), "    "), flush=True)

    def show(self, claim: str, evidence: str) -> None:
        """Keep something that was just seen for the closing table."""
        self.shown.append((claim, evidence))
        print(f"  {self._bold}✓{self._plain} {claim}: {evidence}", flush=True)

    def close(self) -> None:
        """The table of what was shown."""
        width = max(len(claim) for claim, _ in self.shown)
        print(f"\n{self._bold}Shown in {time.monotonic() - self._started:.0f} s{self._plain}")
        for claim, evidence in self.shown:
            print(f"  ✓ {claim:<{width}}  {evidence}")
