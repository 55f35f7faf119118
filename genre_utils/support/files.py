"""Files that appear whole or not at all, and that one process at a time may write."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # seconds that a command without tables need not wait
    import pandas as pd

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
NUMPY_FULL = "Not enough free space"  # NumPy's own words, without a number

# A spreadsheet takes a text that begins so for a formula, and computes it.
FORMULA_MARKS = ("=", "+", "-", "@", "\t")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The suffix is kept, because Keras and NumPy choose the format by it. After an error the
    temporary file is removed and an older `path` stands untouched. A link's target is what is
    replaced; a pipe or a device, which cannot be, is yielded itself.
    """
    if is_device(path):
        with naming_full_disks(path):
            yield path
        return
    path = Path(os.path.realpath(path))
    temporary = temporary_file(path)
    try:
        with naming_full_disks(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def folder_of(file: str | os.PathLike) -> Path:
    """Return the folder in which a file will stand: that of a link's target."""
    return Path(os.path.realpath(file)).parent


def temporary_file(path: Path) -> Path:
    """Return where a file stands until it is whole."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


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

    lock = FileLock(lock_file(path), timeout=0)
    try:
        # FileLock would create the folder.
        if lock_file(path).parent.is_dir() and not is_device(path):
            lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"Another command is writing {path}: wait for its end, or give another name."
        ) from None
    except (OSError, NotImplementedError):
        pass  # whoever writes there says what is wrong
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows deletes it with the release
                os.unlink(lock.lock_file)
            lock.release()


def is_device(path: str | os.PathLike) -> bool:
    """Say whether a path is a pipe or a device, which is written as it is."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


@contextmanager
def naming_full_disks(path: Path) -> Iterator[None]:
    """Turn what a library says when the disk is full into an `OSError` of one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL and NUMPY_FULL not in str(error):
            raise
        raise OSError(
            f"{path} cannot be written: the disk is full, or a limit on files is reached "
            f"({error.strerror or error}). What was there before is unharmed; make room and run "
            "the same again."
        ) from None


def check_writable(folder: Path, what: str, advice: str) -> None:
    """Raise `OSError` unless files can be created in a folder; creates nothing that stays.

    Where there is no such folder yet, the nearest one above it is tried. The sentence says that
    `what` cannot be written, and gives the `advice`.
    """
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        # Permission bits promise too much (read-only mounts, quotas): only writing tells.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"?")
    except OSError as error:
        why = error.strerror or error
        raise OSError(f"{what} cannot be written ({why}): {advice}") from None


def walk(folder: str, suffixes: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the files of a folder and below in order; the names of whole trees are never held.

    A folder named as a file, with one of the `suffixes`, is yielded too, and so is one that may not
    be opened: whoever reads it says what is wrong.
    """
    # Folders and files still to come, the next one last: folders may nest a thousand deep.
    left: list[str | os.DirEntry] = [folder]
    while left:
        entry, named = left.pop(), False
        if not isinstance(entry, str):
            # A folder with a picture's ending was meant as a picture: name it instead of walking
            # by. A link to a folder may lead in a circle: it is named, and not followed.
            if entry.is_symlink() or not entry.is_dir() or entry.name.lower().endswith(suffixes):
                named = True
                yield entry.path
            if not entry.is_dir(follow_symlinks=False):
                continue
        path = os.fspath(entry)
        try:
            with os.scandir(path) as found:
                left += sorted(found, key=lambda one: one.name, reverse=True)
        except OSError:
            if not named:
                yield path


def sha256_of(file: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def short_hash(text: str) -> str:
    """Return the first 12 digits of the SHA-256 of a text, such as a poster's id."""
    # 48 bits: among 10,000 posters two collide with a chance of 2 in 10 million.
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def picture_hash(picture: str | Path) -> str:
    """Return the first 12 digits of the SHA-256 of a file, or of such a sum."""
    is_hash = isinstance(picture, str) and re.fullmatch("[0-9a-f]{12,64}", picture)
    return (picture if is_hash else sha256_of(Path(picture)))[:12]


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, whole or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV in UTF-8 in which no text is a formula, whole or not at all.

    A text or column name that begins like one, as a file's name may, gets a `'` in front (OWASP,
    "CSV injection"). Numbers stay what they are.
    """
    texts = table.select_dtypes(exclude="number").map(harmless)
    with replacing(path) as temporary:
        table.assign(**texts).rename(columns=harmless).to_csv(temporary, index=False)


def first_of(names: Sequence[Any], most: int) -> str:
    """Join the first names, at `most` so many, and say how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def printable(text: str) -> str:
    """Replace by codes what would move a terminal's cursor or break a line, as names may."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(cell: Any) -> Any:
    """Put a `'` in front of a text that a spreadsheet would compute, and write out its `\\r`.

    A carriage return ends a row for readers of CSV, and Python writes it without quotes.
    """
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", "\\r")
    return f"'{cell}" if cell.startswith(FORMULA_MARKS) else cell
