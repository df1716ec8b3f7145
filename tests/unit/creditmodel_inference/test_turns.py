"""The order of threads on the processor."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from creditmodel_inference.turns import LOG_SLICE_NANOSECONDS, SLICE_NANOSECONDS, step_back, take_short_slices


def slice_of_this_thread() -> int | None:
    """What the kernel says, where it says it."""
    told = Path(f"/proc/self/task/{threading.get_native_id()}/sched")
    found = re.search(r"se\.slice\s*:\s*(\d+)", told.read_text()) if told.exists() else None
    return int(found[1]) if found else None


def test_a_thread_gets_short_slices_and_keeps_its_share() -> None:
    seen: list[tuple[bool, int, int | None]] = []

    def run() -> None:
        seen.append((take_short_slices(), os.getpriority(os.PRIO_PROCESS, 0), slice_of_this_thread()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ((granted, nice, told),) = seen
    assert nice == os.getpriority(os.PRIO_PROCESS, 0)
    assert not granted or told in (SLICE_NANOSECONDS, None)
    assert slice_of_this_thread() != SLICE_NANOSECONDS


def stepped_back() -> tuple[int, int | None]:
    """Nice and slice of a thread that stepped back."""
    seen: list[tuple[int, int | None]] = []

    def run() -> None:
        step_back(7)
        seen.append((os.getpriority(os.PRIO_PROCESS, 0), slice_of_this_thread()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return seen[0]


def test_a_thread_that_steps_back_takes_no_other_along() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    nice, told = stepped_back()
    assert nice == min(before + 7, 19)
    assert told in (LOG_SLICE_NANOSECONDS, None) or not take_short_slices_is_granted()
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def take_short_slices_is_granted() -> bool:
    """Asked of a thread of its own: this one is to stay as it is."""
    granted: list[bool] = []
    thread = threading.Thread(target=lambda: granted.append(take_short_slices()))
    thread.start()
    thread.join()
    return granted[0]


def test_where_slices_are_refused_a_thread_steps_back_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    monkeypatch.setattr("creditmodel_inference.turns._SCHED_SETATTR", {})
    assert stepped_back()[0] == min(before + 7, 19)


def test_where_priorities_cannot_be_changed_a_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("creditmodel_inference.turns._SCHED_SETATTR", {})
    monkeypatch.setattr(os, "setpriority", forbidden)
    step_back(7)
