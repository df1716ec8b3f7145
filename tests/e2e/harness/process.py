"""Background processes with a log file, ended by their own pid, and by the kernel where this process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["background", "console_script"]

GRACE_SECONDS = 20
# What becomes the command, in Python itself: threads forbid to do anything between fork and exec here.
_BOUND_TO_ITS_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
parent, *command = sys.argv[1:]
if os.getppid() == int(parent):
    os.execvp(command[0], command)
"""


def console_script(name: str) -> str:
    """Path of a command that this environment installed."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def background(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, then SIGTERM it, and SIGKILL it if it does not go. To be called in the main
    thread: the command ends with the thread that began it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    bound = [sys.executable, "-I", "-S", "-c", _BOUND_TO_ITS_PARENT, str(os.getpid()), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            bound, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        yield process
    finally:
        if process.poll():
            said = log.read_text(errors="replace")[-2000:]
            print(f"{command[0]} ended by itself with {process.returncode}: …{said}", file=sys.stderr)
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that is ours."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(GRACE_SECONDS)
