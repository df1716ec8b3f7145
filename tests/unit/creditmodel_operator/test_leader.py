"""Who may take a Lease, whatever the clocks say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord

from creditmodel_operator.leader import Lease, _Election

YEAR_2099 = "2099-01-01 00:00:00.000001"
SECONDS = 15


@dataclass
class Clocks:
    """The time of day, which somebody may set, and the one that only goes on."""

    day: float = 1_800_000_000.0
    steady: float = 1000.0

    def go_on(self, seconds: float) -> None:
        self.day += seconds
        self.steady += seconds


@dataclass
class Lock:
    """A Lease that another replica holds."""

    identity: str = "us"
    name: str = "lease"
    namespace: str = "default"
    record: LeaderElectionRecord = field(
        default_factory=lambda: LeaderElectionRecord("them", "15", YEAR_2099, YEAR_2099)
    )
    taken: bool = False

    async def get(self, _name: str, _namespace: str) -> Any:
        return True, self.record

    async def update(self, _name: str, _namespace: str, _record: Any) -> bool:
        self.taken = True
        return True


async def led() -> None:
    """Nothing is done with the Lease here."""


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks()
    monkeypatch.setattr(time, "time", lambda: found.day)
    monkeypatch.setattr(Lease, "clock", staticmethod(lambda: found.steady))
    return found


@pytest.fixture
def lock() -> Lock:
    return Lock()


@pytest.fixture
async def election(clocks: Clocks, lock: Lock) -> _Election:
    """A replica that has looked at the Lease once."""
    config = Config(
        cast("Any", lock),
        lease_duration=SECONDS,
        renew_deadline=10,
        retry_period=2,
        onstarted_leading=led,
        onstopped_leading=None,  # type: ignore[arg-type]
    )
    found = _Election(config)
    assert not await found.try_acquire_or_renew()
    clocks.go_on(1)
    return found


async def test_a_lease_from_the_future_is_taken_when_its_holder_has_given_no_sign_for_long_enough(
    election: _Election, clocks: Clocks, lock: Lock
) -> None:
    clocks.go_on(SECONDS - 2)
    assert not await election.try_acquire_or_renew()
    clocks.go_on(2)
    assert await election.try_acquire_or_renew()
    assert lock.taken


async def test_a_clock_that_is_set_forward_takes_no_lease_from_its_holder(
    election: _Election, clocks: Clocks, lock: Lock
) -> None:
    clocks.day += 3600
    assert not await election.try_acquire_or_renew()
    assert not lock.taken


async def test_a_clock_that_is_set_back_does_not_keep_the_lease_of_a_dead_holder_alive(
    election: _Election, clocks: Clocks
) -> None:
    clocks.day -= 3600
    clocks.go_on(SECONDS)
    assert await election.try_acquire_or_renew()


async def test_a_lease_that_is_renewed_is_left_alone(election: _Election, clocks: Clocks, lock: Lock) -> None:
    for second in range(10, 60, 10):
        clocks.go_on(10)
        renewed = f"2099-01-01 00:00:{second}.000001"
        lock.record = LeaderElectionRecord("them", "15", YEAR_2099, renewed)
        assert not await election.try_acquire_or_renew()
