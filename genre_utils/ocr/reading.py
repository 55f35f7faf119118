"""Reading the words on many posters once, and whether it is worth the time."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from genre_utils.images import PosterError, read_poster
from genre_utils.ocr.cache import WordCache, hash_file
from genre_utils.ocr.line import Line
from genre_utils.ocr.reader import Reader
from genre_utils.support import as_choice, progress

# Each reads with a thread of its own: about 150 MB.
MAX_WORKERS = 8
PATIENCE = 10  # minutes of reading that "auto" spends
PROBE = 5  # posters a worker that are read to estimate the time of all


@dataclass(frozen=True)
class Readings:
    """The words of some posters: `lines` by path, and `unreadable`, `{path: reason}`.

    `new` counts the pictures that were read now; the words of all others were in the cache.
    """

    lines: dict[str, list[Line]]
    unreadable: dict[str, str]
    new: int


def read_posters(
    paths: Sequence[str],
    cache: WordCache,
    reader: Reader | None = None,
    read_all: Callable[[dict[str, str], WordCache, Reader], dict[str, str]] | None = None,
    anew: bool = False,
) -> Readings:
    """Read the words on posters into `cache` on all cores, each picture once.

    `read_all` reads `{hash: path}` elsewhere instead, and returns `{hash: reason}` of what failed.
    With `anew` also those are read that were read with other settings than today's.

    When it is stopped and run again, it resumes. What cannot be read is in the answer's
    `unreadable`. Raises `ImportError` if a poster is left to read and RapidOCR is missing.
    """
    hashes, unreadable = _hash_all(paths)
    new = _unread(hashes, cache)
    if anew and (reader := reader or _reader_for(hashes)):
        for path, sha256 in hashes.items():
            with suppress(PosterError):
                if cache.settings(sha256) != reader.settings(read_poster(path)):
                    new[sha256] = path
    reader = reader or (_reader_for(new.values()) if new else None)
    failed = (read_all or _read_all)(new, cache, reader) if new else {}
    unreadable |= {path: failed[sha256] for path, sha256 in hashes.items() if sha256 in failed}
    lines = {path: cache.get(hashes[path]) or [] for path in hashes if path not in unreadable}
    return Readings(lines, unreadable, len(new) - len(failed))


def decide(choice: str, paths: Sequence[str], cache: WordCache) -> tuple[bool, str]:
    """Decide whether to read the words on posters, with a sentence that says why.

    `choice` is `"yes"`, `"no"`, or `"auto"`: read when all words are in `cache` or the rest takes
    less than 10 minutes here, unless none was found on those read. Raises `ValueError` for another
    word, and `ImportError` for `"yes"` where RapidOCR is missing.
    """
    choice = as_choice("READ_TEXT", choice)
    if choice == "no":
        return False, "The words on the posters are not read, as READ_TEXT says."
    try:
        minutes = estimate_seconds(paths, cache) / 60
    except ImportError as error:  # missing, or broken by a library of the system
        if choice == "yes":
            raise
        return False, str(error)
    if choice == "auto":
        read = [lines for h in _hash_all(paths)[0].values() if (lines := cache.get(h)) is not None]
        if read and not any(read):
            return False, "The words on the posters are not read: those tried for it have none."
    if not minutes:
        return True, f"The words on the posters are in {cache.file}, as far as they can be read."
    if choice == "auto" and minutes > PATIENCE:
        return False, (
            f"The words on the posters are not read: it would take about {minutes:.0f} minutes "
            "here. READ_TEXT='yes' reads them all the same, once."
        )
    return True, f"The words on the posters are read, which takes about {minutes:.1f} minutes here."


def estimate_seconds(paths: Sequence[str], cache: WordCache, reader: Reader | None = None) -> float:
    """Say how long `read_posters` will take, by reading a few of the posters into `cache`.

    0 when nothing is left to read. Raises `ImportError` as `read_posters` does.
    """
    new = _unread(_hash_all(paths)[0], cache)
    if not new:
        return 0.0
    reader = reader or _reader_for(new.values())
    # Spread over all: a folder's first posters may be its smallest.
    items, count = [*new.items()], min(len(new), PROBE * workers())
    probe = [items[i] for i in np.linspace(0, len(new) - 1, count).astype(int)]
    # The first posters load the models; they do not count.
    warm, timed = dict(probe[: workers()]), dict(probe[workers() :])
    _read_all(warm, cache, reader)
    start = time.perf_counter()
    _read_all(timed, cache, reader)
    each = (time.perf_counter() - start) / max(1, len(timed))
    return each * (len(new) - len(probe))


def workers() -> int:
    """Return the number of posters to read side by side: as many as cores, at most 8."""
    return min(os.cpu_count() or 1, MAX_WORKERS)


def _hash_all(paths: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return `{path: hash}`, and `{path: reason}` of the files that cannot be opened."""
    hashes, unreadable = {}, {}
    for path in paths:
        try:
            hashes[path] = hash_file(path)
        except PosterError as error:
            unreadable[path] = error.reason
    return hashes, unreadable


def _unread(hashes: dict[str, str], cache: WordCache) -> dict[str, str]:
    """Return `{hash: path}` of the pictures to read; of identical ones the last stands for all."""
    return {sha256: path for path, sha256 in hashes.items() if cache.get(sha256) is None}


def _reader_for(paths: Iterable[str]) -> Reader | None:
    """Start a reader; `None` where RapidOCR is missing and not one picture can be decoded."""
    try:
        return Reader()
    except ImportError:
        for path in paths:
            with suppress(PosterError):
                read_poster(path)
                raise
        return None


def _read_all(pictures: dict[str, str], cache: WordCache, reader: Reader | None) -> dict[str, str]:
    """Read `{hash: path}` into the cache; returns `{hash: reason}` of what cannot be read."""
    failed = {}

    def read(sha256: str, path: str) -> None:
        rgb = read_poster(path)
        # Kept before the next is begun, whatever becomes of the process.
        cache.put(sha256, reader.read(rgb), reader.settings(rgb))

    # ONNX Runtime computes outside Python's global lock, and 95 % of the time is spent there:
    # threads fill all cores as processes would, in half the memory.
    pool = ThreadPoolExecutor(workers())
    try:
        work = {pool.submit(read, *picture): picture[0] for picture in pictures.items()}
        with progress.bar(total=len(work), desc="reading words", unit=" posters") as bar:
            for done in as_completed(work):
                try:
                    done.result()
                except PosterError as error:
                    failed[work[done]] = error.reason
                bar.update()
    finally:  # after Ctrl-C, too, only what is being read is waited for
        pool.shutdown(cancel_futures=True)
    return failed
