"""Predictions of a saved model: posters in, scores and tables of top genres out."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genre_utils import machine
from genre_utils.fusion import fuse
from genre_utils.images import PosterError, read_poster, resize_poster
from genre_utils.networks import RuntimeNetwork, with_features
from genre_utils.ocr import Line, Reader, WordCache, hash_file, workers
from genre_utils.saved_model import RELEASED, SavedModel, load_model, reads_text
from genre_utils.sources import list_posters
from genre_utils.support import printable, progress
from genre_utils.text import join_lines

if TYPE_CHECKING:  # a command that writes no table need not import it
    import pandas as pd

BATCH = 32
# On a CPU larger batches are no faster, and each poster in one takes 40 MB for its feature maps.
CPU_BATCH = 4
# Reading words takes longer than networks do: a command that is stopped loses few of them.
READ_BATCH = 8


class Prediction(NamedTuple):
    """A prediction for one poster; only `poster` and `error` are set for a bad file.

    `scores` are float `(genres,)` from 0 to 1. `lines` are the lines of text that were read, empty
    when there are none. `text_effect`, `(genres,)`, is by how much they changed each score.
    """

    poster: str
    scores: np.ndarray | None = None
    lines: Sequence[Line] = ()
    text_effect: np.ndarray | None = None
    error: str | None = None


class Predictor:
    """Predicts genres with a saved model.

    >>> Predictor.load().predict("posters/", top=3)
    """

    def __init__(
        self, model: SavedModel, reader: Reader | None = None, cache: WordCache | None = None
    ):
        """Read words with `reader`, except of the files whose words are in `cache`."""
        self.model = model
        self.genres = model.genres
        self.thresholds = model.thresholds
        self.reader = reader
        self.cache = cache
        joint = model.words and model.words.joint
        self.network = with_features(model.network) if joint else model.network

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike = RELEASED,
        read_text: bool = True,
        cache: WordCache | None = None,
        runtime: bool = True,
        threads: int = 1,
    ) -> Predictor:
        """Load the model in `folder`, by default the released one; raises `DataError`.

        Without `read_text` only the picture is used, which is several times faster. Where no
        reader can be loaded, words are taken from the `cache` alone, and a line on standard error
        says so. `runtime`: see `load_model`; Grad-CAM needs a network of Keras, `runtime=False`.
        `threads` is how many cores may read one poster, 0 for all: 1 where many posters are read
        side by side.
        """
        with ThreadPoolExecutor(1) as pool:
            # Reader and networks start side by side: each takes most of a second.
            wanted = read_text and reads_text(Path(folder))
            starting = pool.submit(Reader, threads) if wanted else None
            model = load_model(Path(folder), read_text, runtime)
        reader = None
        try:
            reader = starting.result() if starting else None
        except ImportError as error:
            used = "The picture alone is" if cache is None else "Only words read before are"
            print(f"{error} {used} used.", file=sys.stderr)
        return cls(model, reader, cache)

    def predict(self, images: Any, top: int = 3) -> pd.DataFrame:
        """Return the `top` genres of each poster, the likeliest first.

        `images` is one or many of: path, folder (all files in it and below), open file or stream,
        bytes, PIL image, array. Columns: `poster` (the path as given, or relative to the one given
        folder), `rank` from 1, `genre`, `score` from 0 to 1, `error`. A file that cannot be read is
        one row with only `poster` and `error` filled. Raises `ValueError` unless `top` is at least
        1.
        """
        if not isinstance(top, (int, np.integer)) or top < 1:
            raise ValueError(f"top is {top!r}: give the number of genres to show, 1 or more.")
        return top_table(self.stream(images), self.genres, top)

    def predict_all(self, images: Any) -> pd.DataFrame:
        """Return every genre's score: `poster`, one column a genre in model order, `error`."""
        import pandas as pd

        rows = table_rows(self.stream(images), self.genres)
        table = pd.DataFrame(rows, columns=["poster", *self.genres, "error"])
        return table.astype(dict.fromkeys(self.genres, "float64"))

    def stream(self, images: Any) -> Iterator[Prediction]:
        """Yield a `Prediction` for each poster, in order; `images` is as in `predict`.

        After three seconds a bar on standard error shows the progress.
        """
        # Counting would use an iterator up.
        count = None if isinstance(images, Iterator) else sum(1 for _ in list_posters(images))
        return self.stream_named(list_posters(images), count)

    def stream_named(
        self, posters: Iterable[tuple[str, Any]], count: int | None = None
    ) -> Iterator[Prediction]:
        """Yield a `Prediction` for each `(name, source)`, as `list_posters` yields them.

        All cores, 8 at most where words are read, read ahead while the network computes; memory
        does not grow with the posters. `count` is their number, if it is known, for the bar.
        """
        # Each thread that reads words takes memory of its own; one that only decodes does not.
        pool = ThreadPoolExecutor(workers() if self.reader else os.cpu_count())
        ahead = self._read_ahead(iter(posters), pool)
        bar = progress.bar(total=count, desc="predicting", unit=" posters")
        try:
            while batch := list(islice(ahead, READ_BATCH if self.reader else BATCH)):
                read = [future.result() for future in batch]
                good = [(pixels, found.lines) for found, pixels in read if not found.error]
                scored = iter(())
                if good:
                    pixels, lines = zip(*good, strict=True)
                    outputs = self.picture_outputs(np.stack(pixels))
                    scored = zip(*self.combine(outputs, lines), strict=True)
                for found, _ in read:
                    bar.update()
                    if not found.error:
                        scores, text_effect = next(scored)
                        found = found._replace(scores=scores, text_effect=text_effect)
                    yield found
        finally:  # after Ctrl-C too: wait only for the posters that are being read
            bar.close()
            pool.shutdown(cancel_futures=True)

    def combine(
        self, outputs: np.ndarray, lines: Sequence[Sequence[Line]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return posters' scores, and the effect of their words on these; both `(n, genres)`.

        `outputs` are of `picture_outputs`, `lines` has the lines read on each poster. See `fuse`.
        """
        texts, genres = [join_lines(found) for found in lines], len(self.genres)
        parts = {"picture": outputs[:, :genres]}
        if self.model.words and any(texts):
            parts |= self.model.words.logits(texts, outputs[:, genres:])
        return fuse(self.model.fusions, parts, np.array([bool(text) for text in texts], bool))

    def picture_outputs(self, pixels: np.ndarray) -> np.ndarray:
        """Return the picture's logits, float64 `(n, genres)`, of uint8 `(n, *image_size, 3)`.

        Where the model has a joint head, the features that it takes stand behind them.
        """
        on_cpu = isinstance(self.network, RuntimeNetwork) or not machine.accelerated()
        step = CPU_BATCH if on_cpu else BATCH
        batches = [pixels[i : i + step] for i in range(0, len(pixels), step)]
        # Devices that cannot share a batch compute all of it each: the first rows are the answer.
        outputs = [self.network.predict_on_batch(batch)[: len(batch)] for batch in batches]
        return np.concatenate(outputs).astype(np.float64)

    def _read_ahead(
        self, posters: Iterator[tuple[str, Any]], pool: ThreadPoolExecutor
    ) -> Iterator[Future[tuple[Prediction, np.ndarray | None]]]:
        """Yield a future of `_read` for each poster, a batch ahead of the network."""
        ahead = deque(pool.submit(self._read, item) for item in islice(posters, BATCH))
        while ahead:
            ahead.extend(pool.submit(self._read, item) for item in islice(posters, 1))
            yield ahead.popleft()

    def _read(self, item: tuple[str, Any]) -> tuple[Prediction, np.ndarray | None]:
        """Return what is known of a poster before the network sees it, and its pixels."""
        name, source = item
        try:
            rgb = read_poster(source, name)
        except PosterError as error:
            return Prediction(name, error=error.reason), None
        lines = self._words(name, source, rgb) if self.model.words else []
        return Prediction(name, lines=lines), resize_poster(rgb, self.model.image_size)

    def _words(self, name: str, source: Any, rgb: np.ndarray) -> list[Line]:
        try:
            if self.cache is not None and isinstance(source, (str, os.PathLike)):
                known = self.cache.get(hash_file(source))
                if known is not None:
                    return known
            return self.reader.read(rgb, name) if self.reader else []
        except (PosterError, ImportError) as error:
            why = printable(str(error)).rstrip(".")
            print(f"{why}; the picture alone is used.", file=sys.stderr)
            return []


def highest(scores: np.ndarray, top: int) -> np.ndarray:
    """Return the positions of the `top` highest scores, 1 or more, the highest first."""
    return np.argsort(-scores, kind="stable")[:top]


def table_rows(
    found: Iterable[Prediction], genres: Sequence[str], top: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table: the `top` genres of each poster, or with `None` all in one row.

    A poster that could not be read gets one row, with only `poster` and `error` filled.
    """
    names = genres if top is None else ("rank", "genre", "score")
    for one in found:
        if one.error:
            rows = [(None,) * len(names)]
        elif top is None:
            rows = [one.scores.tolist()]
        else:
            best = enumerate(highest(one.scores, top), start=1)
            rows = [(rank, genres[g], float(one.scores[g])) for rank, g in best]
        for row in rows:
            yield {"poster": one.poster, **dict(zip(names, row, strict=True)), "error": one.error}


def top_table(found: Iterable[Prediction], genres: Sequence[str], top: int) -> pd.DataFrame:
    """Return `table_rows` as a table with the columns of `Predictor.predict`."""
    import pandas as pd

    rows = list(table_rows(found, genres, top))
    kinds = {"poster": None, "rank": "Int64", "genre": None, "score": "float64", "error": None}
    lists = {name: [row[name] for row in rows] for name in kinds}
    # One poster should not wait for `astype`, which takes longer than all the rest.
    return pd.DataFrame({name: pd.Series(lists[name], dtype=kind) for name, kind in kinds.items()})


def prediction_table(found: Iterable[Prediction], genres: Sequence[str], top: int) -> pd.DataFrame:
    """Return `top_table` of predictions with a column `by words`, the effect of the text.

    It is empty for posters on which no words were read.
    """
    found, effects = list(found), []
    for one in found:
        best = [] if one.error else highest(one.scores, top)
        read = join_lines(one.lines)
        effects += list(one.text_effect[best]) if read else [None] * max(1, len(best))
    table = top_table(found, genres, top)
    table.insert(table.columns.get_loc("error"), "by words", effects)
    return table
