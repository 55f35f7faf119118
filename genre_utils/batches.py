"""Batches for Keras: pixels, decoded once and kept on disk, and tokens of posters' words."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from genre_utils import machine
from genre_utils.images import PosterError, read_poster, resize_poster
from genre_utils.networks import pad_tokens
from genre_utils.support import FULL, progress, replacing, write_json

# Raise it when decoding or resizing changes, so that no cache of the old pixels is used.
CACHE_VERSION = 1
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class PixelCache:
    """Decoded posters on disk: a NumPy file `(n, height, width, 3)`, uint8, one row a poster.

    `row` maps each poster's path to its row. `unreadable` maps the paths of those that cannot be
    read, whose rows are zeros, to the reason.
    """

    file: Path
    row: dict[str, int]
    unreadable: dict[str, str]

    def pixels(self, paths: Sequence[str]) -> np.ndarray:
        """Copy some posters into memory, uint8 `(len(paths), height, width, 3)`."""
        # The map is opened for each call: pages of a map that stays open count as this
        # process's memory, and one epoch would touch all of them.
        return np.load(self.file, mmap_mode="r")[[self.row[path] for path in paths]]

    def at(self, size: tuple[int, int], paths: Sequence[str]) -> "PixelCache":
        """Return this cache if its posters have this (height, width), else one of `paths` alone."""
        if np.load(self.file, mmap_mode="r").shape[1:3] == size:
            return self
        return fill_cache(paths, size, self.file.parent)


def fill_cache(paths: Sequence[str], size: tuple[int, int], folder: Path) -> PixelCache:
    """Decode and resize posters to (height, width) on all cores, once, into `folder`.

    A cache made before is used again if the files' names, sizes and times are the same. Posters
    that cannot be read are named in `unreadable`; they are tried again. Raises `OSError` when the
    disk lacks room.
    """
    height, width = size
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"pixels-{height}x{width}-{_fingerprint(paths)}.npy"
    index = file.with_suffix(".json")
    unreadable = _known_unreadable(file, index, (len(paths), *size, 3))
    if unreadable is None:
        with replacing(file) as temporary:
            unreadable = _decode_all(paths, size, temporary)
            write_json(index, unreadable)
    if len(unreadable) == len(set(paths)):  # not one poster is in it
        file.unlink()
        index.unlink()
        with suppress(OSError):  # other caches may be there
            folder.rmdir()
    return PixelCache(file, {path: i for i, path in enumerate(paths)}, unreadable)


def _known_unreadable(file: Path, index: Path, shape: tuple[int, ...]) -> dict[str, str] | None:
    """Return what the index of a cache says; `None` where it must be filled anew."""
    with suppress(Exception):  # JSON's and NumPy's, and those of the header that NumPy parses
        unreadable = json.loads(index.read_text("utf-8"))
        for path in unreadable:  # a drive that was gone does not change the file
            with suppress(PosterError):
                read_poster(path)
                return None
        if isinstance(unreadable, dict) and np.load(file, mmap_mode="r").shape == shape:
            return unreadable
    return None


class Batches(keras.utils.PyDataset):
    """What the batches of pictures and of words share: which rows are in which batch.

    All batches are whole, so that Keras compiles a step for one shape. `share` is this host's
    `(number, hosts)`: each host gets an equal part of every batch. Pass `shuffle=False` to `fit`,
    because the order is made here.
    """

    def __init__(self, paths: Sequence[str], rows: Sequence[np.ndarray]):
        super().__init__()
        self.paths = np.asarray(paths, dtype=object)
        self.rows = list(rows)
        self.share = (0, 1)

    def __len__(self) -> int:
        return len(self.rows)

    def rows_of(self, batch: int) -> np.ndarray:
        """Return the rows of a batch that this host computes, int `(batch_size / hosts,)`."""
        number, hosts = self.share
        return np.split(self.rows[batch], hosts)[number]

    def posters(self, batch: int) -> list[str]:
        """Return the file names of a whole batch, those of all hosts."""
        return [os.path.basename(path) for path in self.paths[self.rows[batch]]]


def whole_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order of rows into batches of this size; rows that are left over are dropped.

    Fewer rows than one batch are repeated until it is whole.
    """
    if len(order) < batch_size:
        order = np.resize(order, batch_size)
    return np.split(order[: len(order) // batch_size * batch_size], len(order) // batch_size)


class PosterBatches(Batches):
    """One epoch of `(pixels, labels)` batches for `fit` and `predict` on any Keras backend.

    Pixels are uint8 `(batch_size, height, width, 3)`, labels float32 `(batch_size, genres)`.
    A `batch_size` of 0 stands for as many as this machine best predicts at once.
    Without `seed` all posters come, unchanged and in their order. The last batch is filled up with
    the first posters, so cut predictions to the number of posters. With `seed` the posters are
    shuffled, and with `augmented` also varied. Both depend on `(seed, epoch, poster)` alone, so an
    epoch that is repeated is the same.
    """

    def __init__(
        self,
        cache: PixelCache,
        paths: Sequence[str],
        labels: np.ndarray,
        batch_size: int = 0,
        seed: int | None = None,
        epoch: int = 0,
        augmented: bool = False,
    ):
        self.cache = cache
        self.labels = labels.astype(np.float32)
        self.batch_size = batch_size = batch_size or machine.posters_at_once()
        self.seed = seed
        self.epoch = epoch
        self.augmented = augmented
        if seed is None:
            batches = math.ceil(len(paths) / batch_size)
            order = np.resize(np.arange(len(paths)), batches * batch_size)
        else:
            keys = [random_key(path, seed, epoch) for path in paths]
            order = np.argsort(keys, kind="stable")
        super().__init__(paths, whole_batches(order, batch_size))

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rows_of(batch)
        pixels = self.cache.pixels(self.paths[rows])
        if self.augmented:
            for i, path in enumerate(self.paths[rows]):
                key = random_key(path, self.seed, self.epoch)
                pixels[i] = augment(pixels[i], np.random.default_rng(key))
        return pixels, self.labels[rows]


class WordBatches(Batches):
    """One epoch of `(tokens, labels)` batches for `fit`: posters' words, shuffled.

    Tokens are int32 `(batch_size, length)`, padded with 0 to a common length; labels float32
    `(batch_size, genres)`. Texts of a batch are of similar length, so that little is padding. The
    order depends on `(seed, epoch, poster)` alone.
    """

    def __init__(
        self,
        tokens: Sequence[np.ndarray],
        paths: Sequence[str],
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        epoch: int,
    ):
        self.tokens = list(tokens)
        self.labels = labels.astype(np.float32)
        draws = [np.random.default_rng(random_key(path, seed, epoch)).random(3) for path in paths]
        jitter, position, chance = np.array(draws).reshape(-1, 3).T
        # Chance decides which rows are left over by whole batches: not always the longest texts.
        rows = np.concatenate(whole_batches(np.argsort(chance, kind="stable"), batch_size))
        # Similar lengths share a batch; the jitter changes its neighbours from epoch to epoch.
        length = np.array([len(row) for row in self.tokens]) + 12 * jitter
        batches = whole_batches(rows[np.argsort(length[rows], kind="stable")], batch_size)
        batches.sort(key=lambda batch: position[batch[0]])
        # Keras' TensorFlow trainer takes its shapes from the first two batches, and must see there
        # that they differ. The longest comes first: if memory does not suffice, it fails at once.
        order = sorted(range(len(batches)), key=lambda i: self._width(batches[i]))
        first = list(dict.fromkeys(order[-1:] + order[:1]))
        rest = [i for i in range(len(batches)) if i not in first]
        super().__init__(paths, [batches[i] for i in first + rest])

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        # All hosts pad to one length, whichever of the texts a host has.
        width = self._width(self.rows[batch])
        rows = self.rows_of(batch)
        return pad_tokens([self.tokens[i] for i in rows], width), self.labels[rows]

    def _width(self, batch: np.ndarray) -> int:
        return max(len(self.tokens[i]) for i in batch)


def random_key(path: str, seed: int, epoch: int) -> int:
    """Return a poster's random number for an epoch, by its file name and not its folder."""
    name = os.fsencode(os.path.basename(path))
    return int.from_bytes(hashlib.sha256(b"%d %d %b" % (seed, epoch, name)).digest())


def augment(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary a poster as another print of it would: crop, mirror, brightness and contrast.

    Takes and returns uint8 `(height, width, 3)`. The crop keeps 80 to 100 % of each side.
    """
    height, width = rgb.shape[:2]
    share_x, share_y = rng.uniform(0.8, 1, 2)
    left = rng.uniform(0, width * (1 - share_x))
    top = rng.uniform(0, height * (1 - share_y))
    box = (left, top, left + width * share_x, top + height * share_y)
    image = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-25, 25)
    tone = np.clip((np.arange(256) - 127.5) * contrast + 127.5 + brightness, 0, 255)
    return np.asarray(image.point(np.round(tone).astype(int).tolist() * 3))


def _decode_all(paths: Sequence[str], size: tuple[int, int], file: Path) -> dict[str, str]:
    """Write the pixels of all posters to `file`; returns `{path: reason}` of the unreadable."""
    unreadable = {}
    shape = (len(paths), *size, 3)
    free = shutil.disk_usage(file.parent).free
    if math.prod(shape) > free:
        raise OSError(
            f"Decoded, {len(paths)} posters need {math.prod(shape) / 1e6:.1f} MB in {file.parent}, "
            f"and {free / 1e6:.1f} MB are free. Give a smaller IMG_SIZE or another OUTPUT_DIR."
        )
    np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a disk that fills later would kill the process
        try:
            with open(file, "rb+") as opened:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        except OSError as error:
            if error.errno in FULL:  # else this file system cannot reserve room, which is no harm
                raise
    block = max(1, BLOCK_BYTES // math.prod(shape[1:]))
    # Pillow releases Python's global lock as it decodes and resizes, so threads use all cores.
    bar = progress.bar(total=len(paths), desc="decoding posters", unit=" posters")

    def decode(row: np.ndarray, path: str) -> None:
        try:
            row[:] = resize_poster(read_poster(path), size)
        except PosterError as error:
            unreadable[path] = error.reason
        bar.update()

    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        for start in range(0, len(paths), block):
            rows = np.load(file, mmap_mode="r+")[start : start + block]
            list(pool.map(decode, rows, paths[start : start + block]))
    return unreadable


def _fingerprint(paths: Sequence[str]) -> str:
    digest = hashlib.sha256(f"version {CACHE_VERSION}".encode())
    for path in paths:
        size, time = 0, 0  # of a file that is gone, which its decoding says
        with suppress(OSError):
            size, time = (stat := os.stat(path)).st_size, stat.st_mtime_ns
        digest.update(os.fsencode(path) + b"\0%d\0%d\n" % (size, time))
    return digest.hexdigest()[:16]
