"""Hide all that is newer than AVX2 from ONNX Runtime: a script for gdb.

    gdb -batch -x benchmarks/hide_avx512.py --args python benchmarks/runtimes.py --only avx2

ONNX Runtime asks the processor what it can do by the instruction CPUID and chooses its code by the
answers. gdb stops behind each of these instructions and clears the bits of AVX-512, VNNI and AMX
(Intel, "Software Developer's Manual", CPUID, leaf 7). All this happens at the start; then the
program runs at its own speed. It needs gdb and objdump.
"""

import re
import subprocess

import gdb

LIBRARY = "onnxruntime_pybind11_state"
# By CPUID's leaf and subleaf: the bits to clear in each register.
NEWER = {
    (7, 0): {
        "ebx": (16, 17, 21, 26, 27, 28, 30, 31),
        "ecx": (1, 6, 11, 12, 14),
        "edx": (2, 3, 8, 22, 23, 24, 25),
    },
    (7, 1): {"eax": (4, 5, 21), "edx": (4, 5, 10, 19)},
}
asked, hidden = {}, []


def register(name: str) -> int:
    """Return the lower half of a register."""
    return int(gdb.parse_and_eval(f"${name}")) & 0xFFFFFFFF


class Before(gdb.Breakpoint):
    """Note what is asked."""

    def stop(self) -> bool:
        asked[gdb.selected_thread().num] = register("eax"), register("ecx")
        return False


class Behind(gdb.Breakpoint):
    """Clear bits of the answer."""

    def stop(self) -> bool:
        question = asked.pop(gdb.selected_thread().num, None)
        for name, bits in NEWER.get(question, {}).items():
            answer = register(name) & ~sum(1 << bit for bit in bits)
            gdb.execute(f"set $r{name[1:]} = {answer}")
            hidden.append(question)
        return False


def loaded(event: gdb.NewObjFileEvent) -> None:
    """Set the breakpoints when the library is loaded."""
    file = event.new_objfile.filename
    if LIBRARY not in file:
        return
    gdb.events.new_objfile.disconnect(loaded)
    with open(f"/proc/{gdb.selected_inferior().pid}/maps") as maps:
        base = min(int(line.split("-")[0], 16) for line in maps if LIBRARY in line)
    code = subprocess.run(["objdump", "-d", file], capture_output=True, text=True, check=True)
    for found in re.finditer(r"^ *([0-9a-f]+):.*\tcpuid", code.stdout, re.MULTILINE):
        at = base + int(found[1], 16)
        Before(f"*{at:#x}", internal=True)
        Behind(f"*{at + 2:#x}", internal=True)  # the instruction has two bytes


gdb.events.new_objfile.connect(loaded)
gdb.execute("set breakpoint pending on")
gdb.execute("set environment AVX512_HIDDEN 1")
gdb.execute("run")
print(f"CPUID was answered for a processor of AVX2 {len(hidden)} times.")
