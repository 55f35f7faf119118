"""How long does a prediction take, from a cold start and warm, beside the network alone?

    python benchmarks/prediction.py [--posters 64] [--model DIR]

Cold: the whole process `python -m genre_utils predict POSTER`, with and without `--no-text`, beside
one that only imports Keras and builds the published network; the median of three of each,
alternating. Warm, the picture alone: `Predictor.predict` of one poster and of many, beside the
network's own `predict_on_batch` on pixels of that size. Warm, with words: one poster, its words
read anew each time. A catalogue: the process `python -m genre_utils predict FOLDER --csv FILE` on
`--catalogue N` links to the posters (0: none), the picture alone, beside the network's own speed;
on `--worded N` links with words, beside the speed of reading them; each with the highest memory in
each quarter of its time. Prints each part as it is done, and writes
`benchmarks/results/prediction.json` (`prediction-NAME.json` for the model folder NAME); parts that
were left out keep their figures of before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np

from genre_utils import ocr
from genre_utils.predictor import BATCH, Predictor
from genre_utils.saved_model import RELEASED

BARE = "import keras; from genre_utils import models; models.seed_cnn((250, 250), 25)"


def main() -> None:
    """Measure cold, one warm poster and many, and write the result."""
    parser = measure.options_parser(__doc__, posters=64)
    parser.add_argument("--model", type=Path, default=RELEASED, help="model folder")
    parser.add_argument("--catalogue", type=int, default=100_000, help="links to predict")
    parser.add_argument("--worded", type=int, default=200, help="links to predict with words")
    parser.add_argument("--only", nargs="*", help="parts to measure (default: all)")
    options = parser.parse_args()
    picture = Predictor.load(options.model, read_text=False)
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    plain = ["--model", str(options.model), "--no-text"]
    parts = {
        "one": lambda: measure_warm(picture, paths[:1], rounds=21),
        "many": lambda: measure_warm(picture, paths, rounds=5),
        "one_with_words": lambda: measure_words(Predictor.load(options.model), paths[:21]),
        "cold": lambda: measure_cold(paths[0], options.model),
        "catalogue": lambda: measure_catalogue(
            paths, options.catalogue, plain, lambda: network_alone(picture)
        ),
        "worded": lambda: measure_catalogue(
            paths, options.worded, plain[:-1], lambda: reading_alone(paths)
        ),
    }
    # Another model's figures stand in a file of their own, named after its folder.
    name = "prediction" if options.model == RELEASED else f"prediction-{options.model.name}"
    result = measure.saved(name) if options.only else {}
    result |= {"network": picture.model.network.name, "size": list(picture.model.image_size)}
    for what, part in parts.items():
        if getattr(options, what, True) and what in (options.only or parts):
            result[what] = part()
            print(f"{what}: {result[what]}", flush=True)
    measure.save(name, result)


def measure_words(predictor: Predictor, paths: list[str]) -> dict[str, Any]:
    """Time one poster after the other, each a call of its own."""
    predictor.predict(paths[0])
    seconds = []
    for path in paths:
        start = time.perf_counter()
        predictor.predict(path)
        seconds.append(round(time.perf_counter() - start, 3))
    return {"posters": len(paths), "median": median(seconds), "slowest": max(seconds)}


def measure_cold(poster: str, model: Path, rounds: int = 3) -> dict[str, Any]:
    """Time whole processes, once each off the clock so that all files were read before."""
    command = ("-m", "genre_utils", "predict", poster, "--model", str(model))
    sides = {
        "with_words": lambda: run(*command),
        "predict": lambda: run(*command, "--no-text"),
        "bare": lambda: run("-c", BARE),
    }
    measure.alternate(sides, 1)
    seconds = measure.alternate(sides, rounds)
    return {
        "seconds": round(median(seconds["predict"]), 2),
        "with_words_seconds": round(median(seconds["with_words"]), 2),
        "bare_seconds": round(median(seconds["bare"]), 2),
        "ratio": measure.ratio(seconds["predict"], seconds["bare"]),
    }


def measure_catalogue(
    paths: list[str], count: int, options: list[str], alone: Callable[[], float]
) -> dict[str, Any]:
    """Predict a folder of so many links by the command, between two runs of what it cannot beat.

    `alone` gives that one's seconds a poster.
    """
    with tempfile.TemporaryDirectory() as folder:
        links = Path(folder) / "posters"
        links.mkdir()
        for i in range(count):
            os.symlink(os.path.abspath(paths[i % len(paths)]), links / f"{i:07d}.jpg")
        before = alone()
        command = ["-m", "genre_utils", "predict", str(links), "--csv", f"{folder}/table.csv"]
        seconds, megabytes = watch([*command, *options])
    limit = (before + alone()) / 2
    quarters = np.array_split(megabytes, 4)
    return {
        "posters": count,
        "posters_a_second": round(count / seconds, 2),
        "share": round(count * limit / seconds, 3),
        "megabytes": [round(float(max(quarter))) for quarter in quarters],
    }


def watch(arguments: list[str]) -> tuple[float, list[float]]:
    """Run this Python with arguments; gives the seconds it took, and its memory as it went on."""
    import psutil

    start, megabytes = time.perf_counter(), []
    child = psutil.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    while child.poll() is None:
        with suppress(psutil.Error):  # it may have ended since
            megabytes.append(child.memory_info().rss / 1e6)
        time.sleep(0.1)
    if child.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed.")
    return time.perf_counter() - start, megabytes


def network_alone(predictor: Predictor) -> float:
    """Give the seconds that the network itself takes for a poster, in batches."""
    batch = np.full((BATCH, *predictor.model.image_size, 3), 127, np.uint8)
    predictor.model.network.predict_on_batch(batch)
    start = time.perf_counter()
    for _ in range(8):
        predictor.model.network.predict_on_batch(batch)
    return (time.perf_counter() - start) / (8 * BATCH)


def reading_alone(paths: list[str]) -> float:
    """Give the seconds that reading a poster's words takes, on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        reader, cache = ocr.Reader(), ocr.WordCache(Path(folder) / "words.jsonl")
        ocr.read_posters(paths[: ocr.workers()], cache, reader)  # loads its models
        start = time.perf_counter()
        read = ocr.read_posters(paths, cache, reader)
    return (time.perf_counter() - start) / read.new


def run(*arguments: str) -> None:
    """Run this Python with arguments; its output is shown only in the error of a failure."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{done.stderr}")


def measure_warm(predictor: Predictor, paths: list[str], rounds: int) -> dict[str, Any]:
    """Time `predict` beside the network; `ratio` is 1 when reading the posters costs nothing."""
    network = predictor.model.network
    sizes = [len(paths[start : start + BATCH]) for start in range(0, len(paths), BATCH)]
    shape = (*predictor.model.image_size, 3)
    batches = [np.full((size, *shape), 127, np.uint8) for size in sizes]
    sides = {
        "predict": lambda: predictor.predict(paths),
        "network": lambda: [network.predict_on_batch(batch) for batch in batches],
    }
    measure.alternate(sides, 1)
    seconds = measure.alternate(sides, rounds)
    return {
        "posters": len(paths),
        "milliseconds": round(1000 * median(seconds["predict"]), 1),
        "posters_a_second": round(len(paths) / median(seconds["predict"]), 1),
        "ratio": measure.ratio(seconds["predict"], seconds["network"]),
    }


if __name__ == "__main__":
    main()
