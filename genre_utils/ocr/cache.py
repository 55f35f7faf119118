"""The words that were read: kept on disk by the hash of a picture, or taken from elsewhere."""

import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from genre_utils.images import PosterError, picture_size, read_poster
from genre_utils.ocr.line import WORDS_FILE, Line
from genre_utils.support import (
    DataError,
    first_of,
    folder_of,
    naming_full_disks,
    progress,
    sha256_of,
)

# What reading JSON and taking it apart may raise, whatever stands in it.
_MALFORMED = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
IMPORTED = "rapidocr 3.10.0"  # what readings made elsewhere were made with
_BEGINNING = b'{"sha256"'
_NAMED = 20  # numbers of damaged lines in a message


class WordCache:
    """Readings on disk, by the hash of the picture file's bytes: JSONL, one picture a line.

    It is only ever appended to, a line in one write, so that a killed run loses at most the line
    it was writing. Lines that cannot be understood are left out, named on standard error, and
    their numbers are in `damaged`. Raises `DataError` for a file of something else.
    """

    def __init__(self, file: str | os.PathLike = WORDS_FILE):
        self.file = Path(file)
        self.damaged: list[int] = []
        self._readings: dict[str, tuple[list[Line], str]] = {}  # lines, and what they were read by
        if self.file.is_dir():
            raise DataError(
                f"The words cannot be kept in {os.fspath(file)!r}: give the name of a file, such "
                f"as {os.fspath(WORDS_FILE)!r}."
            )
        if self.file.exists():
            self._load()

    def __len__(self) -> int:
        return len(self._readings)

    def get(self, sha256: str) -> list[Line] | None:
        """Return the lines of a picture as they were put; `None` when it was never read."""
        return self._readings.get(sha256, (None, ""))[0]

    def settings(self, sha256: str) -> str:
        """Return with what a picture was read; empty when it never was, or nobody noted it."""
        return self._readings.get(sha256, (None, ""))[1]

    def put(self, sha256: str, lines: Sequence[Line], reader: str) -> None:
        """Keep the lines of a picture, on disk before this returns.

        `reader` says with what they were read, as `Reader.settings` does. Of two readings of one
        picture the later counts.
        """
        packed = [
            [text, score, [c for xy in corners for c in xy]] for text, score, corners in lines
        ]
        entry = {"sha256": sha256, "reader": reader, "lines": packed}
        line = f"{json.dumps(entry, ensure_ascii=False, allow_nan=False)}\n"
        line = line.encode("utf-8", "replace")
        folder_of(self.file).mkdir(parents=True, exist_ok=True)
        # Unbuffered and at the end, wherever that is by now: should another thread or process write
        # to the same file, its lines and these stand in turn.
        with naming_full_disks(self.file), open(self.file, "a+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a killed run did not finish stays alone
                    line = b"\n" + line
            if file.write(line) < len(line):
                raise OSError(f"{self.file} cannot be written: the disk is full.")
        self._readings[sha256] = list(lines), reader

    def _load(self) -> None:
        with open(self.file, "rb") as file:
            start = file.read(len(_BEGINNING))  # a killed run may have left no more of a line
            begins_well = _BEGINNING.startswith(start)
            file.seek(0)
            rows = enumerate(file, start=1)
            for sha256, lines, entry in _understand(rows, "sha256", "lines", self.damaged):
                self._readings[sha256] = lines, str(entry.get("reader", ""))
        if self.damaged and not self._readings and not begins_well:
            raise DataError(f"{self.file} is no file of words: none of its lines is a reading.")
        _name_damaged(self.file, self.damaged, "their posters are read again when need be")


def import_readings(file: str | os.PathLike, paths: Mapping[str, str], cache: WordCache) -> int:
    """Take readings that were made elsewhere into `cache`; returns how many were new to it.

    `file` is JSONL, plain or gzipped, one poster a line: `{"id": …, "t": [[text, confidence,
    [[x, y] × 4 corners in pixels]], …]}`. `paths` has the picture of each id; others' readings
    and posters that cannot be opened are passed over. Damaged lines are left out and named on
    standard error. Raises `DataError` when no line is a reading.
    """
    damaged, understood, taken = [], 0, 0
    rows = progress.bar(_rows(Path(file)), desc="taking readings", unit=" posters")
    for name, lines, _ in _understand(rows, "id", "t", damaged):
        understood += 1
        if (path := paths.get(name)) is None:
            continue
        try:
            if cache.get(sha256 := hash_file(path)) is not None:
                continue
            size = picture_size(path)
        except Exception:  # Pillow's plugins raise whatever their parser met
            continue
        scaled = [line._replace(corners=round_corners(line.corners, size)) for line in lines]
        cache.put(sha256, scaled, IMPORTED)
        taken += 1
    if not understood:
        raise DataError(f"{file} is no file of readings: no line has an id and its words.")
    _name_damaged(Path(file), damaged, "their posters can be read anew")
    return taken


def round_corners(pixels: np.ndarray, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Turn four corners in pixels into `Line.corners`; `size` is the picture's (width, height)."""
    fractions = np.clip(np.divide(pixels, size), 0, 1).round(4)
    return tuple((x, y) for x, y in fractions.tolist())


def hash_file(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes; raises `PosterError` for what is no readable file."""
    with suppress(OSError, ValueError):
        if os.path.isfile(path):
            return sha256_of(path)
    read_poster(path)  # says better what is wrong
    raise PosterError(str(path), "the file cannot be read")


def _understand(
    rows: Iterable[tuple[int, bytes]], name_key: str, lines_key: str, damaged: list[int]
) -> Iterator[tuple[str, list[Line], dict[str, Any]]]:
    """Yield the name, the lines and all of each entry; numbers of other rows go into `damaged`."""
    for number, row in rows:
        if not row.strip():
            continue
        try:
            entry = json.loads(row)
            name, found = entry[name_key], entry[lines_key]
            if not (isinstance(name, str) and isinstance(found, list)):
                raise TypeError(row)
            if name_key == "sha256" and len(name) != 64:
                raise ValueError(name)
            lines = [_unpack(line) for line in found]
        except _MALFORMED:
            damaged.append(number)
            continue
        yield name, lines, entry


def _unpack(line: Any) -> Line:
    """Check a line as it stands in a file: text, confidence, and four corners, flat or in pairs."""
    text, confidence, corners = line
    corners = np.asarray(corners, float).reshape(4, 2)
    if not isinstance(text, str) or not 0 <= confidence <= 1 or not np.isfinite(corners).all():
        raise ValueError(line)
    text.encode()  # JSON may hold halves of characters, of which no text consists
    return Line(text, float(confidence), tuple((x, y) for x, y in corners.tolist()))


def _rows(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a file, gzipped or not, as far as it is whole."""
    with open(file, "rb") as opened:
        zipped = opened.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with gzip.open(file) if zipped else open(file, "rb") as rows:
            for number, row in enumerate(rows, start=1):
                yield number, row
    except (EOFError, zlib.error, gzip.BadGzipFile):
        print(f"{file} is cut or damaged after line {number}.", file=sys.stderr)


def _name_damaged(file: Path, numbers: list[int], what_now: str) -> None:
    if numbers:
        listed = first_of(numbers, _NAMED)
        print(f"{file}: damaged lines are left out, and {what_now}: {listed}.", file=sys.stderr)
