"""An instance of the sandbox as background processes: `up`, `down`, `status`, `logs`, `reset`."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from creditmodel_sandbox import parts
from creditmodel_sandbox.instance import Instance, InstanceError, Process, Record, claim_slot, ranges
from creditmodel_sandbox.logs import readable
from creditmodel_sandbox.node.process import MARK, identity_of, sweep

__all__ = ["main"]

READY_SECONDS = 60.0
READY_SECONDS_OF_A_CONTROL_PLANE = 120.0
STOP_SECONDS = 20.0
KILL_SECONDS = 10.0


# Starting


def up(instance: Instance, port: int, control_plane: Path | None) -> None:
    """Start what is not running, and wait until pods can run."""
    record = instance.read()
    if record and control_plane and not record.control_plane:
        message = f"the instance {instance.name!r} has the sandbox's own API server, whose state a real one cannot read"
        raise InstanceError(f"{message}: `reset` it, or choose another --name")
    processes = record.processes if record else {}
    alive = [part for part, process in processes.items() if process.alive]
    for process in processes.values():
        process.signal(signal.SIGCONT)  # it may have been stopped
    if record and record.complete and len(alive) == len(processes):
        print(f"the instance {instance.name!r} is already running")
        print(f"export KUBECONFIG={shlex.quote(str(instance.kubeconfig))}")
        return
    if record:
        died = ", ".join(part for part in processes if part not in alive) or "while it started"
        if _stop(instance, record):
            _say(f"a previous run of {instance.name!r} ended without `down` ({died}): starting it again on its state")
    began = time.monotonic()
    (instance.directory / "logs").mkdir(exist_ok=True)
    slot, claim = claim_slot(instance, record)
    programs = str(control_plane.absolute()) if control_plane else record.control_plane if record else ""
    record = Record(slot, record.port if record else 0, programs)
    with claim:
        every = _parts(instance, record, port)
        try:
            _start_all(instance, record, every, claim)
        except BaseException:
            _stop(instance, record)
            raise
    _say(f"ready in {time.monotonic() - began:.1f} s; stop it with: creditmodel-sandbox down --name {instance.name}")
    print(f"export KUBECONFIG={shlex.quote(str(instance.kubeconfig))}")


def _parts(instance: Instance, record: Record, port: int) -> Iterator[parts.Part]:
    if not record.control_plane:
        return parts.sandbox(instance, record, port)
    from creditmodel_sandbox import controlplane  # which needs more modules than the two seconds of `up` have room for

    return controlplane.parts(instance, record, port, _say)


def _start_all(instance: Instance, record: Record, every: Iterable[parts.Part], claim: socket.socket) -> None:
    seconds = READY_SECONDS_OF_A_CONTROL_PLANE if record.control_plane else READY_SECONDS
    deadline = time.monotonic() + seconds
    instance.write(record)
    for part in every:
        mark = {MARK: f"{identity_of(instance.directory)}/{part.name}"}
        with instance.log(part.name).open("a") as log:
            process = subprocess.Popen(
                part.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
                pass_fds=[claim.fileno()], env={**os.environ, **mark},
            )  # fmt: skip
        record.processes[part.name] = Process.of(process.pid)
        instance.write(record)
        _wait(instance, record, part, deadline)
    record.complete = True
    instance.write(record)


def _wait(instance: Instance, record: Record, awaited: parts.Part, deadline: float) -> None:
    while not awaited.ready():
        for part, process in record.processes.items():
            if not process.alive:
                raise InstanceError(f"{part} ended before {awaited.what}: {_last_words(instance.log(part))}")
        if time.monotonic() > deadline:
            raise InstanceError(f"{awaited.what}: not in time; see `creditmodel-sandbox logs {awaited.name}`")
        time.sleep(0.2 if record.control_plane else 0.02)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return "\n  ".join(lines[-5:]) or f"{log} is empty"


# Stopping


def down(instance: Instance) -> None:
    """Stop every process. The state stays."""
    record = instance.read()
    if record is None or not _stop(instance, record):
        _say(f"the instance {instance.name!r} is not running")
        return
    _say(f"stopped; its state is kept in {instance.directory}: `up` continues it, `reset` deletes it")


def _stop(instance: Instance, record: Record) -> bool:
    """End every process, and say whether there was one. The node first, while there is an API server to tell; at last
    what nobody wrote down: parts that an `up` started just before it was killed, and what a killed node left running.
    """
    processes = list(record.processes.values())
    for process in reversed(processes):
        _end(process)
    swept = sweep(instance.directory) + sweep(instance.node)
    record.processes, record.complete = {}, False
    instance.write(record)
    return bool(processes or swept)


def _end(process: Process) -> None:
    """Ask a process to end, kill it if it does not in time, and return when it is gone."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        process.signal(number)
        process.signal(signal.SIGCONT)  # one that was stopped would not hear of it
        deadline = time.monotonic() + seconds
        while process.alive and time.monotonic() < deadline:
            _reap(process.pid)
            time.sleep(0.01)
    _reap(process.pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def reset(instance: Instance) -> None:
    """Stop the instance and delete its state."""
    with contextlib.suppress(InstanceError):
        if (record := instance.read()) is not None:
            _stop(instance, record)
    sweep(instance.directory)
    sweep(instance.node)
    shutil.rmtree(instance.directory)
    _say(f"deleted {instance.directory}")


# Looking


def status(instance: Instance) -> int:
    """Print how the parts do; 0 when all run, 1 otherwise."""
    record = instance.read()
    processes = record.processes if record else {}
    rows = {part: process.state for part, process in processes.items()}
    running = bool(record and record.complete) and all(state.startswith("running") for state in rows.values())
    if running and instance.get("/readyz") is None:
        server = next(part for part in rows if part.endswith("apiserver"))
        rows[server], running = f"{rows[server]}, but it does not answer", False
    if record and running:
        pods, services = ranges(record.slot)
        rows |= {"address": instance.server, "services": services, "kubeconfig": str(instance.kubeconfig)}
        rows |= {} if record.control_plane else {"pods": pods}
    rows |= {"state": str(instance.directory)} if processes else {"state": f"{instance.directory}, not running"}
    width = max(12, *map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}} {text}")
    return 0 if running else 1


def logs(instance: Instance, part: str | None, follow: bool) -> None:
    """Print the parts' logs, to a terminal as a person reads them; `follow` goes on until interrupted."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop, as `head` does
    shown = readable if sys.stdout.isatty() else str
    files = sorted((instance.directory / "logs").glob(f"{part or '*'}.log"))
    if not files:
        known = ", ".join(path.stem for path in sorted((instance.directory / "logs").glob("*.log")))
        what = f"no part {part!r}, only {known}" if known else "no logs yet"
        raise InstanceError(f"the instance {instance.name!r} has {what}")
    if follow:
        command = ["tail", "-n", "100", "-F", *map(str, files)]
        with (
            contextlib.suppress(KeyboardInterrupt),
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail,
        ):
            for line in tail.stdout or ():
                print(shown(line.rstrip("\n")), flush=True)
        return
    for path in files:
        prefix = f"{path.stem:{max(11, *(len(file.stem) for file in files))}} | " if len(files) > 1 else ""
        for line in path.read_text(errors="replace").splitlines():
            print(prefix + shown(line))


def _say(text: str) -> None:
    """For a person, apart from what a script reads from standard output."""
    print(text, file=sys.stderr, flush=True)


# The command line


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="default", help="which instance (default: %(default)s)")
    common.add_argument("--state-dir", type=Path, help="its state (default: by name, below the user's state directory)")
    parser = argparse.ArgumentParser(
        prog="creditmodel-sandbox",
        description="A one-machine Kubernetes API with controllers and a node, for trying and testing.",
        epilog="Parts, each with its own --help: creditmodel-sandbox apiserver | controllers | node",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="up | down | status | logs | reset")
    start = commands.add_parser("up", parents=[common], help="start an instance in the background")
    start.add_argument("--port", type=int, default=0, help="port of the API server (default: the last one, or any)")
    programs = "run kube-apiserver, etcd, kube-controller-manager and kube-scheduler of this directory"
    start.add_argument("--control-plane", type=Path, metavar="DIR", help=f"{programs} with the sandbox's node")
    commands.add_parser("down", parents=[common], help="stop an instance and its pods; keep its state")
    commands.add_parser("status", parents=[common], help="say how an instance does; 1 when it does not run")
    show = commands.add_parser("logs", parents=[common], help="print the logs of an instance's parts")
    show.add_argument("part", nargs="?", help="only this part's, as `status` names it")
    show.add_argument("-f", "--follow", action="store_true", help="go on as they grow")
    commands.add_parser("reset", parents=[common], help="stop an instance and delete its state")
    return parser


def _instance(arguments: argparse.Namespace) -> Instance:
    if not re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_.]*", arguments.name):
        raise InstanceError(f"{arguments.name!r} is not a name: use letters, digits, '-', '_' and '.'")
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    directory = arguments.state_dir or base / "creditmodel-sandbox" / arguments.name
    return Instance(arguments.name, directory.absolute())


def main(argv: Sequence[str]) -> int:
    """Run one command: 0 done, 1 the instance does not run (status), 2 it cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        instance = _instance(arguments)
        match arguments.command:
            case "status":
                return status(instance)
            case "logs":
                logs(instance, arguments.part, arguments.follow)
                return 0
            case _ if arguments.command != "up" and not (instance.directory / "instance.json").exists():
                raise InstanceError(f"there is no instance {arguments.name!r} in {instance.directory}")
            case command:
                with instance.locked():
                    {
                        "up": lambda: up(instance, arguments.port, arguments.control_plane),
                        "down": lambda: down(instance),
                        "reset": lambda: reset(instance),
                    }[command]()
    except (InstanceError, OSError) as error:
        print(f"creditmodel-sandbox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("creditmodel-sandbox: interrupted", file=sys.stderr)
        return 130
    return 0
