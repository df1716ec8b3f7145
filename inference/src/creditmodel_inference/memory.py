"""Memory that the C library keeps after large requests, given back to the system."""

from __future__ import annotations

import ctypes

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Return free pages of the heap. Takes milliseconds without holding the interpreter; nothing without glibc."""
    # A freed body of megabytes makes glibc serve the next one from its heap, where a small object above keeps it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
