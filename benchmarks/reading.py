"""How fast are posters' words read, in how much memory, and what does the detector's size cost?

    python benchmarks/reading.py [--posters 200] [--only command one]
    git worktree add ../before 50b5772
    python benchmarks/reading.py --only before --before ../before

- command: whole processes in turn, five times each. `python -m genre_utils read`, whose detector
  sees a poster at a size that follows the poster's own; the same with a detector at 736 pixels,
  RapidOCR's own size; and RapidOCR as its manual calls it (but for the angle classifier, which is
  off in all), one file after the other. The memory is the highest of the first one.
- one: one warm `Reader.read` at a time, on all cores, of posters as they are and of copies three
  times as wide.
- before: `read` beside that of another commit, `--before DIR`, a worktree of it with its own code.

Writes `benchmarks/results/reading-command.json`, `reading-one.json` and `reading-before.json`.
Watching memory needs psutil.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np
import record
from PIL import Image

from genre_utils import images, ocr

FIXED = """
import sys
from genre_utils.ocr import reader
reader.SMALLEST_SIDE = reader.LARGEST_SIDE
from genre_utils.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
ONE_BY_ONE = """
import sys
from contextlib import suppress
from pathlib import Path
from genre_utils import machine
machine.import_onnxruntime()  # which reports nothing to its makers then
from rapidocr import RapidOCR
reader = RapidOCR(params={"Global.use_cls": False, "Global.log_level": "critical"})
for path in sorted(Path(sys.argv[1]).iterdir()):
    with suppress(Exception):
        reader(str(path))
"""
ROUNDS = 5
ONE = 21  # posters read one at a time
LARGER = 3


def main() -> None:
    """Measure the parts asked for, each into its own file."""
    parser = measure.options_parser(__doc__, posters=200)
    parts = {"command": measure_command, "one": measure_one, "before": measure_before}
    parser.add_argument(
        "--only", nargs="+", choices=parts, default=["command", "one"], help="parts"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of whole commands")
    parser.add_argument("--before", type=Path, metavar="DIR", help="worktree of an older commit")
    options = parser.parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    for part in options.only:
        parts[part](paths, options)


def measure_command(paths: Sequence[str], options: Any) -> None:
    """Time whole processes in turn, and watch the memory of this project's."""
    with tempfile.TemporaryDirectory() as folder:
        data, words = Path(folder) / "data", Path(folder) / "words.jsonl"
        copy_data(paths, data)
        read = ("read", "--data", str(data), "--words", str(words))
        memory: list[float] = []
        sides = {
            "read": lambda: memory.extend(measure.watch("-m", "genre_utils", *read)[1]),
            "fixed": lambda: measure.run("-c", FIXED, *read),
            "one_by_one": lambda: measure.run("-c", ONE_BY_ONE, str(data / "Images")),
        }
        seconds = measure.alternate(
            sides, options.rounds, after=lambda: words.unlink(missing_ok=True)
        )
    speeds = {side: round(len(paths) / median(times), 2) for side, times in seconds.items()}
    ratios = {side: measure.ratio(seconds[side], seconds["read"]) for side in sides}
    texts = {
        side: f"{ratios[side]:.2f} × ({speeds['read']:.2f} and {speeds[side]:.2f} posters/s)"
        for side in sides
    }
    what = f"Reading the words on {len(paths)} posters by the command, all cores, "
    peak = f"{max(memory) / 1000:.2f} GB"
    rows = [
        (what + "beside the same with a detector of 736 pixels, speed", "≥ 1.7 ×", texts["fixed"]),
        (what + "beside RapidOCR one by one, speed", "≥ 1.8 posters/s", texts["one_by_one"]),
        ("Memory of the command that reads, at its peak", "≤ 1.0 GB", peak),
    ]
    figures = {
        "posters": len(paths),
        "posters_a_second": speeds,
        "ratios": ratios,
        "peak_mb": round(max(memory)),
        "seconds": seconds,
    }
    command = "python benchmarks/reading.py --only command"
    record.save("reading-command", figures, [record.Row(*row, command) for row in rows])


def measure_before(paths: Sequence[str], options: Any) -> None:
    """Read the same posters by this version and by an older one, whole processes in turn."""
    if options.before is None:
        raise SystemExit("--only before needs --before DIR, a worktree of the older commit.")
    commit = measure.commit_of(options.before)
    with tempfile.TemporaryDirectory() as folder:
        data, words = Path(folder) / "data", Path(folder) / "words.jsonl"
        copy_data(paths, data)
        read = ("-m", "genre_utils", "read", "--data", str(data), "--words", str(words))
        sides = {
            side: lambda code=code: measure.run(*read, cwd=code)
            for side, code in (("now", Path.cwd()), ("before", options.before))
        }
        seconds = measure.alternate(sides, options.rounds, after=words.unlink)
    now, before = (len(paths) / median(seconds[side]) for side in sides)
    ratio = measure.ratio(seconds["before"], seconds["now"])
    row = record.Row(
        f"Reading the words on {len(paths)} posters beside the release of {commit}, speed",
        "≥ 1.7 ×",
        f"{ratio:.2f} × ({now:.2f} and {before:.2f} posters/s)",
        f"python benchmarks/reading.py --only before --before ../before --posters {len(paths)}",
    )
    figures = {"commit": commit, "posters": len(paths), "ratio": ratio, "seconds": seconds}
    record.save("reading-before", figures, [row])


def copy_data(paths: Sequence[str], folder: Path) -> None:
    """Make a data set of the posters: copies, and a table, whose genres play no part."""
    (folder / "Images").mkdir(parents=True)
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("Id", "Genre"))
        for i, path in enumerate(map(Path, paths)):
            shutil.copyfile(path, folder / "Images" / path.name)
            table.writerow((path.stem, ("Drama", "Comedy")[i % 2]))


def measure_one(paths: Sequence[str], _: Any) -> None:
    """Time single readings of decoded posters, and of larger copies of them."""
    reader = ocr.Reader(threads=os.cpu_count() or 1)
    posters = [images.read_poster(path) for path in paths[:ONE]]
    reader.read(posters[0])
    result: dict[str, Any] = {}
    for side, scale in (("as_they_are", 1), ("larger", LARGER)):
        seconds = []
        for rgb in posters:
            size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
            copy = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
            start = time.perf_counter()
            reader.read(copy)
            seconds.append(time.perf_counter() - start)
        result[side] = {"median": round(median(seconds), 3), "slowest": round(max(seconds), 3)}
    text = f"{result['as_they_are']['median']:.2f} s; {LARGER} times as wide "
    text += f"{result['larger']['median']:.2f} s"
    row = record.Row(
        "One poster's words, warm, median", "< 1 s", text, "python benchmarks/reading.py --only one"
    )
    figures = {"posters": len(posters), "times_as_wide": LARGER, "seconds": result}
    record.save("reading-one", figures, [row])


if __name__ == "__main__":
    main()
