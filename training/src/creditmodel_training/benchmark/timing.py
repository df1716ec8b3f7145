"""Timing two calls side by side, so that whatever else the machine does falls on both alike.

A round times eight blocks in Thue-Morse order, A B B A B A A B, and a seeded coin says which of the two is A. Drifts of
the machine's speed cancel out, linear and quadratic, and each side follows the other, and itself, equally often: the
block after a change runs with a cold cache. (In A B B A it is A that pays for that: up to 4 % of its time, measured.)

Each round takes fresh instances of both. Where a model happens to lie in memory moves its time by half a per cent for
as long as it lives, several times the spread within an instance: were one instance kept, two loads of the same file
would measure as two different models.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Plan", "Round", "plan", "quiet", "timed_rounds"]

Call = Callable[[], object]
Loader = Callable[[int], Call]
"""Gives a fresh instance's call for the numbered round."""

Nanoseconds = NDArray[np.int64]

WARM_NS = 5_000_000
WARM_CALLS = 3
BLOCK_NS = (2_000_000, 20_000_000)
"""A block lasts this long, at least and at most: the least is ten thousand times the clock's step."""
BLOCK_CALLS = (5, 5_000)
LEAD_IN = 10
"""One call in so many is made before a block's timing begins, and at least two."""
ORDER = (0, 1, 1, 0, 1, 0, 0, 1)
LEAST_ROUNDS = 10


@dataclass(frozen=True)
class Round:
    """Nanoseconds of each call, block by block."""

    first: tuple[Nanoseconds, ...]
    second: tuple[Nanoseconds, ...]

    def log_ratio(self) -> float:
        """Logarithm of the first's time over the second's; a block counts as its median, which pauses do not move."""
        first = sum(float(np.median(block)) for block in self.first)
        second = sum(float(np.median(block)) for block in self.second)
        return float(np.log(first / second))


@dataclass(frozen=True)
class Plan:
    """How many calls make a block of either side."""

    first_calls: int
    second_calls: int


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector and autograd out of what is timed."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        if enabled:
            gc.enable()


def plan(first: Loader, second: Loader, rounds: int, budget_seconds: float) -> Plan:
    """Size the blocks so that `rounds` rounds fit the budget, loading and warming included."""
    first(0), second(0)  # The process's first load of a kind takes far longer than the ones that follow.
    started = time.perf_counter_ns()
    pace = _warmed(first(0)), _warmed(second(0))
    overhead = time.perf_counter_ns() - started
    block = (budget_seconds * 1e9 / rounds - overhead) / len(ORDER) / (1 + 1 / LEAD_IN)
    return Plan(*(_calls(block, call_ns) for call_ns in pace))


def timed_rounds(
    first: Loader, second: Loader, rounds: int, sizes: Plan, seed: int, deadline_seconds: float
) -> Iterator[Round]:
    """Time up to `rounds` rounds; past the deadline, no more than it takes to judge. Run it under `quiet()`."""
    coins = np.random.default_rng(seed).permutation(np.arange(rounds) % 2)
    deadline = time.monotonic() + deadline_seconds
    for index, coin in enumerate(coins):
        if index >= min(rounds, LEAST_ROUNDS) and time.monotonic() > deadline:
            return
        if coin:
            yield _round(first(index), second(index), sizes)
        else:
            swapped = _round(second(index), first(index), Plan(sizes.second_calls, sizes.first_calls))
            yield Round(swapped.second, swapped.first)


def _round(a: Call, b: Call, sizes: Plan) -> Round:
    _warmed(a)
    _warmed(b)
    sides = ((a, sizes.first_calls), (b, sizes.second_calls))
    blocks: tuple[list[Nanoseconds], list[Nanoseconds]] = ([], [])
    for side in ORDER:
        blocks[side].append(_block(*sides[side]))
    return Round(tuple(blocks[0]), tuple(blocks[1]))


def _block(call: Call, calls: int) -> Nanoseconds:
    """Time each of so many calls. The loop does nothing else."""
    for _ in range(max(2, calls // LEAD_IN)):
        call()
    taken = [0] * calls
    clock = time.perf_counter_ns
    for index in range(calls):
        started = clock()
        call()
        taken[index] = clock() - started
    return np.array(taken, np.int64)


def _warmed(call: Call) -> float:
    """Call until warm; returns nanoseconds of a typical call."""
    taken: list[int] = []
    while len(taken) < WARM_CALLS or sum(taken) < WARM_NS:
        started = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - started)
    return float(np.median(taken[len(taken) // 2 :]))


def _calls(block_ns: float, call_ns: float) -> int:
    wanted = _within(block_ns, BLOCK_NS) / max(call_ns, 1.0)
    return int(_within(wanted, BLOCK_CALLS))


def _within(value: float, bounds: Sequence[float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
