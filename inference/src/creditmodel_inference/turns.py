"""Whose turn it is on the processor: a request comes before the scoring log as soon as it has something to do.

On one core Linux lets a running thread finish its slice of about 3 ms before it turns to one that woke up meanwhile:
while the scoring log compresses, every request would wait that long. So both threads ask for short slices, of which a
thread gets more and no larger a share, and the event loop's are the shorter: then it is let in at once. Since Linux
6.12; elsewhere, and where a sandbox forbids it, nothing changes. Nothing here takes a privilege.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from contextlib import suppress

__all__ = ["PATIENT_NICE", "URGENT_NICE", "step_back", "take_short_slices"]

PATIENT_NICE = 19
"""Of the scoring log's thread: next to nothing of a processor that is wanted by both, all of one that is not.

The kernel lets a thread in at once only if it has not had its share. One client that asks again and again takes four
fifths of a core: with a fifth or a quarter for the log each of its requests would meet the log's.
"""

URGENT_NICE = 5
"""Of the thread that writes while rows pile up: a quarter, which is above what the log takes of a core in full use."""

SLICE_NANOSECONDS = 100_000
"""Of the event loop's thread: the shortest that Linux grants."""

LOG_SLICE_NANOSECONDS = 200_000
"""Of the scoring log's threads."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, and two clamps."""


def take_short_slices() -> bool:
    """Ask for short slices for the calling thread; threads that it starts later inherit them. False if refused."""
    return _schedule(0, SLICE_NANOSECONDS)


def step_back(niceness: int) -> None:
    """Have the calling thread, which the event loop's thread must never wait for, take the smaller share.

    A thread that has had its share does not get in at once when it wakes up, however short its slices. With equal
    shares that would be the event loop's, as soon as both together want most of the processor.
    """
    if platform.system() == "Linux" and not _schedule(niceness, LOG_SLICE_NANOSECONDS):
        thread = threading.get_native_id()  # Linux gives each thread a priority of its own
        with suppress(OSError):  # a sandbox that forbids it must not cost the log its thread
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)


def _schedule(niceness: int, slice_nanoseconds: int) -> bool:
    """Make the calling thread nicer by so much, and its slices so long. False if refused."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or platform.system() != "Linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = min(19, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + niceness)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, slice_nanoseconds, 0, 0, 0, 0)
    answer: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return answer == 0
