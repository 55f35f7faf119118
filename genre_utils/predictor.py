"""From posters to their top genres: the saved model at work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from genre_utils import environment
from genre_utils.fusion import blend
from genre_utils.images import SUFFIXES, PosterError, read_poster, resize_poster
from genre_utils.model_folder import RELEASED, SavedModel, load_model
from genre_utils.reading import Line, Reader, ReadingError, WordCache, hash_file, workers
from genre_utils.words import as_text

BATCH = 32
# On a CPU more posters at once are no faster: each costs 40 MB more in a network's layers.
CPU_BATCH = 4


class Prediction(NamedTuple):
    """What the model says of one poster; only `poster` and `error` are set for a bad file.

    `scores` are float `(genres,)` from 0 to 1. `lines` are the words that were read, empty when
    none were. `moved` is by how much they moved each score, `(genres,)`.
    """

    poster: str
    scores: np.ndarray | None
    lines: list[Line]
    moved: np.ndarray | None
    error: str | None


class Predictor:
    """Predicts genres with a saved model.

    >>> Predictor.load().predict("posters/", top=3)
    """

    def __init__(
        self, model: SavedModel, reader: Reader | None = None, cache: WordCache | None = None
    ):
        """Use `reader` for the words; of files, those in `cache` are not read anew."""
        self.model = model
        self.genres = model.genres
        self.thresholds = model.thresholds
        self.reader = reader
        self.cache = cache

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike = RELEASED,
        read_text: bool = True,
        cache: WordCache | None = None,
    ) -> Predictor:
        """Load the model in `folder`, by default the released one; raises `ModelError`.

        Without `read_text` the picture alone is judged, which is several times faster. Where
        words cannot be read, the picture is judged too, and a line on standard error says so.
        """
        model = load_model(Path(folder), read_text)
        if model.words is None:
            return cls(model)
        try:
            return cls(model, Reader(threads=1), cache)
        except ReadingError as error:
            print(f"{error} The picture alone is judged.", file=sys.stderr)
            return cls(model, None, cache)

    def predict(self, images: Any, top: int = 3) -> pd.DataFrame:
        """Give the `top` genres of each poster, the likeliest first.

        `images` is one or many of: path, folder (all files in it and below), bytes, PIL image,
        array. Columns: `poster` (the path as given, or relative to the given folder), `rank`
        from 1, `genre`, `score` from 0 to 1, `error`. A file that cannot be read is one row with
        only `poster` and `error` filled. Raises `ValueError` unless `top` is at least 1.
        """
        if top < 1:
            raise ValueError(f"top is {top}: give the number of genres to show, 1 or more.")
        return self.top_table(self.stream(images), top)

    def predict_all(self, images: Any) -> pd.DataFrame:
        """Give every genre's score: `poster`, one column a genre in model order, `error`."""
        return self.full_table(self.stream(images))

    def top_table(self, predictions: Iterable[Prediction], top: int) -> pd.DataFrame:
        """Lay predictions out as `predict` gives them."""
        rows = []
        for found in predictions:
            if found.error:
                rows.append((found.poster, None, None, None, found.error))
                continue
            for rank, g in enumerate(highest(found.scores, top), start=1):
                rows.append((found.poster, rank, self.genres[g], float(found.scores[g]), None))
        table = pd.DataFrame(rows, columns=["poster", "rank", "genre", "score", "error"])
        return table.astype({"rank": "Int64", "score": "float64"})

    def full_table(self, predictions: Iterable[Prediction]) -> pd.DataFrame:
        """Lay predictions out as `predict_all` gives them."""
        missing = [np.nan] * len(self.genres)
        rows = [
            (found.poster, *(missing if found.error else found.scores.tolist()), found.error)
            for found in predictions
        ]
        return pd.DataFrame(rows, columns=["poster", *self.genres, "error"])

    def stream(self, images: Any) -> Iterator[Prediction]:
        """Yield a `Prediction` for each poster, in order, as the batches are done.

        After three seconds a bar on standard error shows how far it is.
        """
        # `delay` keeps short work silent; `mininterval` keeps a headless notebook's log short.
        bar = tqdm(total=_count(images), desc="judging", unit=" posters", delay=3, mininterval=1)
        with bar, ThreadPoolExecutor(workers()) as pool:
            for batch in _in_batches(list_posters(images)):
                read = list(pool.map(self._read, batch))
                good = [poster for poster in read if poster.error is None]
                lines = [poster.lines for poster in good]
                scores = moved = ()
                if good:
                    logits = self.picture_logits(np.stack([poster.pixels for poster in good]))
                    scores, moved = self.combine(logits, lines)
                scored = zip(lines, scores, moved, strict=True)
                for (name, _), poster in zip(batch, read, strict=True):
                    bar.update()
                    if poster.error:
                        yield Prediction(name, None, [], None, poster.error)
                    else:
                        words, score, move = next(scored)
                        yield Prediction(name, score, words, move, None)

    def combine(
        self, picture_logits: np.ndarray, lines: Sequence[Sequence[Line]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score posters by their pictures' logits `(n, genres)` and the lines read on each.

        Gives the scores `(n, genres)`, and by how much the words moved them. A poster without
        words gets what its picture says.
        """
        texts = [as_text(found) for found in lines]
        towers = {"picture": picture_logits}
        if self.model.words and any(texts):
            towers |= self.model.words.logits(texts)
        return blend(self.model.sums, towers, np.array([bool(text) for text in texts], bool))

    def picture_logits(self, pixels: np.ndarray) -> np.ndarray:
        """Run the picture's network over decoded posters: float64 `(n, genres)`."""
        step = BATCH if environment.accelerated() else CPU_BATCH
        starts = range(0, len(pixels), step)
        logits = [self.model.network.predict_on_batch(pixels[i : i + step]) for i in starts]
        return np.concatenate(logits).astype(np.float64)

    def _read(self, item: tuple[str, Any]) -> _Read:
        name, source = item
        try:
            rgb = read_poster(source, name)
        except PosterError as error:
            return _Read(None, [], error.reason)
        return _Read(resize_poster(rgb, self.model.image_size), self._words(source, rgb), None)

    def _words(self, source: Any, rgb: np.ndarray) -> list[Line]:
        if self.model.words is None:
            return []
        # Words that the library fails on are words that nobody reads: the picture still answers.
        with suppress(PosterError, ReadingError):
            if self.cache is not None and isinstance(source, (str, os.PathLike)):
                known = self.cache.get(hash_file(source))
                if known is not None:
                    return known
            return self.reader.read(rgb) if self.reader else []
        return []


class _Read(NamedTuple):
    pixels: np.ndarray | None
    lines: list[Line]
    error: str | None


def highest(scores: np.ndarray, top: int) -> np.ndarray:
    """Give the positions of the `top` highest scores, the highest first."""
    return np.argsort(-scores, kind="stable")[:top]


def list_posters(images: Any) -> Iterator[tuple[str, Any]]:
    """Yield `(name, source)` for one or many posters; a folder gives every file in and below it.

    Files that are no pictures are yielded too: whoever reads them names them as bad.
    """
    single = isinstance(images, (str, os.PathLike, bytes, bytearray, np.ndarray))
    if single or not isinstance(images, Iterable):
        images = [images]
    for number, source in enumerate(images, start=1):
        if not isinstance(source, (str, os.PathLike)):
            yield f"image {number}", source
        elif os.path.isdir(source):
            yield from _list_folder(Path(source))
        else:
            yield _display(source), source


def _count(images: Any) -> int | None:
    """Count the posters to come; `None` for an iterator, which would be used up by it."""
    return None if isinstance(images, Iterator) else sum(1 for _ in list_posters(images))


def _list_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    found: list[Path] = []

    def name_locked(error: OSError) -> None:
        found.append(Path(error.filename))

    # A folder that may not be entered is named too, instead of being taken for an empty one.
    for place, folders, files in os.walk(folder, onerror=name_locked):
        below = (Path(place, name) for name in folders)
        # A folder with a picture's ending was meant as a picture. A link to a folder may lead in
        # a circle and is not followed.
        found += (p for p in below if p.suffix.lower() in SUFFIXES or p.is_symlink())
        found += (Path(place, name) for name in files)
    for path in sorted(found) or [folder]:
        yield _display(path.relative_to(folder) if path != folder else folder), path


def _display(path: str | os.PathLike) -> str:
    """Write a path as text that any file can hold: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _in_batches(items: Iterator[tuple[str, Any]]) -> Iterator[Sequence[tuple[str, Any]]]:
    batch: list[tuple[str, Any]] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
