"""Pod addresses: one each, taken in turn so that a freed one rests before it is used again."""

from __future__ import annotations

import ipaddress

__all__ = ["AddressPool"]


class AddressPool:
    """Addresses of one range, its first (the network's) and last (broadcast) left out."""

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self.network = network
        self._next = 0
        self._taken: set[str] = set()

    def take(self, wanted: str = "") -> str:
        """`wanted` if it is in the range and free, else the next free one. OverflowError when none is left."""
        if wanted and wanted not in self._taken and ipaddress.IPv4Address(wanted) in self.network:
            self._taken.add(wanted)
            return wanted
        usable = self.network.num_addresses - 2
        for _ in range(usable):
            self._next = self._next % usable + 1
            address = str(self.network.network_address + self._next)
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise OverflowError(f"every address of {self.network} is in use; give a larger --pod-cidr")

    def release(self, address: str) -> None:
        self._taken.discard(address)
