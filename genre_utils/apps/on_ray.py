"""Many machines: Ray Data maps the same Predictor, or the same Reader, over posters.

Ray gives out the work. It restarts a worker that died, and repeats what that one had in hand. The
core never imports this module.
"""

import json
import logging
import os
import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import ray

from genre_utils.images import PosterError, read_poster
from genre_utils.ocr import Line, Reader, Readings, WordCache, read_posters
from genre_utils.predictor import Predictor, list_posters

BATCH = 32  # posters that a worker has in hand, and that are repeated if it dies
# Shares of a core: were all cores the workers', no task could write what they have done.
WORKER, WRITER = 0.8, 0.2
PATIENCE = 10  # seconds for a cluster to answer


class PredictBatch:
    """A worker: it loads the model once, and scores the posters that Ray hands it."""

    def __init__(self, model: str, read_text: bool):
        self.predictor = Predictor.load(model, read_text)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return `poster`, a column of scores a genre, and `error`, one row a poster."""
        fetched, reasons = zip(*map(_fetch, batch["source"]), strict=True)
        posters = zip(batch["poster"], fetched, strict=True)
        found = list(self.predictor.stream_named(posters))
        missing = np.full(len(self.predictor.genres), np.nan)
        scores = np.array([missing if one.error else one.scores for one in found])
        columns = dict(zip(self.predictor.genres, scores.T, strict=True))
        errors = [why or one.error or "" for why, one in zip(reasons, found, strict=True)]
        return {"poster": batch["poster"], **columns, "error": np.array(errors)}


class ReadBatch:
    """A worker that reads the words on posters."""

    def __init__(self):
        self.reader = Reader()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return `source`, its lines as JSON, the `settings` of reading, and `error` or `""`."""
        rows = []
        for source in batch["source"]:
            try:
                rgb = read_poster(source)
                rows.append((json.dumps(self.reader.read(rgb)), self.reader.settings(rgb), ""))
            except PosterError as error:
                rows.append(("[]", "", error.reason))
        lines, settings, errors = map(np.array, zip(*rows, strict=True))
        return {"source": batch["source"], "lines": lines, "settings": settings, "error": errors}


def predict(
    images: Iterable[str], output: str, model: Path, read_text: bool, address: str | None = None
) -> tuple[int, int]:
    """Predict posters into Parquet files in the folder or address `output`.

    `images` are paths, folders, or addresses that fsspec knows, such as `s3://bucket/posters`. The
    columns are `poster`, one a genre, and `error`, empty where there is none. `address` is that of
    a Ray cluster; without it, Ray starts on this machine. Returns the numbers of posters that were
    predicted and that could not be read; of none, nothing is written. Raises `OSError` where
    `output` cannot be written, `ValueError` for an address at which nothing answers, or which
    cannot be listed.
    """
    items = [{"poster": name, "source": source} for name, source in _list(images)]
    if not items:
        return 0, 0
    start(address)
    workers = {"fn_constructor_args": (os.path.abspath(model), read_text)}
    predicted = _map(items, PredictBatch, **workers)
    try:
        predicted.write_parquet(output, ray_remote_args={"num_cpus": WRITER})
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, OSError):
            raise
        raise OSError(
            f"{output} cannot be written ({error.cause.strerror or error.cause}). Mend that, empty "
            "it, and run the same again."
        ) from None
    written = ray.data.read_parquet(output, columns=["error"])
    bad = written.filter(expr="error != ''").count()
    return len(items) - bad, bad


def read(
    paths: Sequence[str], cache: WordCache, address: str | None = None, anew: bool = False
) -> Readings:
    """Read the words on posters into `cache` as `ocr.read_posters` does, on Ray's workers.

    They must see the same files, under the same paths, as this machine.
    """

    def read_all(pictures: dict[str, str], cache: WordCache, reader: Reader) -> dict[str, str]:
        start(address)
        failed, hashes = {}, {path: sha256 for sha256, path in pictures.items()}
        for row in _map([{"source": path} for path in hashes], ReadBatch).iter_rows():
            if row["error"]:
                failed[hashes[row["source"]]] = row["error"]
            else:
                read = json.loads(row["lines"])
                found = [Line(text, sure, tuple(map(tuple, box))) for text, sure, box in read]
                cache.put(hashes[row["source"]], found, row["settings"])
        return failed

    return read_posters(paths, cache, read_all=read_all, anew=anew)


def start(address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine; nothing where it runs already.

    Raises `ValueError` where nothing listens at `address`.
    """
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # what fails is raised, too, in a sentence
            handler.addFilter(_is_no_error)  # a function of its own is added once only
    if ray.is_initialized():
        return
    # Ray itself tries for minutes. "auto" and "local" it finds by other means than a port.
    if found := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address or ""):
        try:
            socket.create_connection((found[1], int(found[2])), timeout=PATIENCE).close()
        except (OSError, OverflowError, UnicodeError) as error:  # the latter: no port, no name
            raise ValueError(
                f"No Ray cluster answers at {address} ({error}): give --ray-address what `ray "
                "start` printed on its first machine, or leave it out to work on this machine."
            ) from None
    here = {} if address else {"include_dashboard": False}
    ray.init(address=address, log_to_driver=False, **here)


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno != logging.ERROR


def _map(items: list[dict[str, str]], worker: type, **options: Any) -> ray.data.Dataset:
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    data = ray.data.from_items(items, override_num_blocks=max(1, -(-len(items) // BATCH)))
    # As many workers as cores, but no more than there is work for.
    count = min(cores, data.num_blocks())
    pool = ray.data.ActorPoolStrategy(size=count)
    return data.map_batches(worker, batch_size=BATCH, compute=pool, num_cpus=WORKER, **options)


def _list(images: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield `(name, source)` as `list_posters` does, and of what lies at addresses."""
    images = list(images)
    several = len(images) > 1
    for image in images:
        if "://" not in image:
            found = list_posters(image, several)
            yield from ((name, os.path.abspath(path)) for name, path in found)
            continue
        try:
            system, root = fsspec.core.url_to_fs(image)
        except (ImportError, ValueError) as error:  # of a kind for which a package is missing
            raise ValueError(f"{image} cannot be listed: {error}.") from None
        for path in sorted(system.find(root)) or [root]:
            address = system.unstrip_protocol(path)
            within = address if path == root else os.path.relpath(path, root)
            yield address if several else within, address


def _fetch(source: str) -> tuple[Any, str | None]:
    """Return a path as it is, and the bytes at an address, or none and the reason why."""
    if "://" not in source:
        return source, None
    try:
        with fsspec.open(source) as file:
            return file.read(), None
    except Exception as error:  # each system's own, from HTTP to S3
        return b"", f"it cannot be fetched ({type(error).__name__}: {error})"
