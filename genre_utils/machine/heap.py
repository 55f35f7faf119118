"""The memory that the C library keeps: one heap for all threads, given back when it is free."""

import ctypes
import gc
import sys
from contextlib import suppress

ARENA_MAX = -8  # glibc's name for the number of heaps, in malloc.h


def share_heap() -> None:
    """Let all threads that come share one heap; call it before there are any.

    glibc lets threads have heaps of their own, which keep what was freed. The commands work in many
    threads, and would keep hundreds of megabytes (`benchmarks/page.py` and `prediction.py` tell
    their memory). With another C library nothing happens.
    """
    _call_glibc("mallopt", ARENA_MAX, 1)


def trim_heap() -> None:
    """Collect reference cycles, then give back to the system all memory that is free."""
    gc.collect()
    _call_glibc("malloc_trim", 0)


def _call_glibc(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library, such as musl
            getattr(ctypes.CDLL(None), function)(*arguments)
