"""What an instance of the sandbox is: a name, a state directory, its processes, and addresses of its own.

InstanceError   a command cannot be done; the message says why and what to do
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import ipaddress
import json
import os
import random
import socket
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

__all__ = ["JSON", "Instance", "InstanceError", "Process", "Record", "claim_slot", "free_port", "ranges"]

JSON = dict[str, Any]
SLOTS, FIRST_RANGE = 64, 32
"""Address ranges to choose from: slot n has pods in 127.(32+n).0.0/17 and Services in the other half.

Apart from what the parts take without an instance: Services in 127.96.0.0/16, pods in 127.244.0.0/16.
"""
PORTS = range(20_000, 30_000)


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

    @property
    def state(self) -> str:
        """For a person: a process that somebody has stopped (SIGSTOP) is alive, and does nothing."""
        if not self.alive:
            return "died"
        return f"stopped by a signal (pid {self.pid})" if _is_stopped(self.pid) else f"running (pid {self.pid})"

    def signal(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None when it is gone or only waits to be reaped."""
    fields = _fields(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


def _is_stopped(pid: int) -> bool:
    return _fields(pid)[:1] in (["T"], ["t"])


def _fields(pid: int) -> list[str]:
    """/proc/PID/stat from the process's state on; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@dataclass
class Record:
    """What is remembered of an instance between commands (instance.json)."""

    slot: int
    port: int = 0
    control_plane: str = ""
    """The directory of the control plane's programs, "" for the sandbox's own."""
    processes: dict[str, Process] = field(default_factory=dict)
    """By part, in the order of their start."""
    complete: bool = False
    """Whether the last `up` came to its end."""


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
            return Record(**{**content, "processes": processes})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{self.directory / 'instance.json'} cannot be read ({error}): `reset` the instance"
            raise InstanceError(message) from error

    def write(self, record: Record) -> None:
        path = self.directory / "instance.json"
        part = path.with_suffix(".json.part")
        try:
            part.write_text(json.dumps(asdict(record)))
            part.replace(path)
        except OSError as error:
            raise InstanceError(f"{path} cannot be written: {error.strerror}") from error

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._entry("clusters")["cluster"]["server"])

    def get(self, path: str) -> str | None:
        """What the API server answers its administrator for a path; None without an answer or with an error."""
        user = self._entry("users")["user"]
        authority = base64.b64decode(self._entry("clusters")["cluster"]["certificate-authority-data"]).decode()
        tls, headers = ssl.create_default_context(cadata=authority), {}
        if token := user.get("token"):
            headers["Authorization"] = f"Bearer {token}"
        else:
            tls.load_cert_chain(self.directory / "pki" / "admin.crt", self.directory / "pki" / "admin.key")
        request = urllib.request.Request(self.server + path, headers=headers)  # noqa: S310 - https of our own
        # It is on this machine: a proxy that the user has set has nothing to do with it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
        try:
            with opener.open(request, timeout=5) as response:
                answer: str = response.read().decode()
                return answer
        except (urllib.error.URLError, OSError):
            return None

    def _entry(self, section: str) -> JSON:
        entry: JSON = yaml.safe_load(self.kubeconfig.read_text())[section][0]
        return entry


# Addresses


def ranges(slot: int) -> tuple[str, str]:
    """The ranges of pods and of Services."""
    return f"127.{FIRST_RANGE + slot}.0.0/17", f"127.{FIRST_RANGE + slot}.128.0/17"


def claim_slot(instance: Instance, record: Record | None) -> tuple[int, socket.socket]:
    """A slot that nobody on this machine uses, and the claim to it. An instance that has Services keeps its slot."""
    if record is not None:
        if claim := _claim(record.slot):
            return record.slot, claim
        pods = ranges(record.slot)[0]
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


# Ports


def free_port() -> int:
    """A port of 127.0.0.1 that is free now and that no connection gets by chance, so that a server which is started
    again finds it free: one below those that the system gives to whoever asks for any, where there is room.
    """
    first_of_any = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    quiet = PORTS[: max(0, first_of_any - PORTS.start)]
    for port in [*random.sample(quiet, min(20, len(quiet))), 0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise InstanceError("no port of 127.0.0.1 is free")
