"""From pixels to words: what stands on a poster, read once and kept."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from genre_utils.images import FORMATS, PosterError, read_poster, resize_poster
from genre_utils.networks import open_session
from genre_utils.ocr.line import WORDS_FILE, Line, ReadingError
from genre_utils.support import progress, sha256_of

NEEDED = ("rapidocr", "onnxruntime")

# The public posters are about 300 × 440. A poster of 2,000 pixels is read at their size: its
# small print, which theirs does not show, would be words that no training has seen, and its
# reading would take longer.
MAX_PIXELS = 150_000
# The text detector enlarges the shorter side, so that a strip of 10 × 10,000 would need gigabytes.
# Longer pictures (the longest public poster has 2.7) get a black border.
MAX_ASPECT = 3
# By how much it enlarges: RapidOCR's own 736 pixels show nothing more of a poster of 300, and take
# twice the time (`benchmarks/experiments.md`). The side is a multiple of 32, as its network needs.
ENLARGED = 1.4
SMALLEST_SIDE, LARGEST_SIDE = 320, 736

# Each reads with a thread of its own: about 150 MB.
MAX_WORKERS = 8
CHOICES = ("auto", "yes", "no")
PATIENCE = 10  # minutes of reading that "auto" spends
PROBE = 5  # posters a worker that are read to estimate the time of all
_DETECTOR, _RECOGNIZER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
# The recognizer answers with 18,710 characters' scores for every 8 columns of pixels, in float32
# and twice while it computes: half a gigabyte for six lines over a long strip, and RapidOCR holds
# the answer before, too. Of a batch with more columns than this each line is read alone.
_WIDE = 6_000
# What reading JSON and taking it apart may raise, whatever stands in it.
_MALFORMED = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
_NAMED = 20  # numbers of damaged lines in a message


@dataclass(frozen=True)
class Readings:
    """The words of some posters: `lines` by path, and `unreadable`, `{path: reason}`.

    `new` counts the pictures that were read now; the words of all others were in the cache.
    """

    lines: dict[str, list[Line]]
    unreadable: dict[str, str]
    new: int


def missing() -> list[str]:
    """List the packages that reading lacks here: without them, a poster is its picture only."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


class Reader:
    """Reads the words on posters with RapidOCR and the models in its wheel; never downloads.

    Several threads may share one. `threads` is how many cores one reading may use: 1 where
    posters are read side by side. Raises `ReadingError` where RapidOCR is missing or broken.
    """

    def __init__(self, threads: int = 1):
        if lacking := missing():
            raise ReadingError(
                f"The words on the posters are not read, because {' and '.join(lacking)} "
                f"{'is' if len(lacking) == 1 else 'are'} not installed: "
                f"pip install {' '.join(lacking)}."
            )
        self.threads = threads
        self.name = f"rapidocr {importlib.metadata.version('rapidocr')}"
        self._networks: dict[str, Any] = {}
        # RapidOCR does not promise to be safe in threads: each reading borrows an engine of its
        # own, and as many are made as ever read at once. A list's `pop` and `append` are atomic.
        # ONNX Runtime does promise it: all engines share the networks.
        self._idle = [self._engine()]

    def read(self, rgb: np.ndarray, name: str = "poster") -> list[Line]:
        """Read the lines on an RGB poster, uint8 `(height, width, 3)`, from top to bottom.

        A poster without text gives an empty list. Raises `PosterError` with `name` in it when
        the library fails on this picture.
        """
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = self._engine()
        try:
            canvas, (height, width) = _fit(rgb)
            # RapidOCR takes arrays for OpenCV's, which are BGR.
            found = engine(np.ascontiguousarray(canvas[..., ::-1]), detector_side(rgb))
            if getattr(found, "txts", None) is None or found.boxes is None:
                return []
            boxes = np.asarray(found.boxes, float) / (width, height)
            return [
                Line(text, round(float(score), 4), _corners(box))
                for text, score, box in zip(found.txts, found.scores, boxes, strict=True)
            ]
        except Exception as error:  # OpenCV, ONNX Runtime and Shapely each have their own
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise PosterError(name, f"its words cannot be read ({reason[0]})") from None
        finally:
            self._idle.append(engine)

    def settings(self, rgb: np.ndarray) -> str:
        """Return with what a poster is read, such as `"rapidocr 3.10.0, detector 416"`."""
        return f"{self.name}, detector {detector_side(rgb)}"

    def _engine(self) -> Callable[[np.ndarray, int], Any]:
        """Start RapidOCR; returns what reads a BGR picture with the detector at a size."""
        try:
            import rapidocr
            from omegaconf import OmegaConf

            self._networks = self._networks or {
                "Det": self._network(_DETECTOR),
                "Rec": self._network(_RECOGNIZER),
            }
            engine = rapidocr.RapidOCR(
                params={"Global.use_cls": False, "Global.log_level": "critical"}
            )
            for part, network in self._networks.items():
                # A network that is given is neither searched nor downloaded.
                given = {**engine.cfg[part], "session": network}
                engine.cfg[part] = OmegaConf.create(given, flags={"allow_objects": True})

            def recognise(bgr: np.ndarray, side: int) -> Any:
                engine.cfg.Det.limit_side_len = side  # taken over when the detector is made
                if engine.text_det is not None:
                    engine.text_det.limit_side_len = side
                return engine(bgr)

            return recognise
        except Exception as error:  # an import may fail by the system's libraries, too
            raise ReadingError(
                f"The words on the posters are not read, because {self.name} does not start: "
                f"{error}; install it anew."
            ) from None

    def _network(self, model: str) -> Any:
        """Load a model, all of whose runs give their memory back."""
        import rapidocr

        file = Path(rapidocr.__file__).parent / "models" / model
        if not file.is_file():
            raise FileNotFoundError(f"it lacks the model {model}")
        network, each = open_session(file, self.threads)
        run = partial(network.run, run_options=each)
        network.run = _line_by_line(run) if model == _RECOGNIZER else run
        return network


def detector_side(rgb: np.ndarray) -> int:
    """Return the shorter side, in pixels, at which the text detector sees a poster."""
    shorter = min(_fit(rgb)[0].shape[:2])
    return int(np.clip(ENLARGED * shorter // 32 * 32, SMALLEST_SIDE, LARGEST_SIDE))


class _Best(NamedTuple):
    """The likeliest character at each place, `(lines, places)`: all RapidOCR asks of scores."""

    characters: np.ndarray
    scores: np.ndarray

    def argmax(self, axis: int) -> np.ndarray:
        return self.characters

    def max(self, axis: int) -> np.ndarray:
        return self.scores


def _line_by_line(run: Callable[..., list[np.ndarray]]) -> Callable[..., list[Any]]:
    """Have a recognizer read a batch of very wide lines one by one, each in the batch's width."""

    def run_wide(names: Sequence[str], inputs: dict[str, np.ndarray]) -> list[Any]:
        ((name, lines),) = inputs.items()
        if len(lines) * lines.shape[-1] <= _WIDE:
            return run(names, inputs)
        answers = (run(names, {name: lines[i : i + 1]})[0] for i in range(len(lines)))
        best = [(scores.argmax(axis=2), scores.max(axis=2)) for scores in answers]
        return [_Best(*map(np.concatenate, zip(*best, strict=True)))]

    return run_wide


class WordCache:
    """Readings on disk, by the hash of the picture file's bytes: JSONL, one picture a line.

    It is only ever appended to, a line in one write, so that a killed run loses at most the line
    it was writing. Lines that cannot be understood are left out, named on standard error, and
    their numbers are in `damaged`. Raises `ReadingError` for a file of something else.
    """

    def __init__(self, file: str | os.PathLike = WORDS_FILE):
        self.file = Path(file)
        self.damaged: list[int] = []
        self._lines: dict[str, list[Line]] = {}
        self._settings: dict[str, str] = {}
        if self.file.is_dir():
            raise ReadingError(
                f"The words cannot be kept in {os.fspath(file)!r}: give the name of a file, such "
                f"as {os.fspath(WORDS_FILE)!r}."
            )
        if self.file.exists():
            self._load()

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, sha256: str) -> list[Line] | None:
        """Return the lines of a picture, from top to bottom; `None` when it was never read."""
        return self._lines.get(sha256)

    def settings(self, sha256: str) -> str:
        """Return with what a picture was read; empty when it never was, or nobody noted it."""
        return self._settings.get(sha256, "")

    def put(self, sha256: str, lines: Sequence[Line], reader: str) -> None:
        """Keep the lines of a picture, on disk before this returns.

        `reader` says with what they were read, as `Reader.settings` does. Of two readings of one
        picture the later counts.
        """
        packed = [
            [text, score, [c for xy in corners for c in xy]] for text, score, corners in lines
        ]
        entry = {"sha256": sha256, "reader": reader, "lines": packed}
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered and at the end, wherever that is by now: should another thread or process write
        # to the same file, its lines and these stand in turn.
        with open(self.file, "a+b", buffering=0) as file:
            line = text.encode("utf-8", "replace")
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a killed run did not finish stays alone
                    line = b"\n" + line
            if file.write(line) < len(line):
                raise OSError(f"{self.file} cannot be written: the disk is full.")
        self._lines[sha256], self._settings[sha256] = list(lines), reader

    def _load(self) -> None:
        rows = self.file.read_bytes().split(b"\n")
        for number, row in enumerate(rows, start=1):
            if not row.strip():
                continue
            try:
                entry = json.loads(row)
                sha256 = entry["sha256"]
                if len(sha256) != 64 or not isinstance(sha256, str):
                    raise ValueError(sha256)
                self._lines[sha256] = [_unpack(line) for line in entry["lines"]]
                self._settings[sha256] = str(entry.get("reader", ""))
            except _MALFORMED:
                self.damaged.append(number)
        if self.damaged and not self._lines and not rows[0].startswith(b"{"):
            raise ReadingError(f"{self.file} is no file of words: none of its lines is a reading.")
        _name_damaged(self.file, self.damaged, "their posters are read again when need be")


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

    Stopped at any moment, it goes on where it was. What cannot be read is in the answer's
    `unreadable`. Raises `ReadingError` if a poster is left to read and RapidOCR is missing.
    """
    hashes, unreadable = _hash_all(paths)
    new = _unread(hashes, cache)
    if anew:
        reader = reader or _reader_for(hashes)
        new |= _read_otherwise(hashes, cache, reader)
    failed = (read_all or _read_all)(new, cache, reader or _reader_for(new)) if new else {}
    lines = {}
    for path, sha256 in hashes.items():
        if sha256 in failed:
            unreadable[path] = failed[sha256]
        else:
            lines[path] = cache.get(sha256) or []
    return Readings(lines, unreadable, len(new) - len(failed))


def check_choice(choice: str) -> None:
    """Raise `ValueError` for a READ_TEXT that `decide` does not know."""
    if choice not in CHOICES:
        raise ValueError(f"READ_TEXT is {choice!r}: give one of {', '.join(map(repr, CHOICES))}.")


def decide(choice: str, paths: Sequence[str], cache: WordCache) -> tuple[bool, str]:
    """Decide whether to read the words on posters, with a sentence that says why.

    `choice` is `"yes"`, `"no"`, or `"auto"`: read when all words are in `cache` or the rest takes
    less than 10 minutes here. Raises `ValueError` for another word, and `ReadingError` for `"yes"`
    where RapidOCR is missing.
    """
    check_choice(choice)
    if choice == "no":
        return False, "The words on the posters are not read, as READ_TEXT says."
    try:
        minutes = estimate_seconds(paths, cache) / 60
    except ReadingError as error:  # missing, or broken by a library of the system
        if choice == "yes":
            raise
        return False, str(error)
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

    0 when nothing is left to read. Raises `ReadingError` as `read_posters` does.
    """
    new = _unread(_hash_all(paths)[0], cache)
    if not new:
        return 0.0
    reader = reader or _reader_for(new)
    # Spread over all: a folder's first posters may be its smallest.
    probe = list(new)[:: max(1, len(new) // (PROBE * workers()))][: PROBE * workers()]
    # The first posters load the models; they do not count.
    warm, timed = probe[: workers()], probe[workers() :]
    _read_all({sha256: new[sha256] for sha256 in warm}, cache, reader)
    start = time.perf_counter()
    _read_all({sha256: new[sha256] for sha256 in timed}, cache, reader)
    each = (time.perf_counter() - start) / max(1, len(timed))
    return each * (len(new) - len(probe))


def import_readings(
    file: str | os.PathLike,
    paths: Mapping[str, str],
    cache: WordCache,
    reader: str = "rapidocr 3.10.0",
) -> int:
    """Take readings that were made elsewhere into `cache`; returns how many were new to it.

    `file` is JSONL, plain or gzipped, one poster a line: `{"id": …, "t": [[text, confidence,
    [[x, y] × 4 corners in pixels]], …]}`. `paths` has the picture of each id; others' readings
    and posters that cannot be opened are passed over. Damaged lines are left out and named on
    standard error. Raises `ReadingError` when no line is a reading.
    """
    damaged, understood, taken = [], 0, 0
    for number, row in progress.bar(_rows(Path(file)), desc="taking readings", unit=" posters"):
        try:
            entry = json.loads(row)
            name, lines = entry["id"], [_unpack(line) for line in entry["t"]]
            if not isinstance(name, str):
                raise ValueError(name)
        except _MALFORMED:
            damaged.append(number)
            continue
        understood += 1
        with suppress(PosterError, OSError):
            if (path := paths.get(name)) is None or cache.get(hash_file(path)) is not None:
                continue
            size = _size(path)
            lines = [
                line._replace(corners=_corners(np.divide(line.corners, size))) for line in lines
            ]
            cache.put(hash_file(path), lines, reader)
            taken += 1
    if not understood:
        raise ReadingError(f"{file} is no file of readings: no line has an id and its words.")
    _name_damaged(Path(file), damaged, "their posters can be read anew")
    return taken


def hash_file(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes; raises `PosterError` for what is no readable file."""
    with suppress(OSError, ValueError):
        if os.path.isfile(path):
            return sha256_of(path)
    read_poster(path)  # says better what is wrong
    raise PosterError(str(path), "the file cannot be read")


def _fit(rgb: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a poster as it is read, and its (height, width) in that, without the border."""
    height, width = rgb.shape[:2]
    longer, shorter = max(height, width), min(height, width)
    pixels = longer * max(shorter, longer / MAX_ASPECT)
    if pixels > MAX_PIXELS:
        scale = math.sqrt(MAX_PIXELS / pixels)
        height, width = max(1, int(height * scale)), max(1, int(width * scale))
        rgb = resize_poster(rgb, (height, width))
    below = max(0, math.ceil(width / MAX_ASPECT) - height)
    right = max(0, math.ceil(height / MAX_ASPECT) - width)
    return np.pad(rgb, ((0, below), (0, right), (0, 0))), (height, width)


def _corners(fractions: np.ndarray) -> tuple[tuple[float, float], ...]:
    rounded = np.clip(fractions, 0, 1).round(4).tolist()
    return tuple((x, y) for x, y in rounded)


def _unpack(line: Any) -> Line:
    """Check a line as it stands in a file: text, confidence, and four corners, flat or in pairs."""
    text, confidence, corners = line
    corners = np.asarray(corners, float).reshape(4, 2)
    if not isinstance(text, str) or not 0 <= confidence <= 1 or not np.isfinite(corners).all():
        raise ValueError(line)
    text.encode()  # JSON may hold halves of characters, of which no text consists
    return Line(text, float(confidence), tuple((x, y) for x, y in corners.tolist()))


def _hash_all(paths: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
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


def _read_otherwise(
    hashes: dict[str, str], cache: WordCache, reader: Reader | None
) -> dict[str, str]:
    """Return `{hash: path}` of the pictures that were read with other settings than `reader`'s."""
    others = {}
    for path, sha256 in hashes.items():
        with suppress(PosterError):
            if reader and cache.settings(sha256) != reader.settings(read_poster(path)):
                others[sha256] = path
    return others


def _reader_for(pictures: Mapping[str, str]) -> Reader | None:
    """Start a reader; `None` where RapidOCR is missing and not one picture can be decoded."""
    try:
        return Reader()
    except ReadingError:
        for path in pictures.values():
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


def workers() -> int:
    """Return the number of posters to read side by side: as many as cores, at most 8."""
    return min(os.cpu_count() or 1, MAX_WORKERS)


def _rows(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a file, gzipped or not, as far as it is whole."""
    with open(file, "rb") as opened:
        zipped = opened.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with gzip.open(file) if zipped else open(file, "rb") as rows:
            for number, row in enumerate(rows, start=1):
                if row.strip():
                    yield number, row
    except (EOFError, zlib.error, gzip.BadGzipFile):
        print(f"{file} is cut or damaged after line {number}.", file=sys.stderr)


def _size(path: str) -> tuple[int, int]:
    """Read a picture's width and height, upright, from its header."""
    with Image.open(path, formats=FORMATS) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return image.size[::-1] if turned else image.size


def _name_damaged(file: Path, numbers: list[int], what_now: str) -> None:
    if not numbers:
        return
    listed = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    print(f"{file}: damaged lines are left out, and {what_now}: {listed}{more}.", file=sys.stderr)
