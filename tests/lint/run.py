"""Every static check of the repository, offline: run.py [--root DIR] [--jobs N] [CHECK…]

A line for each check; what one found follows its line. Exit codes: 0 clean, 1 something was found, 2 bad usage, or a
check that could not be run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from checks.common import Check, Outcome
from checks.registry import CHECKS

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
EXIT_FOUND, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks that are named, or all; the return value is the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if strange := set(arguments.checks) - {check.name for check in CHECKS}:
        parser.error(f"there is no check {', '.join(sorted(strange))}; --list names them")
    chosen = [check for check in CHECKS if not arguments.checks or check.name in arguments.checks]
    if arguments.list:
        print(*(f"{check.name:<12} {check.looks_at}" for check in chosen), sep="\n")
        return 0
    worst = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(_timed, check, arguments.root.resolve()): check for check in chosen}
        for future in as_completed(running):
            try:
                outcome, seconds = future.result()
            except Exception as e:  # noqa: BLE001 - whatever keeps a check from running is told, and fails the whole
                print(f"error          {running[future].name}: could not be run: {e!r}", flush=True)
                worst = EXIT_USAGE
            else:
                _tell(running[future], outcome, seconds)
                worst = max(worst, EXIT_FOUND if outcome.findings else 0)
    return worst


def _parser() -> argparse.ArgumentParser:
    names = [check.name for check in CHECKS]
    parser = argparse.ArgumentParser(prog="lint", description="Every static check of the repository, offline.")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"which ones (default: all): {', '.join(names)}")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to check (default: this one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="how many checks run at a time")
    parser.add_argument("--list", action="store_true", help="say what there is and run nothing")
    return parser


def _timed(check: Check, root: Path) -> tuple[Outcome, float]:
    began = time.monotonic()
    outcome = check.run(root)
    return outcome, time.monotonic() - began


def _tell(check: Check, outcome: Outcome, seconds: float) -> None:
    verdict = "FAILED" if outcome.findings else "ok"
    note = f"  ({outcome.note})" if outcome.note else ""
    print(f"{verdict:<6} {seconds:5.1f} s  {check.name:<12} {check.looks_at}{note}", flush=True)
    for finding in outcome.findings:
        print("\n".join(f"    {line}" for line in finding.splitlines()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
