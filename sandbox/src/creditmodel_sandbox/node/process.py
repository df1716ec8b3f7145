"""Processes of containers: start, watch, signal, find again.

Every process that the node starts carries the environment variable `CREDITMODEL_SANDBOX_CONTAINER=<node>/<container>`,
where `<node>` is a random identity that lives in the node's state directory. The variable is inherited by every
descendant, so it is the proof of ownership: nothing without it is ever signalled, whatever its process id was before. A
signal goes through a pidfd that was opened before the proof was read, so a process id that is reused in between cannot
be hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from creditmodel_sandbox.node.private import PrivateRun

__all__ = ["MARK", "Process", "StartError", "identity_of", "processes_of", "sweep"]

MARK = "CREDITMODEL_SANDBOX_CONTAINER"
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


class StartError(Exception):
    """The command could not be executed; the message says why."""


@dataclass
class Process:
    """The main process of a container, leader of a session of its own, and what else carries its mark."""

    pid: int
    mark: str
    exited: asyncio.Future[int]
    """Resolves to the exit code: 128 + n when signal n ended it."""

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        mark: str,
        output: int,
        private: PrivateRun | None = None,
    ) -> Process:
        """Start `argv` with exactly `env` plus the mark; standard output and error go to the file descriptor `output`.

        Raises StartError when the command cannot be executed. Must be called in a running event loop.
        """
        parent = os.getpid()

        def become_the_container() -> None:
            if private is not None:
                private.enter()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(137)

        try:
            popen = subprocess.Popen(
                list(argv),
                env={**env, MARK: mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=become_the_container,
            )
        except FileNotFoundError as e:
            missing = f"working directory {cwd}" if e.filename == str(cwd) else f'exec: "{argv[0]}"'
            what = "not found" if "/" in argv[0] or e.filename == str(cwd) else "executable file not found in $PATH"
            raise StartError(f"{missing}: {what}") from e
        except (OSError, ValueError, subprocess.SubprocessError) as e:
            raise StartError(f'exec: "{argv[0]}": {e}') from e
        return cls._watched(popen, mark)

    @classmethod
    def _watched(cls, popen: subprocess.Popen[bytes], mark: str) -> Process:
        loop = asyncio.get_running_loop()
        self = cls(popen.pid, mark, loop.create_future())
        descriptor = os.pidfd_open(popen.pid)

        def on_exit() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            # The zombie still holds its process id: what it left behind dies before the id can be used again.
            self.kill()
            code = popen.wait()
            if not self.exited.done():
                self.exited.set_result(128 - code if code < 0 else code)

        loop.add_reader(descriptor, on_exit)
        return self

    def terminate(self, signum: int = signal.SIGTERM) -> None:
        """Signal the main process alone, as a container runtime does."""
        if not self.exited.done():
            _signal_if_marked(self.pid, self.mark, signum)

    def kill(self) -> None:
        """SIGKILL to everything that carries the container's mark."""
        for pid in processes_of(self.mark):
            _signal_if_marked(pid, self.mark, signal.SIGKILL)


def mark_of(pid: int) -> str | None:
    """The mark of a process, None without one or when its environment cannot be read."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{MARK}=".encode()
    start = 0 if environment.startswith(prefix) else environment.find(b"\0" + prefix) + 1
    if not environment.startswith(prefix, start):
        return None
    return environment[start + len(prefix) :].split(b"\0", 1)[0].decode(errors="replace")


def all_pids() -> Iterator[int]:
    """Every process id there is now."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 (a Path per process is slow)


def processes_of(mark: str) -> list[int]:
    """Living processes with this mark, or with one below it: `<mark>/…` is a probe or a hook inside the container."""
    return [pid for pid in all_pids() if _is_below(mark_of(pid), mark)]


def _is_below(found: str | None, mark: str) -> bool:
    return found is not None and (found == mark or found.startswith(f"{mark}/"))


def _signal_if_marked(pid: int, mark: str, signum: int) -> None:
    with contextlib.suppress(OSError):  # it is gone, which is what a signal is for
        descriptor = os.pidfd_open(pid)
        try:
            if _is_below(mark_of(pid), mark):
                signal.pidfd_send_signal(descriptor, signum)
        finally:
            os.close(descriptor)


def identity_of(state_dir: Path) -> str:
    """What the processes of a state directory are known by, made at first use: whole or not at all, for what an empty
    one marked would never be found again.
    """
    path = state_dir / "id"
    if not path.exists() or not path.read_text().strip():
        new = path.with_suffix(".new")
        new.write_text(uuid.uuid4().hex)
        new.replace(path)
    return path.read_text().strip()


def sweep(state_dir: Path) -> int:
    """Kill whatever an earlier node with this state directory left running, and say how many processes that were.

    Safe when no node ever ran here: without the identity file nothing is ours.
    """
    with contextlib.suppress(FileNotFoundError):
        identity = (state_dir / "id").read_text().strip()
        ours = processes_of(identity) if identity else []
        for pid in ours:
            _signal_if_marked(pid, identity, signal.SIGKILL)
        return len(ours)
    return 0
