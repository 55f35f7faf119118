"""How long does a prediction take, from a cold start and warm, beside the network alone?

    python benchmarks/prediction.py [--posters 64] [--model DIR]

Cold: the whole process `python -m genre_utils predict POSTER`, with and without `--no-text`, beside
one that only imports Keras and builds the published network; the median of three of each,
alternating. Warm, the picture alone: `Predictor.predict` of one poster and of many, beside the
network's own `predict_on_batch` on pixels of that size. Warm, with words: one poster, its words
read anew each time. A catalogue: `--catalogue N` links to the posters (0: none), the picture alone,
written to a journal; its speed beside the network's own, and the memory after each quarter. Prints
each part as it is done, and writes `benchmarks/results/prediction.json`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np

from genre_utils.catalogue import Journal
from genre_utils.model_folder import RELEASED
from genre_utils.predictor import BATCH, Predictor

BARE = "import keras; from genre_utils import models; models.seed_cnn((250, 250), 25)"


def main() -> None:
    """Measure cold, one warm poster and many, and write the result."""
    parser = measure.options_parser(__doc__, posters=64)
    parser.add_argument("--model", type=Path, default=RELEASED, help="model folder")
    parser.add_argument("--catalogue", type=int, default=100_000, help="links to predict")
    options = parser.parse_args()
    predictor = Predictor.load(options.model, read_text=False)
    reading = Predictor.load(options.model)
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    parts = {
        "one": lambda: measure_warm(predictor, paths[:1], rounds=21),
        "many": lambda: measure_warm(predictor, paths, rounds=5),
        "one_with_words": lambda: measure_words(reading, paths[:21]),
        "cold": lambda: measure_cold(paths[0], options.model),
    }
    if options.catalogue:
        parts["catalogue"] = lambda: measure_catalogue(predictor, paths, options.catalogue)
    network = predictor.model.network
    result = {"network": network.name, "size": list(predictor.model.image_size)}
    for name, part in parts.items():
        result[name] = part()
        print(f"{name}: {result[name]}", flush=True)
    measure.save("prediction", result)


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


def measure_catalogue(predictor: Predictor, paths: list[str], count: int) -> dict[str, Any]:
    """Predict a folder of so many links as the command does, between two runs of the network."""
    import psutil

    batch = np.full((BATCH, *predictor.model.image_size, 3), 127, np.uint8)
    process, megabytes = psutil.Process(), []

    def network() -> float:
        start = time.perf_counter()
        for _ in range(8):
            predictor.model.network.predict_on_batch(batch)
        return (time.perf_counter() - start) / (8 * BATCH)

    with tempfile.TemporaryDirectory() as folder:
        links = Path(folder) / "posters"
        links.mkdir()
        for i in range(count):
            os.symlink(os.path.abspath(paths[i % len(paths)]), links / f"{i:07d}.jpg")
        before = network()
        start = time.perf_counter()
        journal = Journal(Path(folder) / "table.csv.partial", predictor)
        for number, _ in enumerate(journal.fill(predictor, [links]), start=1):
            if number % max(1, count // 4) == 0:
                megabytes.append(round(process.memory_info().rss / 1e6))
        seconds = (time.perf_counter() - start) / count
    alone = (before + network()) / 2
    return {
        "posters": count,
        "posters_a_second": round(1 / seconds, 1),
        "share_of_network": round(alone / seconds, 3),
        "megabytes": megabytes,
    }


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
