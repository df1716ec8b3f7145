"""Mounts below /var/run made real for one process, by a mount namespace of its own.

Elsewhere a mount path is replaced where it begins a path in command, args and env. In-cluster clients know theirs by
heart, `/var/run/secrets/kubernetes.io/serviceaccount`, so that one has to be there. It needs CAP_SYS_ADMIN, and writes
nothing outside the pod's directory: what the process sees at /run is a directory of links to what the machine has
there, beside the mounts.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["PrivateRun", "possible"]

RUN = Path("/var/run")
_MACHINE = ".machine"
_NEW_NAMESPACE, _BIND, _RECURSIVE, _SLAVE = 0x20000, 4096, 16384, 1 << 19
_libc = ctypes.CDLL(None, use_errno=True)


@cache
def possible() -> bool:
    """Whether this process may give its children mount namespaces."""
    try:
        subprocess.run(["true"], preexec_fn=_leave_the_machines, timeout=10, check=True)  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        return False
    return True


class PrivateRun:
    """What one container sees at /var/run. `mounts` are its mount paths, `place` a directory of its own."""

    def __init__(self, place: Path, mounts: Mapping[str, Path]) -> None:
        self._place, self._run = place, RUN.resolve()
        found = ((self._below(path), source) for path, source in mounts.items())
        self._mounts = {path: source for path, source in found if path}

    def _below(self, path: str) -> str:
        """The path below /var/run, "" when it is elsewhere."""
        for root in (f"{RUN}/", f"{self._run}/"):
            if path.startswith(root):
                return path.removeprefix(root)
        return ""

    def prepare(self) -> PrivateRun | None:
        """Make the directory; None when no mount asks for it."""
        if not self._mounts:
            return None
        (self._place / _MACHINE).mkdir(parents=True)
        self._mirror("")
        for path, source in self._mounts.items():
            target = self._place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir(exist_ok=True) if source.is_dir() else target.touch()
        return self

    def _mirror(self, below: str) -> None:
        """Links to what the machine has there, and directories on the way to a mount."""
        for entry in (self._run / below).iterdir():
            path = f"{below}{entry.name}"
            if any(mount.startswith(f"{path}/") for mount in self._mounts):
                (self._place / path).mkdir()
                self._mirror(f"{path}/")
            elif path not in self._mounts:
                (self._place / path).symlink_to(self._run / _MACHINE / path)

    def enter(self) -> None:
        """Put the calling process in. To be called between fork and exec, by root."""
        _leave_the_machines()
        _mount(self._run, self._place / _MACHINE)
        for path, source in self._mounts.items():
            _mount(source, self._place / path)
        _mount(self._place, self._run)


def _leave_the_machines() -> None:
    _check(_libc.unshare(_NEW_NAMESPACE))
    # What the machine mounts later is seen here, and nothing of what is mounted here is seen there.
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_RECURSIVE | _SLAVE), None))


def _mount(source: Path, target: Path) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(_BIND | _RECURSIVE), None))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
