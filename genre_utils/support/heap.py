"""Give freed memory back to the system, where the C library is glibc; elsewhere nothing happens.

glibc lets threads have heaps of their own, which keep what was freed. The commands work in many
threads, and would keep hundreds of megabytes (`benchmarks/page.py` and `prediction.py` tell their
memory).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

ARENA_MAX = -8  # glibc's name for the number of heaps, in malloc.h


def share_heap() -> None:
    """Let all threads that come share one heap; call it before there are any."""
    _call("mallopt", ARENA_MAX, 1)


def trim_heap() -> None:
    """Collect reference cycles, then give back all memory that is free."""
    gc.collect()
    _call("malloc_trim", 0)


def _call(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library, such as musl
            getattr(ctypes.CDLL(None), function)(*arguments)
