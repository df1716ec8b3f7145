"""What containers use, from /proc: CPU and memory for `/stats/summary`, and memory against limits.

The processes of a container are those with its mark. Reading every environment is what costs, so a process that is not
ours is looked at once in its life.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from creditmodel_sandbox.node.process import all_pids, mark_of

__all__ = ["Census", "Usage", "rate", "unreclaimable"]

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHARE = re.compile(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """`cpu` in core nanoseconds since the container began, `rss` in bytes."""

    cpu: int = 0
    rss: int = 0


class Census:
    """Which processes belong to which mark, and what they use."""

    def __init__(self, identity: str) -> None:
        self._prefix = f"{identity}/"
        self._marks: dict[int, str] = {}

    def processes(self) -> dict[str, list[int]]:
        """Container mark to the processes of that container, probes and hooks included."""
        alive = set(all_pids())
        self._marks = {pid: mark for pid, mark in self._marks.items() if pid in alive}
        for pid in alive - self._marks.keys():
            self._marks[pid] = mark_of(pid) or ""
        found: dict[str, list[int]] = {}
        for pid, mark in self._marks.items():
            if mark.startswith(self._prefix):
                found.setdefault("/".join(mark.split("/")[:2]), []).append(pid)
        return found

    def usage(self, processes: dict[str, list[int]] | None = None) -> dict[str, Usage]:
        """Container mark to what it uses now."""
        found = self.processes() if processes is None else processes
        return {mark: _sum(pids) for mark, pids in found.items()}


def _sum(pids: list[int]) -> Usage:
    cpu = rss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            # The command's name may hold spaces and parentheses: count from the last one.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu += sum(map(int, fields[11:15]))  # user and system time, and those of children that were waited for
            rss += int(fields[21])
    return Usage(cpu * (1_000_000_000 // _TICK), rss * _PAGE)


def unreclaimable(pids: list[int]) -> int:
    """Bytes of anonymous and shared memory, shared pages divided among their users: what a memory limit is about."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(map(int, _SHARE.findall(rollup)))
    return total * 1024


def rate(before: tuple[float, Usage], after: tuple[float, Usage]) -> int:
    """Nanocores between two (time, usage) samples."""
    seconds = after[0] - before[0]
    return int(max(after[1].cpu - before[1].cpu, 0) / seconds) if seconds > 0 else 0
