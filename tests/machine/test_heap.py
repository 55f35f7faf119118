import ctypes
import gc
import os
import subprocess
import sys
import weakref

import pytest

from genre_utils.machine import trim_heap

THREADS = """
import ctypes, resource, sys, threading
from genre_utils.machine import share_heap, trim_heap

def megabytes():
    fields = open("/proc/self/statm").read().split()
    return int(fields[1]) * resource.getpagesize() / 1e6

def fill():
    everyone.wait()
    blocks = [bytes(1500) for _ in range(20_000)]
    kept.append(blocks[::4000])  # a few in between, so that nothing shrinks by itself
    everyone.wait()

if sys.argv[1] == "shared":
    share_heap()
kept, everyone = [], threading.Barrier(6)
threads = [threading.Thread(target=fill) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(megabytes())
trim_heap()
print(megabytes(), flush=True)
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"),
    reason="the C library is not glibc",
)
def test_threads_share_a_heap_and_what_they_freed_is_given_back():
    heaps = {}
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    for how in ("shared", "own"):
        command = [sys.executable, "-c", THREADS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        before, after = map(float, done.stdout.split()[:2])
        assert after < before - 100, "of 180 MB that were freed"
        heaps[how] = done.stdout.count("<heap ")
    assert heaps["shared"] == 1 < heaps["own"]


def test_what_refers_to_itself_is_collected_before_memory_is_given_back():
    class Node:
        pass

    node = Node()
    node.itself, seen = node, weakref.ref(node)
    gc.disable()
    try:
        del node
        assert seen() is not None
        trim_heap()
        assert seen() is None
    finally:
        gc.enable()
