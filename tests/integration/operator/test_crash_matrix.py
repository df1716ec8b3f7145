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
from story import SECTIONS, Witness, difference, final_state, over, revision_of, tell

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


def same(found: JSON, wanted: JSON) -> None:
    """Two states are the same; where not, it is said where."""
    lines = difference(found, wanted)
    assert not lines, "\n".join(lines)


def survives(undisturbed: Ending, ground: Ground, row: Row, moments: dict[int, str]) -> None:
    ended = run(ground, moments)
    names = ", ".join(f"{name} ({count}x)" for name, count in Counter(ended.killed).items())
    row.done, row.verdict = f"killed at {names or 'nothing'}", ended.verdict
    same(ended.state, undisturbed.state)
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
        before, after = (len(proxy.since(0, is_write)) for proxy in (first, second))
        line.verdict += f", {before} + {after} writes"
        assert after or before >= len(undisturbed.writes)  # one that is asked to end ends its pass, be it the last
        same(final_state(ground), undisturbed.state)


@pytest.mark.parametrize(("number", "how"), [(2, "kill -9"), (14, "SIGTERM"), (9, "SIGSTOP")])
def test_another_replica_goes_on_where_the_leader_was(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row], number: int, how: str
) -> None:
    line = row(HAND_OVER, f"write {number}")
    with grounds() as ground:
        hand_over(undisturbed, ground, line, number, how)


@pytest.mark.full
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("number", range(1, 42, 4))
def test_another_replica_goes_on_wherever_the_leader_was(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row], number: int, how: str
) -> None:
    line = row(HAND_OVER, f"write {number}")
    with grounds() as ground:
        hand_over(undisturbed, ground, line, number, how)


@pytest.mark.full
def test_two_operators_by_mistake_do_the_work_once(
    undisturbed: Ending, grounds: Grounds, row: Callable[..., Row]
) -> None:
    """Nobody asked for leader election. Both see the same and decide the same; what one has written the other finds."""
    line = row(HAND_OVER, "two operators act at once, without a Lease")
    with grounds() as ground, proxied(ground.server) as first, proxied(ground.server) as second:
        witness = Witness(ground)
        first.wrote = second.wrote = witness.wrote
        for number, proxy in enumerate((first, second)):
            ground.start(kubeconfig=proxy.kubeconfig(ground.start.directory / f"operator-{number}"))
        tell(ground, ground.step)
        ground.until(lambda: rests(ground), "rest", ground.step)
        writes = [len(proxy.since(0, is_write)) for proxy in (first, second)]
        line.done, line.verdict = f"{writes[0]} + {writes[1]} writes", witness.verdict()
        same(final_state(ground), undisturbed.state)
        assert sum(writes) <= 4 * len(undisturbed.writes)


def rests(ground: Ground) -> bool:
    """Whether nothing is written for a while."""
    before = ground.snapshot()
    time.sleep(2)
    return ground.snapshot() == before


EDITS = "edit matrix: spec changes at a write of a rollout"


class Editor:
    """Applies another spec right after the n-th write that follows `begin`."""

    def __init__(self, proxy: Proxy, witness: Witness, number: int, edit: Callable[[], object]) -> None:
        self.witness, self.number, self.edit = witness, number, edit
        self.write = "nothing"
        self._count = 0
        proxy.wrote = self._wrote

    def begin(self) -> None:
        """Count from here."""
        self._count = 0
        self._armed = True

    _armed = False

    def _wrote(self, request: Request) -> Fault | None:
        self.witness.wrote(request)
        self._count += 1
        if self._armed and self._count == self.number:
            self._armed = False
            self.write = str(request)
            self.edit()
        return None


def edited(ground: Ground, line: Row, number: int, bundle: str) -> None:
    """v1 serves, v2 is on its way, and spec names `bundle`."""
    with proxied(ground.server) as proxy:
        witness = Witness(ground)
        editor = Editor(proxy, witness, number, lambda: ground.apply(bundle, **SECTIONS))
        ground.start(kubeconfig=proxy.kubeconfig(ground.start.directory / "kubeconfig"))
        tell(ground, ground.step, ("v1",))
        editor.begin()
        ground.apply("v2", **SECTIONS)
        ground.until(lambda: editor.write != "nothing" or ground.is_ready("v2"), "the edit", ground.step)
        ground.apply(bundle, **SECTIONS)  # where v2 took fewer writes than that
        ground.until(lambda: over(ground, bundle), f"{bundle} Ready", ground.step)
        line.done, line.verdict = f"{bundle} named at {editor.write}", witness.verdict()
        promoted = {entry["revision"] for entry in ground.status["history"]}
        assert ground.names("Deployment") == promoted, "what came to nothing is still there"
        assert ground.names("HorizontalPodAutoscaler") == ground.names("PodDisruptionBudget") == {ground.selected}
        assert witness.moves[0] == revision_of("v1")
        assert witness.moves[-1] == revision_of(bundle) == ground.selected
        assert all(job["status"].get("conditions") for job in ground.objects("Job")), "a Job that nobody waits for"


@pytest.mark.parametrize(("number", "bundle"), [(12, "v3")])
def test_a_rollout_is_superseded_in_its_middle(
    grounds: Grounds, row: Callable[..., Row], number: int, bundle: str
) -> None:
    line = row(EDITS, f"write {number}")
    with grounds() as ground:
        edited(ground, line, number, bundle)


@pytest.mark.full
@pytest.mark.parametrize("bundle", ["v3", "v1"])
@pytest.mark.parametrize("number", range(1, 26, 2))
def test_a_rollout_is_superseded_wherever_it_was(
    grounds: Grounds, row: Callable[..., Row], number: int, bundle: str
) -> None:
    line = row(EDITS, f"write {number}")
    with grounds() as ground:
        edited(ground, line, number, bundle)
