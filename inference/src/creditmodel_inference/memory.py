"""Memory of large requests, given back to the system when they are over."""

from __future__ import annotations

import ctypes

__all__ = ["give_back_memory", "keep_large_blocks_apart"]

LARGE_BYTES = 4 * 1024 * 1024
KEPT_BYTES = 2 * 1024 * 1024
"""Free memory at the end of the heap that is not given back before a burst of large requests is over: their pieces come
there again and again, and each page that is handed out anew costs a page fault."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

ARENAS = 2
"""Heaps of the process: the event loop's, and one that the other threads take over from each other. What one thread
has freed is of no use to another with a heap of its own."""


def keep_large_blocks_apart() -> None:
    """Have the C library map every large block by itself, so that it is given back as soon as it is freed.

    Left alone, glibc takes the first such block that is freed for a sign that more will come, and serves the next from
    its heap, where a small object above keeps the memory of a body long gone.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGE_BYTES)
        set_option(_M_TRIM_THRESHOLD, KEPT_BYTES)
        set_option(_M_ARENA_MAX, ARENAS)


def give_back_memory() -> None:
    """Return free pages of the heap. Takes milliseconds without holding the interpreter; nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
