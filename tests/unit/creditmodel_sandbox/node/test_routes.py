from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from creditmodel_sandbox.node.addresses import AddressPool
from creditmodel_sandbox.node.routes import LocalRanges, Network, free_ranges, is_loopback

IN_A_NETWORK_OF_ITS_OWN = """
import fcntl, pathlib, socket, struct, sys
from creditmodel_sandbox.node.routes import LocalRanges, Network, free_ranges
UP, SET_FLAGS = 1, 0x8914
with socket.socket() as s:
    fcntl.ioctl(s, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
def can_listen(address):
    with socket.socket() as server, socket.socket() as client:
        try:
            server.bind((address, 0))
            server.listen()
            return client.connect_ex(server.getsockname()) == 0
        except OSError:
            return False
network = Network("10.77.0.0/16")
assert not can_listen("10.77.3.4")
notes = pathlib.Path(sys.argv[1])
with LocalRanges(notes / "a") as ranges:
    ranges.add(network)
    assert can_listen("10.77.3.4") and can_listen("10.77.255.254")
    with LocalRanges(notes / "b") as others:
        others.add(network)
    assert can_listen("10.77.3.4"), "a range that was there before was removed"
assert not can_listen("10.77.3.4")
LocalRanges(notes / "a").add(network)  # as one that is killed
with LocalRanges(notes / "a") as ranges:
    ranges.add(network)
assert not can_listen("10.77.3.4"), "what a killed node added was left"
with LocalRanges(notes / "a") as ranges:
    first, *others = free_ranges()
    assert ranges.add(first) and not ranges.add(first)
    assert list(free_ranges()) == others, "the pods of two nodes would have the same addresses"
    own = LocalRanges(notes / "a").left
    assert next(free_ranges(own=own)) == first, "a killed node's pods would lose their addresses"
print("fine")
"""


def test_a_range_is_local_while_it_is_held_and_not_afterwards(tmp_path: Path) -> None:
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_without_permission_the_message_says_what_to_run() -> None:
    script = (
        "from creditmodel_sandbox.node.routes import LocalRanges, Network, RouteError\n"
        "from pathlib import Path\n"
        "try:\n    LocalRanges(Path('/none')).add(Network('10.77.0.0/16'))\nexcept RouteError as e:\n    print(e)\n"
    )
    command = ["unshare", "--user", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "sudo ip route add local 10.77.0.0/16 dev lo" in done.stdout, done.stderr


MADE_BY_AN_ADMINISTRATOR = """
import fcntl, os, pathlib, socket, struct, sys
from creditmodel_sandbox.node.routes import LocalRanges, Network
add = "LocalRanges(pathlib.Path(sys.argv[1], 'notes')).add(Network('10.77.0.0/16'))"
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))
exec(add)
command = "import pathlib, sys; from creditmodel_sandbox.node.routes import LocalRanges, Network; "
os.execvp("unshare", ["unshare", "--user", sys.executable, "-c", f"{command}{add}; print('fine')", "/none"])
"""


def test_a_range_that_an_administrator_made_local_needs_no_permission(tmp_path: Path) -> None:
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-c", MADE_BY_AN_ADMINISTRATOR, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_loopback_ranges_need_nothing(tmp_path: Path) -> None:
    with LocalRanges(tmp_path / "notes") as ranges:
        ranges.add(Network("127.77.0.0/16"))
    assert is_loopback(Network("127.1.0.0/16"))
    assert not is_loopback(Network("10.0.0.0/8"))


def test_a_free_range_overlaps_nothing_that_is_taken() -> None:
    taken = [Network("10.0.0.0/8"), Network("172.16.0.0/12")]
    found = list(free_ranges(taken))
    assert found
    assert not any(each.overlaps(network) for each in found for network in taken)
    assert not list(free_ranges([Network("0.0.0.0/0")]))


def test_addresses_are_handed_out_once_and_rest_before_they_are_used_again() -> None:
    pool = AddressPool(Network("127.1.0.0/29"))
    taken = [pool.take() for _ in range(3)]
    assert taken == ["127.1.0.1", "127.1.0.2", "127.1.0.3"]
    pool.release("127.1.0.1")
    assert [pool.take() for _ in range(4)] == ["127.1.0.4", "127.1.0.5", "127.1.0.6", "127.1.0.1"]
    with pytest.raises(OverflowError, match="larger --pod-cidr"):
        pool.take()


def test_a_pod_gets_its_old_address_back_if_it_is_free() -> None:
    pool = AddressPool(Network("127.1.0.0/16"))
    assert pool.take("127.1.0.9") == "127.1.0.9"
    assert pool.take("127.1.0.9") == "127.1.0.1"
    assert pool.take("10.0.0.1") == "127.1.0.2"
