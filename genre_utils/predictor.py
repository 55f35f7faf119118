"""From posters to their top genres: the saved model at work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from genre_utils.images import SUFFIXES, PosterError, read_poster, resize_poster
from genre_utils.model_folder import RELEASED, SavedModel, load_model

BATCH = 32


class Predictor:
    """Predicts genres with a saved model.

    >>> Predictor.load().predict("posters/", top=3)
    """

    def __init__(self, model: SavedModel):
        self.model = model
        self.genres = model.genres
        self.thresholds = model.thresholds

    @classmethod
    def load(cls, folder: str | os.PathLike = RELEASED) -> Predictor:
        """Load the model in `folder`, by default the released one; raises `ModelError`."""
        return cls(load_model(Path(folder)))

    def predict(self, images: Any, top: int = 3) -> pd.DataFrame:
        """Give the `top` genres of each poster, the likeliest first.

        `images` is one or many of: path, folder (all files in it and below), bytes, PIL image,
        array. Columns: `poster` (the path as given, or relative to the given folder), `rank`
        from 1, `genre`, `score` from 0 to 1, `error`. A file that cannot be read is one row with
        only `poster` and `error` filled. Raises `ValueError` unless `top` is at least 1.
        """
        if top < 1:
            raise ValueError(f"top is {top}: give the number of genres to show, 1 or more.")
        rows = []
        for name, scores, error in self.stream(images):
            if error:
                rows.append((name, None, None, None, error))
                continue
            for rank, g in enumerate(np.argsort(-scores, kind="stable")[:top], start=1):
                rows.append((name, rank, self.genres[g], float(scores[g]), None))
        table = pd.DataFrame(rows, columns=["poster", "rank", "genre", "score", "error"])
        return table.astype({"rank": "Int64", "score": "float64"})

    def predict_all(self, images: Any) -> pd.DataFrame:
        """Give every genre's score: `poster`, one column a genre in model order, `error`."""
        missing = [np.nan] * len(self.genres)
        rows = [
            (name, *(missing if error else scores.tolist()), error)
            for name, scores, error in self.stream(images)
        ]
        return pd.DataFrame(rows, columns=["poster", *self.genres, "error"])

    def stream(self, images: Any) -> Iterator[tuple[str, np.ndarray | None, str | None]]:
        """Yield `(name, scores, error)` for each poster, in order, as the batches are done.

        `scores` is float `(genres,)` from 0 to 1; it is `None` where `error` says why.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for batch in _in_batches(list_posters(images)):
                read = list(pool.map(self._read, batch))
                pixels = [pixels for pixels, _ in read if pixels is not None]
                scores = iter(self.score_pixels(np.stack(pixels)) if pixels else ())
                for (name, _), (_, error) in zip(batch, read, strict=True):
                    yield name, None if error else next(scores), error

    def score_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Score decoded posters `(n, height, width, 3)` in the model's size: `(n, genres)`."""
        starts = range(0, len(pixels), BATCH)
        logits = [self.model.network.predict_on_batch(pixels[i : i + BATCH]) for i in starts]
        return expit(np.concatenate(logits).astype(np.float64))

    def _read(self, item: tuple[str, Any]) -> tuple[np.ndarray | None, str | None]:
        name, source = item
        try:
            return resize_poster(read_poster(source, name), self.model.image_size), None
        except PosterError as error:
            return None, error.reason


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


def _list_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    # A folder with a picture's ending was meant as a picture: name it instead of walking by.
    found = (
        path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() or path.suffix.lower() in SUFFIXES
    )
    empty = True
    for path in found:
        empty = False
        yield _display(path.relative_to(folder)), path
    if empty:
        yield _display(folder), folder


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
