"""Whose turn it is on the processor: a request comes before the scoring log as soon as it has something to do.

On one core Linux lets a running thread finish its slice of about 3 ms before it turns to one that woke up meanwhile:
while the scoring log compresses, every request would wait that long. A thread that asks for short slices is let in at
once, and gets no larger a share for it. Since Linux 6.12; elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from contextlib import suppress

__all__ = ["step_back", "take_short_slices"]

NICE = 5
"""Of the scoring log's thread: a quarter of a processor that is wanted by both, all of one that is not."""


SLICE_NANOSECONDS = 100_000
"""The shortest that Linux grants."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, and two clamps."""


def take_short_slices() -> bool:
    """Ask for short slices for the calling thread; threads that it starts later inherit them. False if refused."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or platform.system() != "Linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NANOSECONDS, 0, 0, 0, 0)
    answer: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return answer == 0


def step_back() -> None:
    """Have the calling thread, which the event loop's thread must never wait for, take the smaller share.

    A thread that has had its share does not get in at once when it wakes up, however short its slices. With equal
    shares that would be the event loop's, as soon as both together want most of the processor.
    """
    if platform.system() == "Linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox that forbids it must not cost the log its thread
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
