"""How long does a prediction take, from a cold start and warm, beside what it cannot beat?

    python benchmarks/prediction.py [--posters 64] [--model DIR] [--only cold one many]
    git worktree add ../before 50b5772
    python benchmarks/prediction.py --only before --before ../before

- cold: the whole process `python -m genre_utils predict POSTER`, with and without `--no-text`,
  beside one that only imports Keras and builds the published network; the median of three of each.
- one, many: warm, the picture alone: `Predictor.predict` of one poster and of many, beside the
  network's own `predict_on_batch` on pixels of that size.
- one_with_words: one poster warm, its words read anew each time.
- folder: the process `python -m genre_utils predict FOLDER --csv FILE --no-text` on
  `--links N` links to the posters, beside the network's own speed.
- folder_with_words: the same on `--links-with-words N` links, their words read too, beside the
  speed that reading the words and then computing the picture, each alone on all cores, would have.
  Both with the highest memory in each quarter of the time.
- before: `predict FOLDER --no-text` on `--links N` links, whole processes in turn, by this
  version and its model and by those of another commit, `--before DIR`, a worktree of it with its
  own code and model; then one poster warm in each.

Each part writes `benchmarks/results/prediction-PART.json`, and `prediction-PART-NAME.json` for the
model folder NAME. Watching memory needs psutil.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np
import record

from genre_utils import ocr
from genre_utils.predictor import BATCH, Predictor
from genre_utils.saved_model import RELEASED

BARE = "import keras; from genre_utils import models; models.seed_cnn((250, 250), 25)"
# One poster after a first one off the clock, in whatever version the working folder holds.
WARM = """
import json, sys, time
from genre_utils.predictor import Predictor
predictor = Predictor.load(read_text=False)
predictor.predict(sys.argv[1])
seconds = []
for _ in range(21):
    start = time.perf_counter()
    predictor.predict(sys.argv[1])
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""


def main() -> None:
    """Measure each part, and write its result."""
    parser = measure.options_parser(__doc__, posters=64)
    parser.add_argument("--model", type=Path, default=RELEASED, help="model folder")
    parser.add_argument("--links", type=int, default=2000, help="links to predict")
    parser.add_argument("--links-with-words", type=int, default=500, help="links, words read too")
    parser.add_argument("--before", type=Path, help="worktree of an older commit")
    parser.add_argument("--rounds", type=int, default=5, help="of whole commands in `before`")
    parts = {
        "cold": cold,
        "one": one,
        "many": many,
        "one_with_words": one_with_words,
        "folder": folder,
        "folder_with_words": folder_with_words,
        "before": before,
    }
    parser.add_argument("--only", nargs="+", choices=parts, help="parts (default: all)")
    options = parser.parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    # Another model's figures stand in files of their own, named after its folder.
    name, command = "", "python benchmarks/prediction.py --only {}"
    if options.model != RELEASED:
        name, command = f"-{options.model.name}", f"{command} --model outputs/{options.model.name}"
    for part in options.only or [part for part in parts if part != "before" or options.before]:
        figures, rows, more = parts[part](paths, options)
        rows = [record.Row(*row, command.format(part) + more) for row in rows]
        record.save(f"prediction-{part}{name}", figures, rows)


def cold(paths: list[str], options: Any, rounds: int = 3) -> tuple:
    """Time whole processes, once each off the clock so that all files were read before."""
    command = ("-m", "genre_utils", "predict", paths[0], "--model", str(options.model))
    sides = {
        "text": lambda: measure.run(*command),
        "predict": lambda: measure.run(*command, "--no-text"),
        "bare": lambda: measure.run("-c", BARE),
    }
    measure.alternate(sides, 1)
    seconds = measure.alternate(sides, rounds)
    figures = {side: round(median(times), 2) for side, times in seconds.items()}
    figures["ratio"] = measure.ratio(seconds["predict"], seconds["bare"])
    alone = f"{figures['ratio']:.2f} × ({figures['predict']:.1f} s and {figures['bare']:.1f} s)"
    what = "One poster by a cold command, "
    rows = [
        (what + "its words read too", "≤ 2.5 s", f"{figures['text']:.1f} s"),
        (
            what + "picture alone, beside importing Keras and a network, time",
            "≤ 0.25 ×, < 1 s",
            alone,
        ),
    ]
    return figures, rows, ""


def one(paths: list[str], options: Any) -> tuple:
    """Time one poster, the picture alone."""
    return warm("One poster", paths[:1], options, rounds=21)


def many(paths: list[str], options: Any) -> tuple:
    """Time all posters in one call, the pictures alone."""
    return warm(f"{len(paths)} posters", paths, options, rounds=5)


def warm(what: str, paths: list[str], options: Any, rounds: int) -> tuple:
    """Time `predict` beside the network; the ratio is 1 when reading the posters costs nothing."""
    predictor = Predictor.load(options.model, read_text=False)
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
    took, ratio = median(seconds["predict"]), measure.ratio(seconds["predict"], seconds["network"])
    speed = len(paths) / took
    figures = {"size": list(predictor.model.image_size), "posters": len(paths)}
    figures |= {"milliseconds": round(1000 * took, 1), "ratio": ratio}
    text = f"{ratio:.2f} × ({1000 * took:.0f} ms, {speed:.0f} posters/s)"
    row = (f"{what} warm, picture alone, beside the network alone, time", "—", text)
    return figures, [row], ""


def one_with_words(paths: list[str], options: Any) -> tuple:
    """Time one poster after the other, each a call of its own, read by all cores."""
    predictor = Predictor.load(options.model, threads=0)
    predictor.predict(paths[0])
    seconds = []
    for path in paths[:21]:
        start = time.perf_counter()
        predictor.predict(path)
        seconds.append(round(time.perf_counter() - start, 3))
    figures = {"posters": len(seconds), "median": median(seconds), "slowest": max(seconds)}
    row = ("One poster warm, its words read too, median", "≤ 0.5 s", f"{median(seconds):.2f} s")
    return figures, [row], ""


def folder(paths: list[str], options: Any) -> tuple:
    """Predict a folder by the command, the picture alone."""
    predictor = Predictor.load(options.model, read_text=False)
    height, width = predictor.model.image_size
    what = f"A folder of {options.links}, picture alone at {height} × {width}, beside the "
    what += "network's own batches, speed"
    # Decoding outweighs a small network, so for another model memory alone has a goal.
    goal = "≥ 0.90 ×, flat" if options.model == RELEASED else "flat"
    more = ("--no-text", "--model", str(options.model))
    figures, text = command(paths, options.links, more, lambda: network_alone(predictor))
    return figures, [(what, goal, text)], f" --links {options.links}"


def folder_with_words(paths: list[str], options: Any) -> tuple:
    """Predict a folder by the command, with words."""
    predictor, count = Predictor.load(options.model, read_text=False), options.links_with_words
    figures, text = command(
        paths,
        count,
        ("--model", str(options.model)),
        lambda: reading_alone(paths) + network_alone(predictor),
    )
    what = f"A folder of {count} with words, beside reading and picture alone on the "
    what += "same cores, speed"
    return figures, [(what, "≥ 0.95 ×, flat, ≤ 1.0 GB", text)], f" --links-with-words {count}"


def command(
    paths: list[str], count: int, more: tuple[str, ...], alone: Callable[[], float]
) -> tuple[dict[str, Any], str]:
    """Predict a folder of so many links by the command, between two runs of what it cannot beat.

    `alone` returns that one's seconds a poster.
    """
    with measure.linked(paths, count) as links:
        before = alone()
        table = str(links.parent / "table.csv")
        arguments = ("-m", "genre_utils", "predict", str(links), "--csv", table, *more)
        seconds, megabytes = measure.watch(*arguments)
    limit = (before + alone()) / 2
    quarters = [round(float(max(part))) for part in np.array_split(megabytes, 4)]
    figures = {
        "posters": count,
        "posters_a_second": round(count / seconds, 2),
        "share": round(count * limit / seconds, 3),
        "megabytes": quarters,
    }
    text = f"{figures['share']:.2f} × ({count / seconds:.1f} and {1 / limit:.1f} posters/s; "
    return figures, text + f"{', '.join(map(str, quarters))} MB in each quarter)"


def network_alone(predictor: Predictor) -> float:
    """Return the seconds that the network itself takes for a poster, in batches as `predict`'s."""
    pixels = np.full((BATCH, *predictor.model.image_size, 3), 127, np.uint8)
    predictor.picture_outputs(pixels)
    start = time.perf_counter()
    for _ in range(8):
        predictor.picture_outputs(pixels)
    return (time.perf_counter() - start) / (8 * BATCH)


def reading_alone(paths: list[str]) -> float:
    """Return the seconds that reading a poster's words takes, on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        reader, cache = ocr.Reader(), ocr.WordCache(Path(folder) / "words.jsonl")
        ocr.read_posters(paths[: ocr.workers()], cache, reader)  # loads its models
        start = time.perf_counter()
        read = ocr.read_posters(paths, cache, reader)
    return (time.perf_counter() - start) / read.new


def before(paths: list[str], options: Any) -> tuple:
    """Predict the same folder, then one poster, by this version and by an older one."""
    if options.before is None:
        raise SystemExit("--only before needs --before DIR, a worktree of the older commit.")
    commit = measure.commit_of(options.before)
    folders = {"now": Path.cwd(), "before": options.before}
    with measure.linked(paths, options.links) as links:
        table = links.parent / "table.csv"
        arguments = ("-m", "genre_utils", "predict", str(links), "--no-text", "--csv", str(table))
        sides = {
            side: lambda folder=folder: measure.run(*arguments, cwd=folder)
            for side, folder in folders.items()
        }
        seconds = measure.alternate(sides, options.rounds, after=table.unlink)
    one: dict[str, list[float]] = {side: [] for side in folders}
    poster = str(Path(paths[0]).absolute())
    for number in range(options.rounds):
        for side in list(folders)[:: -1 if number % 2 else 1]:
            answer = json.loads(measure.run("-c", WARM, poster, cwd=folders[side]))
            one[side].append(median(answer))
    figures = {
        "commit": commit,
        "posters": options.links,
        "ratio": measure.ratio(seconds["before"], seconds["now"]),
        "ratio_warm": measure.ratio(one["before"], one["now"]),
        "seconds": seconds,
        "seconds_warm": one,
    }
    speed = {side: options.links / median(times) for side, times in seconds.items()}
    both = f"{speed['now']:.1f} and {speed['before']:.1f} posters/s"
    warm_both = " and ".join(f"{1000 * median(one[side]):.0f} ms" for side in folders)
    what = f"beside the release of {commit}, speed"
    rows = [
        (
            f"`predict --no-text` of {options.links} posters {what}",
            "≥ 2 ×",
            f"{figures['ratio']:.2f} × ({both})",
        ),
        (
            f"One poster warm, picture alone, {what}",
            "≥ 2 ×",
            f"{figures['ratio_warm']:.2f} × ({warm_both})",
        ),
    ]
    return figures, rows, f" --before ../before --links {options.links}"


if __name__ == "__main__":
    main()
