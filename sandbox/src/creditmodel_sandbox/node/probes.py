"""Probes: exec, httpGet, tcpSocket.

`Prober` runs the three probes of one container and tells their outcome; `attempt` runs one handler once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from creditmodel_sandbox.node.process import Process, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from creditmodel_sandbox.node.private import PrivateRun

__all__ = ["Outcome", "Place", "Prober", "Threshold", "attempt", "port_number"]

Obj = dict[str, Any]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    ok: bool
    message: str = ""


@dataclass(frozen=True)
class Place:
    """Where a container is: what its probes need to reach it."""

    container: Mapping[str, Any]
    ip: str
    mark: str
    env: Mapping[str, str]
    cwd: Path
    translate: Callable[[Sequence[str]], list[str]]
    """Replaces mount paths in a command."""
    session: aiohttp.ClientSession
    private: PrivateRun | None = None


class Reporter(Protocol):
    """Who is told what the probes found."""

    def probed(self, kind: str, outcome: Outcome, *, passed: bool) -> None:
        """A probe's verdict changed or repeats: kind is startup, readiness or liveness."""


def port_number(container: Mapping[str, Any], port: int | str) -> int:
    """A port by number or by name; ValueError when the container has no port of that name."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ValueError(f'the container has no port named "{port}"')


async def attempt(handler: Mapping[str, Any], place: Place, seconds: float) -> Outcome:
    """Run a probe's action once. Never raises: what goes wrong is a failed outcome."""
    try:
        async with asyncio.timeout(seconds):
            if "exec" in handler:
                return await _exec(handler["exec"].get("command") or [], place)
            if "httpGet" in handler:
                return await _http(handler["httpGet"], place)
            if "tcpSocket" in handler:
                return await _tcp(handler["tcpSocket"], place)
    except TimeoutError:
        return Outcome(ok=False, message=f"no answer within {seconds:g}s")
    except (aiohttp.ClientError, OSError, ValueError, StartError) as e:
        return Outcome(ok=False, message=str(e) or type(e).__name__)
    known = ", ".join(key for key, value in handler.items() if isinstance(value, dict)) or "none"
    return Outcome(ok=False, message=f"a handler of kind {known} is not supported by the sandbox's node")


async def _exec(command: Sequence[str], place: Place) -> Outcome:
    with tempfile.TemporaryFile() as output:
        process = Process.start(
            place.translate(command),
            env=place.env,
            cwd=place.cwd,
            mark=f"{place.mark}/{next(_numbers)}",
            output=output.fileno(),
            private=place.private,
        )
        try:
            code = await asyncio.shield(process.exited)
        finally:
            process.kill()
        output.seek(0)
        return Outcome(ok=code == 0, message=output.read(1024).decode(errors="replace").strip() or f"exit code {code}")


async def _http(action: Mapping[str, Any], place: Place) -> Outcome:
    host = action.get("host") or place.ip
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = "/" + str(action.get("path") or "").removeprefix("/")
    url = f"{scheme}://{host}:{port_number(place.container, action['port'])}{path}"
    headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers |= {h["name"]: h["value"] for h in action.get("httpHeaders") or []}
    async with place.session.get(url, headers=headers, allow_redirects=False, ssl=False) as response:
        text = (await response.content.read(10240)).decode(errors="replace")
        ok = 200 <= response.status < 400
        return Outcome(ok=ok, message=f"HTTP probe failed with statuscode: {response.status} {text[:200]}".strip())


async def _tcp(action: Mapping[str, Any], place: Place) -> Outcome:
    port = port_number(place.container, action["port"])
    _, writer = await asyncio.open_connection(action.get("host") or place.ip, port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Outcome(ok=True)


@dataclass
class Threshold:
    """Turns single outcomes into verdicts: a verdict holds until enough outcomes in a row contradict it."""

    success: int
    failure: int
    verdict: bool | None
    streak: int = 0
    last: bool | None = None

    def add(self, ok: bool) -> bool | None:
        """Count an outcome; the verdict so far."""
        self.streak = self.streak + 1 if ok == self.last else 1
        self.last = ok
        if self.streak >= (self.success if ok else self.failure):
            self.verdict = ok
        return self.verdict


class Prober:
    """The probes of one running container, for as long as it runs."""

    def __init__(self, place: Place, reporter: Reporter) -> None:
        self._place, self._reporter, self._began = place, reporter, time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._liveness: asyncio.Task[None] | None = None

    def stop(self) -> None:
        self._task.cancel()

    def stop_liveness(self) -> None:
        """A container that is told to end is no longer restarted; its readiness is still asked for."""
        if self._liveness is not None:
            self._liveness.cancel()

    async def _run(self) -> None:
        container = self._place.container
        if probe := container.get("startupProbe"):
            await self._probe("startup", probe, until_passed=True)
        self._reporter.probed("startup", Outcome(ok=True), passed=True)
        async with asyncio.TaskGroup() as group:
            if probe := container.get("livenessProbe"):
                self._liveness = group.create_task(self._probe("liveness", probe))
            if probe := container.get("readinessProbe"):
                group.create_task(self._probe("readiness", probe))
            else:
                self._reporter.probed("readiness", Outcome(ok=True), passed=True)

    async def _probe(self, kind: str, probe: Obj, *, until_passed: bool = False) -> None:
        """Ask again and again; report each failure, and each change of the verdict."""
        await asyncio.sleep(self._began + (probe.get("initialDelaySeconds") or 0) - time.monotonic())
        first = {"startup": None, "liveness": True, "readiness": False}[kind]
        threshold = Threshold(probe.get("successThreshold") or 1, probe.get("failureThreshold") or 3, first)
        while True:
            before = threshold.verdict
            outcome = await attempt(probe, self._place, probe.get("timeoutSeconds") or 1)
            verdict = threshold.add(outcome.ok)
            if until_passed and verdict:
                return
            if not outcome.ok or verdict != before:
                self._reporter.probed(kind, outcome, passed=bool(verdict) or verdict is None)
            await asyncio.sleep(probe.get("periodSeconds") or 10)
