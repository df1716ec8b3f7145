"""An instance of the sandbox as three background processes: `up`, `down`, `status`, `logs`, `reset`.

InstanceError   the command cannot be done; the message says why and what to do
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from creditmodel_sandbox.node.process import sweep

__all__ = ["Instance", "InstanceError", "main"]

JSON = dict[str, Any]
PARTS = ("apiserver", "controllers", "node")
READY_SECONDS = 30.0
STOP_SECONDS = 20.0
KILL_SECONDS = 10.0
SLOTS, FIRST_RANGE = 64, 32
"""Address ranges to choose from: slot n has pods in 127.(32+n).0.0/17 and Services in the other half.

Apart from what the parts take without an instance: Services in 127.96.0.0/16, pods in 127.244.0.0/16.
"""


class InstanceError(Exception):
    """The command cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Process:
    """A process that was started: its number, and when, so that another with the same number is not taken for it."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _start_time(pid) or "")

    @property
    def alive(self) -> bool:
        return bool(self.started) and _start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None when it is gone or only waits to be reaped."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else after_name[19]


@dataclass
class Record:
    """What is remembered of an instance between commands (instance.json)."""

    slot: int
    port: int = 0
    processes: dict[str, Process] = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """One sandbox: a name and a state directory."""

    name: str
    directory: Path

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def node(self) -> Path:
        return self.directory / "node"

    def log(self, part: str) -> Path:
        return self.directory / "logs" / f"{part}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InstanceError(f"another command is at work on the instance {self.name!r}: wait for it") from None
            yield

    def read(self) -> Record | None:
        try:
            content = json.loads((self.directory / "instance.json").read_text())
            processes = {part: Process(**entry) for part, entry in content["processes"].items()}
            return Record(content["slot"], content["port"], processes)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self.directory / 'instance.json'} cannot be read ({error}): `reset` the instance"
            raise InstanceError(message) from error

    def write(self, record: Record) -> None:
        part = self.directory / "instance.json.part"
        part.write_text(json.dumps(asdict(record)))
        part.replace(self.directory / "instance.json")


# Starting


def up(instance: Instance, port: int) -> None:
    """Start what is not running, and wait until pods can run."""
    record = instance.read()
    processes = record.processes if record else {}
    alive = [part for part, process in processes.items() if process.alive]
    if set(alive) == set(PARTS):
        print(f"the instance {instance.name!r} is already running")
        print(f"export KUBECONFIG={instance.kubeconfig}")
        return
    if record and processes:
        died = ", ".join(part for part in processes if part not in alive)
        _say(f"a previous run of {instance.name!r} ended without `down` ({died}): starting it again on its state")
        _stop(instance, record)
    began = time.monotonic()
    (instance.directory / "logs").mkdir(exist_ok=True)
    slot, claim = _claim_slot(instance, record)
    record = record or Record(slot)
    with claim:
        try:
            _start_all(instance, record, port, claim)
        except BaseException:
            _stop(instance, record)
            raise
    _say(f"ready in {time.monotonic() - began:.1f} s; stop it with: creditmodel-sandbox down --name {instance.name}")
    print(f"export KUBECONFIG={instance.kubeconfig}")


def _start_all(instance: Instance, record: Record, port: int, claim: socket.socket) -> None:
    pods, services = _ranges(record.slot)
    server = ["--state-dir", str(instance.directory / "apiserver"), "--kubeconfig", str(instance.kubeconfig)]
    server += ["--name", f"creditmodel-sandbox-{instance.name}", "--service-cidr", services]
    instance.kubeconfig.unlink(missing_ok=True)
    _start(instance, record, claim, "apiserver", *server, "--port", str(port or record.port))
    _wait(instance, record, instance.kubeconfig.exists, "the API server listens")
    # The same address next time, so that a kubeconfig somebody copied stays good.
    record.port = int(_cluster(instance)["server"].rpartition(":")[2])
    join = ["--kubeconfig", str(instance.kubeconfig)]
    _start(instance, record, claim, "controllers", *join)
    node = [*join, "--name", "sandbox", "--state-dir", str(instance.node), "--bind", "never"]
    _start(instance, record, claim, "node", *node, "--pod-cidr", pods, "--service-cidr", services)
    since = time.time()
    _wait(instance, record, lambda: _node_is_ready(instance, since), "the node is ready")


def _start(instance: Instance, record: Record, claim: socket.socket, part: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", part, *arguments]
    with instance.log(part).open("a") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            pass_fds=[claim.fileno()],
        )  # fmt: skip
    record.processes[part] = Process.of(process.pid)
    instance.write(record)


def _wait(instance: Instance, record: Record, done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not done():
        for part, process in record.processes.items():
            if not process.alive:
                raise InstanceError(f"{part} ended before {what}: {_last_words(instance.log(part))}")
        if time.monotonic() > deadline:
            raise InstanceError(f"{what}: not within {READY_SECONDS:.0f} s; see `creditmodel-sandbox logs`")
        time.sleep(0.02)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{log} is empty"


def _cluster(instance: Instance) -> JSON:
    cluster: JSON = yaml.safe_load(instance.kubeconfig.read_text())["clusters"][0]["cluster"]
    return cluster


def _request(instance: Instance, path: str) -> JSON:
    """GET a path of the instance's API server."""
    cluster = _cluster(instance)
    token = (instance.directory / "apiserver" / "token").read_text()
    tls = ssl.create_default_context(cafile=str(instance.directory / "apiserver" / "tls.crt"))
    request = urllib.request.Request(cluster["server"] + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - https of our own
    with urllib.request.urlopen(request, timeout=5, context=tls) as response:  # noqa: S310
        answer: JSON = json.load(response)
        return answer


def _node_is_ready(instance: Instance, since: float) -> bool:
    """Whether the node has said it is ready since a moment (Unix seconds): an earlier run's word does not count."""
    try:
        node = _request(instance, "/api/v1/nodes/sandbox")
    except (urllib.error.URLError, TimeoutError):
        return False
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    conditions = node.get("status", {}).get("conditions", [])
    return any(
        c["type"] == "Ready" and c["status"] == "True" and c.get("lastHeartbeatTime", "") >= moment for c in conditions
    )


# Addresses


def _ranges(slot: int) -> tuple[str, str]:
    """The ranges of pods and of Services."""
    return f"127.{FIRST_RANGE + slot}.0.0/17", f"127.{FIRST_RANGE + slot}.128.0/17"


def _claim_slot(instance: Instance, record: Record | None) -> tuple[int, socket.socket]:
    """A slot that nobody on this machine uses, and the claim to it. An instance that has Services keeps its slot."""
    if record is not None:
        if claim := _claim(record.slot):
            return record.slot, claim
        pods = _ranges(record.slot)[0]
        raise InstanceError(f"another instance uses the addresses {pods}: stop that one, or `reset` this one")
    neighbours = {found.slot for other in _siblings(instance) if (found := other.read()) is not None}
    listening = {address.packed[1] - FIRST_RANGE for address in _listening_addresses()}
    # Where the search begins differs by state directory, so that an instance mostly has the addresses it had before.
    first = zlib.crc32(str(instance.directory).encode()) % SLOTS
    for slot in [*range(first, SLOTS), *range(first)]:
        if slot not in neighbours | listening and (claim := _claim(slot)):
            return slot, claim
    raise InstanceError(f"all {SLOTS} address ranges are in use: `reset` an instance that is no longer needed")


def _claim(slot: int) -> socket.socket | None:
    """Take a slot for as long as a process has this socket open; None when somebody else has it.

    An abstract name is taken in one step, by every user and state directory of the machine, and ends with its holder.
    """
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0creditmodel-sandbox-127.{FIRST_RANGE + slot}")
    except OSError:
        claim.close()
        return None
    return claim


def _siblings(instance: Instance) -> list[Instance]:
    root = instance.directory.parent
    found = [path.parent for path in root.glob("*/instance.json")] if root.exists() else []
    return [Instance(path.name, path) for path in found if path != instance.directory]


def _listening_addresses() -> list[ipaddress.IPv4Address]:
    """Loopback addresses that sockets of this machine are bound to."""
    try:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return []
    found = (ipaddress.IPv4Address(bytes.fromhex(line.split()[1][:8])[::-1]) for line in lines)
    return [address for address in found if address.is_loopback]


# Stopping


def down(instance: Instance) -> None:
    """Stop every process. The state stays."""
    record = instance.read()
    if record is None or not record.processes:
        _say(f"the instance {instance.name!r} is not running")
        return
    _stop(instance, record)
    _say(f"stopped; its state is kept in {instance.directory}: `up` continues it, `reset` deletes it")


def _stop(instance: Instance, record: Record) -> None:
    """The node first, while there is an API server to tell; then whatever a node that was killed left running."""
    for part in reversed(PARTS):
        if process := record.processes.get(part):
            _end(process)
    sweep(instance.node)
    record.processes = {}
    instance.write(record)


def _end(process: Process) -> None:
    """Ask a process to end, kill it if it does not in time, and return when it is gone."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        process.signal(number)
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
    sweep(instance.node)
    shutil.rmtree(instance.directory)
    _say(f"deleted {instance.directory}")


# Looking


def status(instance: Instance) -> int:
    """Print how the parts do; 0 when all run, 1 otherwise."""
    record = instance.read()
    processes = record.processes if record else {}
    for part in PARTS:
        process = processes.get(part)
        state = "not started" if process is None else f"running (pid {process.pid})" if process.alive else "died"
        print(f"{part:12} {state}")
    running = all(part in processes and processes[part].alive for part in PARTS)
    if record and running:
        pods, services = _ranges(record.slot)
        print(f"{'address':12} {_cluster(instance)['server']}")
        print(f"{'pods':12} {pods}\n{'services':12} {services}")
        print(f"{'kubeconfig':12} {instance.kubeconfig}")
    print(f"{'state':12} {instance.directory}")
    return 0 if running else 1


def logs(instance: Instance, part: str | None, follow: bool) -> None:
    """Print the parts' logs; `follow` goes on until interrupted."""
    files = [instance.log(name) for name in PARTS if part in (None, name) and instance.log(name).exists()]
    if not files:
        raise InstanceError(f"the instance {instance.name!r} has no logs yet")
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run(["tail", "-n", "100", "-F", *map(str, files)], check=False)  # noqa: S607
        return
    for path in files:
        prefix = f"{path.stem:11} | " if len(files) > 1 else ""
        for line in path.read_text(errors="replace").splitlines():
            print(prefix + line)


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
    commands.add_parser("down", parents=[common], help="stop an instance and its pods; keep its state")
    commands.add_parser("status", parents=[common], help="say how an instance does; 1 when it does not run")
    show = commands.add_parser("logs", parents=[common], help="print the logs of an instance's parts")
    show.add_argument("part", nargs="?", choices=PARTS, help="only this part's")
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
                        "up": lambda: up(instance, arguments.port),
                        "down": lambda: down(instance),
                        "reset": lambda: reset(instance),
                    }[command]()
    except (InstanceError, OSError) as error:
        print(f"creditmodel-sandbox: {error}", file=sys.stderr)
        return 2
    return 0
