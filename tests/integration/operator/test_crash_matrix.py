"""The operator is killed at every write of a whole rollout and started again: afterwards nobody can tell."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from faulty import DROPPED, Fault, Proxy, Request, is_write, proxied
from story import Witness, difference, final_state, tell

if TYPE_CHECKING:
    from tests.conftest import Row
    from tests.integration.operator.conftest import Ground, Operator

JSON = dict[str, Any]
Grounds = Callable[[], AbstractContextManager["Ground"]]
TABLE = "crash matrix: kill -9 at a write"
BEFORE, AFTER = "before it reached the server", "before its answer came back"


class Killer:
    """Kills the operator at the n-th write of the story, for every n in `moments`."""

    def __init__(self, proxy: Proxy, witness: Witness, moments: dict[int, str], running: list[Operator]) -> None:
        self.moments, self.witness, self.running = moments, witness, running
        self.writes: list[str] = []
        self.killed: list[str] = []
        self._dead = False
        proxy.rule, proxy.wrote = self._asked, self._answered

    def revive(self) -> None:
        """Another process is started."""
        self._dead = False

    def _asked(self, request: Request) -> Fault | None:
        if self._dead:
            return DROPPED
        if not request.writes:
            return None
        self.writes.append(str(request))
        return self._kill() if self.moments.get(len(self.writes)) == BEFORE else None

    def _answered(self, request: Request) -> Fault | None:
        self.witness.wrote(request)
        return self._kill() if self.moments.get(len(self.writes)) == AFTER else None

    def _kill(self) -> Fault:
        self._dead = True
        self.killed.append(self.writes[-1])
        self.running[-1].process.send_signal(signal.SIGKILL)
        return DROPPED


@dataclass(frozen=True)
class Ending:
    """What a run of the story left."""

    state: JSON
    writes: list[str]
    killed: list[str]
    verdict: str


def run(ground: Ground, moments: dict[int, str]) -> Ending:
    """The story, with the operator killed at these writes and started again each time."""
    with proxied(ground.server) as proxy:
        witness = Witness(ground)
        killer = Killer(proxy, witness, moments, ground.start.running)
        kubeconfig = proxy.kubeconfig(ground.start.directory / "kubeconfig")

        def meanwhile() -> None:
            ground.step()
            if ground.start.running[-1].ended:
                killer.revive()
                ground.start(kubeconfig=kubeconfig)

        ground.start(kubeconfig=kubeconfig)
        tell(ground, meanwhile)
        return Ending(final_state(ground), killer.writes, killer.killed, witness.verdict())


@pytest.fixture(scope="module")
def undisturbed(grounds: Grounds) -> Ending:
    """The story without a crash."""
    with grounds() as ground:
        return run(ground, {})


def survives(undisturbed: Ending, ground: Ground, row: Row, moments: dict[int, str]) -> None:
    ended = run(ground, moments)
    names = ", ".join(f"{name} ({count}x)" for name, count in Counter(ended.killed).items())
    row.done, row.verdict = f"killed at {names or 'nothing'}", ended.verdict
    assert not difference(ended.state, undisturbed.state)
    assert ended.verdict == undisturbed.verdict


SAMPLE = {
    "writes 1, 8, 15, …, by turns before and after": {n: (BEFORE, AFTER)[n % 2] for n in range(1, 100, 7)},
    "writes 4, 11, 18, …, by turns after and before": {n: (AFTER, BEFORE)[n % 2] for n in range(4, 100, 7)},
}


@pytest.mark.parametrize("moments", SAMPLE)
def test_an_operator_killed_again_and_again_comes_to_the_same_end(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row], moments: str
) -> None:
    line = row(TABLE, moments)
    with grounds() as ground:
        survives(undisturbed, ground, line, SAMPLE[moments])


@pytest.mark.full
@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("number", range(1, 61))
def test_an_operator_killed_at_any_write_comes_to_the_same_end(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row], number: int, when: str
) -> None:
    line = row(TABLE, f"write {number}, {when}")
    with grounds() as ground:
        survives(undisturbed, ground, line, {number: when})


HAND_OVER = "hand-over matrix: the leader is lost at a write, another replica is there"
ELECTION = ("--leader-elect", "--lease-seconds", "5")
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGSTOP": signal.SIGSTOP}


class Ender:
    """Signals the leader right after its n-th write has taken effect, before it hears the answer."""

    def __init__(self, proxy: Proxy, witness: Witness, number: int, how: signal.Signals) -> None:
        self.proxy, self.witness, self.number, self.how = proxy, witness, number, how
        self.process: subprocess.Popen[bytes] | None = None
        self.write = "nothing"
        self._count = 0
        proxy.wrote = self._wrote

    def _wrote(self, request: Request) -> Fault | None:
        self.witness.wrote(request)
        self._count += 1
        if self._count == self.number and self.process is not None:
            self.write = str(request)
            self.process.send_signal(self.how)
        return None


def woken(leader: Operator, proxy: Proxy) -> None:
    """A leader that was paused finds that it is none: it ends, and has written nothing."""
    at = time.monotonic()
    assert leader.kill(signal.SIGCONT) == 1, leader.log.read_text()
    late = proxy.since(at, is_write)
    assert not late, [str(request) for request in late]


def hand_over(undisturbed: Ending, ground: Ground, line: Row, number: int, how: str) -> None:
    witness, election = Witness(ground), (*ELECTION, "--lease-namespace", ground.namespace)
    with proxied(ground.server) as first, proxied(ground.server) as second:
        ender = Ender(first, witness, number, SIGNALS[how])
        second.wrote = witness.wrote
        leader = ground.start(*election, kubeconfig=first.kubeconfig(ground.start.directory / "first"))
        ender.process = leader.process
        ground.until(lambda: leader.metric("creditmodel_operator_leader") == 1, "a leader")
        ground.start(*election, kubeconfig=second.kubeconfig(ground.start.directory / "second"))
        tell(ground, ground.step)
        if how == "SIGSTOP":
            woken(leader, first)
        else:
            assert leader.process.wait(30) == (0 if how == "SIGTERM" else -signal.SIGKILL)
        line.done, line.verdict = f"{how} at {ender.write}", witness.verdict()
        line.verdict += f", {len(first.since(0, is_write))} + {len(second.since(0, is_write))} writes"
        assert second.since(0, is_write)
        assert not difference(final_state(ground), undisturbed.state)


@pytest.mark.parametrize(("number", "how"), [(2, "kill -9"), (14, "SIGTERM"), (9, "SIGSTOP")])
def test_another_replica_goes_on_where_the_leader_was(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row], number: int, how: str
) -> None:
    line = row(HAND_OVER, f"write {number}")
    with grounds() as ground:
        hand_over(undisturbed, ground, line, number, how)


@pytest.mark.full
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("number", range(1, 46, 4))
def test_another_replica_goes_on_wherever_the_leader_was(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row], number: int, how: str
) -> None:
    line = row(HAND_OVER, f"write {number}")
    with grounds() as ground:
        hand_over(undisturbed, ground, line, number, how)
