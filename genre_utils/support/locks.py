"""Files that one process at a time may write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def lock_file(path: str | os.PathLike) -> Path:
    """Return where the lock of a file stands: hidden beside it, beside a link's target."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.lock")


@contextmanager
def only_writer(path: str | os.PathLike) -> Iterator[None]:
    """Keep other commands from writing `path` meanwhile; raises `BlockingIOError` where one does.

    The system lets go of the lock when a process ends, however it ends. A pipe or a device is not
    locked, nor is a file on a disk that knows no locks.
    """
    from filelock import FileLock, Timeout  # a fifth of a second that `--help` need not wait

    is_device = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    if is_device or not lock_file(path).parent.is_dir():  # which FileLock would create
        yield
        return
    lock = FileLock(lock_file(path), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"Another command is writing {path}: wait for its end, or give another name."
        ) from None
    except (OSError, NotImplementedError):  # whoever writes there says what is wrong
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes it with the release
            os.unlink(lock.lock_file)
        lock.release()
