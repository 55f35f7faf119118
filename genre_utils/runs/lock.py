"""One training at a time writes to a folder: who may, and until when."""

import atexit
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

# Held by the process that trains into a folder, and let go by the system when it is killed.
LOCK_FILE = "in_use.lock"

_held: dict[Path, tuple[FileLock, bool]] = {}


def lock(folder: Path, made: bool) -> None:
    """Keep other processes from training into a folder until `Run.finish`, or this one's end.

    A folder that was `made` for this goes with the lock, if nothing was begun in it.
    """
    file = (folder / LOCK_FILE).resolve()
    if file in _held:
        return
    held = FileLock(file, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise ValueError(
            f"Another process is training into {folder}: wait for its end, stop it, or give "
            "another OUTPUT_DIR."
        ) from None
    except (OSError, NotImplementedError) as error:  # such as a disk in a network
        print(f"{folder} cannot be locked ({error}): let only one training at a time write to it.")
        return
    _held[file] = held, made
    atexit.register(unlock, folder)


def unlock(folder: Path) -> None:
    """Let go of a folder, if this process holds it."""
    file = (folder / LOCK_FILE).resolve()
    if file in _held:
        file.unlink(missing_ok=True)
        held, made = _held.pop(file)
        held.release()
        with suppress(OSError):  # something stands in it
            if made:
                file.parent.rmdir()
