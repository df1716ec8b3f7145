"""kubectl, as a user types it."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Kubectl", "KubectlError", "Timeout", "until"]


class KubectlError(Exception):
    """kubectl exited non-zero; the message has the command and what it printed on stderr."""


class Timeout(Exception):
    """A condition did not come true before its deadline."""


@cache
def _cache() -> str:
    """A directory of this run's own for what kubectl learns of a server. In the user's, it goes by the server's port,
    and an earlier sandbox may have had the same."""
    directory = tempfile.mkdtemp(prefix="creditmodel-kubectl-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@dataclass(frozen=True)
class Kubectl:
    """kubectl on one cluster and, where given, in one namespace."""

    kubeconfig: Path
    namespace: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """The argument vector."""
        beside = Path(sys.executable).with_name("kubectl")
        program = str(beside) if beside.exists() else shutil.which("kubectl")
        if program is None:
            raise KubectlError("kubectl is neither in this environment nor in PATH")
        scope = ["--namespace", self.namespace] if self.namespace else []
        return [program, "--kubeconfig", str(self.kubeconfig), *scope, *arguments]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run a command and return what it printed. Raises KubectlError."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "KUBECACHEDIR": _cache()},
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def apply(self, *documents: dict[str, Any]) -> str:
        """kubectl apply of these objects."""
        return self("apply", "-f", "-", stdin="\n---\n".join(json.dumps(document) for document in documents))

    def get(self, *arguments: str) -> dict[str, Any]:
        """kubectl get … -o json."""
        found: dict[str, Any] = json.loads(self("get", *arguments, "-o", "json"))
        return found

    def wait(self, target: str, condition: str, timeout: float) -> None:
        """kubectl wait --for=condition=…; raises KubectlError when it does not come true in time."""
        arguments = ("wait", target, f"--for=condition={condition}", f"--timeout={int(timeout)}s")
        self(*arguments, timeout=timeout + 30)


T = TypeVar("T")


def until(probe: Callable[[], T], what: str, timeout: float, interval: float = 0.2) -> T:
    """Call `probe` until it returns something true, and return that. Raises Timeout naming the last answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Timeout(f"{what}: not within {timeout:.0f} s; last seen {answer!r}")
        time.sleep(interval)
