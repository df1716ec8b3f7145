"""The order of threads on the processor."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from creditmodel_inference.turns import NICE, SLICE_NANOSECONDS, step_back, take_short_slices


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


def test_a_thread_that_steps_back_takes_no_other_along() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []

    def run() -> None:
        step_back()
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [min(before + NICE, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_where_priorities_cannot_be_changed_a_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    step_back()
