"""Local address ranges: what `ip route add local RANGE dev lo` does, through netlink.

All of 127.0.0.0/8 is local already. Any other range must be made so before a process can listen in it, which needs
CAP_NET_ADMIN. Only ranges that this process added are removed again.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

__all__ = ["LocalRanges", "Network", "RouteError", "free_ranges", "is_loopback"]

Network = ipaddress.IPv4Network
_NEW_ROUTE, _DELETE_ROUTE = 24, 25
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL = 255, 3, 254, 2
_ATTRIBUTE_DESTINATION, _ATTRIBUTE_INTERFACE = 1, 4
_CANDIDATES = ("10.244.0.0/16", "10.212.0.0/16", "172.28.0.0/16", "192.168.244.0/22")


class RouteError(Exception):
    """The range could not be made local; the message says what to do."""


def is_loopback(network: Network) -> bool:
    return network.subnet_of(Network("127.0.0.0/8"))


def is_local(network: Network) -> bool:
    """Whether a process can have an address of the range."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.bind((str(network[network.num_addresses // 2]), 0))
        return True
    return False


class LocalRanges:
    """The ranges that this process made local, as a context: they are removed at its end.

    `notes` is a file that remembers them, so that those of a process that was killed are removed by the next one.
    """

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._added: list[Network] = []
        self.left = frozenset(notes.read_text().split()) if notes.exists() else frozenset[str]()
        """What a process that was killed left, by the same notes."""

    def __enter__(self) -> LocalRanges:
        for text in self.left:
            _forget(Network(text))
        return self

    def __exit__(self, *_: object) -> None:
        for network in self._added:
            _forget(network)
        self._notes.unlink(missing_ok=True)

    def add(self, network: Network) -> bool:
        """Make `network` local, and say whether it was not: one that is local already is left alone. RouteError without
        the permission.
        """
        if is_loopback(network) or is_local(network):
            return False
        try:
            _change(_NEW_ROUTE, _CREATE | _EXCLUSIVE, network)
        except OSError as e:
            if e.errno == errno.EEXIST:
                return False
            raise RouteError(
                f"cannot make {network} local ({e.strerror}). Run the node as root, or run once: "
                f"sudo ip route add local {network} dev lo"
            ) from e
        self._added.append(network)
        self._write()
        return True

    def remove(self, network: Network) -> None:
        """Undo `add`; a range that this process did not add is left alone."""
        if network in self._added:
            _forget(network)
            self._added.remove(network)
            self._write()

    def _write(self) -> None:
        self._notes.write_text("\n".join(map(str, self._added)))


def _forget(network: Network) -> None:
    with contextlib.suppress(OSError):
        _change(_DELETE_ROUTE, 0, network)


def _change(kind: int, flags: int, network: Network) -> None:
    header = struct.pack(
        "=BBBBBBBBI",
        socket.AF_INET, network.prefixlen, 0, 0, _TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL, 0,
    )  # fmt: skip
    destination = struct.pack("=HH4s", 8, _ATTRIBUTE_DESTINATION, network.network_address.packed)
    interface = struct.pack("=HHI", 8, _ATTRIBUTE_INTERFACE, socket.if_nametoindex("lo"))
    body = header + destination + interface
    message = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(5)
        kernel.sendto(message, (0, 0))
        (code,) = struct.unpack_from("=i", kernel.recv(4096), 16)
    if code:
        raise OSError(-code, os.strerror(-code))


def _routed() -> Iterator[Network]:
    """Destinations in the main routing table, the default route left out."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        _, destination, *_, mask, _, _, _ = line.split()
        address, netmask = (socket.ntohl(int(word, 16)) for word in (destination, mask))
        if netmask:
            yield Network((address, netmask.bit_count()))


def free_ranges(taken: Iterable[Network] = (), own: Container[str] = ()) -> Iterator[Network]:
    """The private ranges that overlap neither a route of this machine nor `taken`.

    What is local already is another node's, whose pods have its addresses, unless it is one of our `own`.
    """
    used = [*_routed(), *taken]
    candidates = (Network(text) for text in _CANDIDATES if text in own or not is_local(Network(text)))
    return (network for network in candidates if not any(network.overlaps(other) for other in used))
