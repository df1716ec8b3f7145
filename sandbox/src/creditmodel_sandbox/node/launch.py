"""From a container's specification to its running process: directories, variables, command."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from creditmodel_sandbox.node import environment, private, volumes
from creditmodel_sandbox.node.environment import ConfigError, Paths, Sources
from creditmodel_sandbox.node.lifecycle import Record
from creditmodel_sandbox.node.logs import LogPump, tail
from creditmodel_sandbox.node.private import PrivateRun
from creditmodel_sandbox.node.probes import Place, Prober
from creditmodel_sandbox.node.process import Process

__all__ = ["PodContext", "Run", "began", "launch", "log_path", "working_directory"]

Obj = Mapping[str, Any]
MESSAGE_BYTES, MESSAGE_BYTES_OF_POD, LOG_LINES, LOG_BYTES = 4096, 12 * 1024, 80, 2048
TERMINATION_LOG = "/dev/termination-log"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def log_path(directory: Path, uid: str, container: str, restart: int) -> Path:
    """Where a container's log is kept; one file for each run."""
    return directory / "pods" / uid / "logs" / container / f"{restart}.log"


@dataclass(frozen=True)
class PodContext:
    """What the containers of one pod share when they start."""

    sources: Sources
    directory: Path
    logs: Path
    identity: str
    volumes: Mapping[str, Path]
    given: Mapping[str, str]
    """Variables of every container."""
    session: Any


@dataclass
class Run:
    """A container that runs."""

    record: Record
    place: Place
    process: Process
    pump: LogPump
    message_path: Path
    id: str
    memory_limit: float
    prober: Prober | None = None
    kill_at: float | None = None
    killed_for: str = ""
    """Why the node killed it, when that is the reason shown: OOMKilled."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def hold(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the container."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def last_words(self, code: int, containers: int) -> str:
        """The termination message, shortened as the kubelet does for a pod of so many containers."""
        size = min(MESSAGE_BYTES, MESSAGE_BYTES_OF_POD // containers)
        with contextlib.suppress(OSError), self.message_path.open("rb") as file:
            if text := file.read(size).decode(errors="replace"):
                return text
        if self.place.container.get("terminationMessagePolicy") == "FallbackToLogsOnError" and code != 0:
            return tail(self.pump.path, LOG_LINES, min(LOG_BYTES, size))
        return ""


def launch(context: PodContext, container: Obj, record: Record, restart: int, bin_dir: Path) -> Run:
    """Start the container's process. Raises ConfigError or StartError, with nothing left running."""
    for name in ("readinessGates", "lifecycle"):
        if context.sources.pod["spec"].get(name) or container.get(name):
            raise ConfigError(f"{name}: not supported by the sandbox's node")
    given = {"PATH": f"{bin_dir}:{SYSTEM_PATH}", **context.given}
    known = environment.variables(container, context.sources, given)
    mounts = volumes.mounts(container, context.volumes, known)
    message_path = context.directory / "containers" / record.name / "termination-log"
    paths = Paths({container.get("terminationMessagePath") or TERMINATION_LOG: message_path, **mounts})
    argv = environment.command(container, known, paths)
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory") or 0
    own = _own_directories(message_path)
    home = {"HOME": str(own["home"]), "TMPDIR": str(mounts.get("/tmp", own["tmp"]))}  # noqa: S108 (a mount path)
    container_id = uuid.uuid4().hex
    place = Place(
        container=container,
        ip=context.sources.fields["podIP"],
        mark=f"{context.identity}/{container_id}",
        env=home | {name: value if name in given else paths.substitute(value) for name, value in known.items()},
        cwd=working_directory(container, paths, own["work"]),
        translate=lambda words: [paths.substitute(environment.expand(word, known)) for word in words],
        session=context.session,
        private=PrivateRun(message_path.with_name("run"), mounts).prepare() if private.possible() else None,
    )
    pump = LogPump(log_path(context.logs, context.sources.pod["metadata"]["uid"], record.name, restart))
    try:
        process = Process.start(
            argv, env=place.env, cwd=place.cwd, mark=place.mark, output=pump.sink, private=place.private,
        )  # fmt: skip
    finally:
        pump.close_sink()
    return Run(record, place, process, pump, message_path, container_id, environment.quantity(limit))


def _own_directories(message_path: Path) -> dict[str, Path]:
    """Working directory, home and temporary files, fresh for each run, beside an empty termination message."""
    shutil.rmtree(message_path.parent, ignore_errors=True)
    found = {name: message_path.with_name(name) for name in ("work", "home", "tmp")}
    for path in found.values():
        path.mkdir(parents=True)
    message_path.touch()
    return found


def working_directory(container: Obj, paths: Paths, own: Path) -> Path:
    """workingDir if it is mounted or this machine has it, else a directory of that name below the container's own."""
    wanted = container.get("workingDir")
    if not wanted:
        return own
    real = Path(paths.substitute(wanted))
    if real.is_dir():
        return real
    below = own / str(wanted).lstrip("/")
    below.mkdir(parents=True, exist_ok=True)
    return below


def began(run: Run, restart: int) -> None:
    """Note in the run's record that it runs, and is ready if nothing has to be asked first."""
    record, now = run.record, time.time()
    if "terminated" in record.state:
        record.last = record.state
    if record.began:
        record.crashes += 1
    record.running(now, restart, f"creditmodel-sandbox://{run.id}")
    container = run.place.container
    if not container.get("startupProbe"):
        record.started, record.ready = True, not container.get("readinessProbe")
