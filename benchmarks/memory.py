"""How much memory does the pipeline take, and does it grow with the data?

    python benchmarks/memory.py [--posters 800] [--only pipeline head]

pipeline: child processes train `seed_cnn` on the posters once, twice, four and eight times over
(links with other names, so that each counts as a poster of its own), at 250 and 400 pixels square.
They fill the cache, then run one epoch of augmented `PosterBatches`. Every poster is decoded and
put into a batch, but the network is fitted on only six of the batches, spread over the epoch: its
memory does not depend on their number, and an epoch of all would take hours. Beside each size
stand three children with six times one constant batch, whose peaks say how far such figures
scatter. The pipeline's memory is the difference between a child's peak of anonymous memory and
their median: what the system must keep, without the pages of the cache's file, which it may drop
at any time. One more figure is the largest of these processes with everything in it.

head: the whole process that computes frozen features and trains the head.

Anonymous memory is RssAnon on Linux; elsewhere psutil's `uss`. Writes
`benchmarks/results/memory.json` and `memory-head.json`; with 800 posters it needs 4 GB below
`outputs/`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import keras
import measure
import numpy as np
import record

from genre_utils import batches, models, training

SIDES = (250, 400)
TIMES = (1, 2, 4, 8)
BATCH = 32
STEPS = 6
CONSTANT_CHILDREN = 3
GENRES = tuple(f"genre {i}" for i in range(25))
OUTPUT = Path("outputs/memory")
STATUS = Path("/proc/self/status")


def main() -> None:
    """Measure the parts asked for, and write their results."""
    parser = measure.options_parser(__doc__, posters=800)
    parts = {"pipeline": pipeline, "head": head}
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="parts")
    options = parser.parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    for part in options.only:
        parts[part](paths)
        shutil.rmtree(OUTPUT)


def pipeline(paths: Sequence[str]) -> None:
    """Measure every size and amount of data."""
    steps = min(STEPS, len(paths) // BATCH)
    sizes = []
    constant = {}
    for side in SIDES:
        children = [watched(train_on_constant, side, steps) for _ in range(CONSTANT_CHILDREN)]
        constant[side] = [child["anonymous"] for child in children]
        for times in TIMES:
            fed = watched(train_on_posters, side, link_copies(paths, times), steps)
            pipeline_mb = fed["anonymous"] - round(median(constant[side]))
            sizes.append({"side": side, "times": times, "pipeline_mb": pipeline_mb, "fed_mb": fed})
            print(sizes[-1], flush=True)
    command = f"python benchmarks/memory.py --only pipeline --posters {len(paths)}"
    rows = []
    for side in SIDES:
        texts = [f"{r['times']} ×: {r['pipeline_mb']} MB" for r in sizes if r["side"] == side]
        what = f"The pipeline's anonymous memory at {side} × {side}, by amount of data"
        text = f"{', '.join(texts)} (1 × is {len(paths)} posters)"
        rows.append(record.Row(what, "≤ 300 MB, flat", text, command))
    largest = f"{max(size['fed_mb']['total'] for size in sizes) / 1000:.2f} GB"
    what = "Whole process that trains the published network"
    rows.append(record.Row(what, "< 2.5 GB", largest, command))
    record.save("memory", {"posters": len(paths), "sizes": sizes, "constant_mb": constant}, rows)


def head(paths: Sequence[str]) -> None:
    """Measure a process that computes frozen features and trains the head on them."""
    peaks = watched(train_head, SIDES[-1], link_copies(paths, 1))
    what = "Whole process that computes frozen features and trains the head, "
    what += f"{SIDES[-1]} × {SIDES[-1]}"
    command = f"python benchmarks/memory.py --only head --posters {len(paths)}"
    row = record.Row(what, "< 2.5 GB", f"{peaks['total'] / 1000:.2f} GB", command)
    record.save("memory-head", {"posters": len(paths), "peaks_mb": peaks}, [row])


def link_copies(paths: Sequence[str], times: int) -> list[str]:
    """Make links to all posters, `times` over, in an empty folder, and return their paths."""
    shutil.rmtree(OUTPUT, ignore_errors=True)  # of a run that was stopped
    links = []
    for copy in range(times):
        folder = OUTPUT / "links" / str(copy)
        folder.mkdir(parents=True)
        for path in map(Path, paths):
            link = folder / path.name
            link.symlink_to(path.resolve())
            links.append(str(link))
    return links


def train_on_posters(side: int, paths: Sequence[str], steps: int) -> None:
    """Fill a cache and read all posters in batches, fitting on some of them."""
    cache = batches.fill_cache(paths, (side, side), OUTPUT)
    readable = [path for path in paths if path not in cache.unreadable]
    # Whole batches only: a last, smaller one would have TensorFlow trace the network again.
    readable = readable[: len(readable) // BATCH * BATCH]
    labels = np.zeros((len(readable), len(GENRES)), np.float32)
    fit(
        side,
        Thinned(batches.PosterBatches(cache, readable, labels, BATCH, 0, augmented=True), steps),
    )


def train_on_constant(side: int, steps: int) -> None:
    """Fit as many steps on one batch that stays in memory."""
    pixels = np.full((BATCH, side, side, 3), 127, np.uint8)
    fit(side, Thinned([(pixels, np.zeros((BATCH, len(GENRES)), np.float32))] * steps, steps))


def fit(side: int, batches: Thinned) -> None:
    """Train the published network for one epoch."""
    model = models.build_model("seed_cnn", side, GENRES)
    model.compile(keras.optimizers.Adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(batches, epochs=1, shuffle=False, verbose=0)


def train_head(side: int, paths: Sequence[str]) -> None:
    """Compute frozen features and train the head, as the train notebook does on a CPU."""
    cache = batches.fill_cache(paths, (side, side), OUTPUT)
    readable = [path for path in paths if path not in cache.unreadable]
    model = models.build_model("efficientnet_lite2", side, GENRES)
    backbone, head = model.get_layer("backbone"), model.get_layer("head")
    some = {"train": readable}
    features = training.frozen_features(backbone, cache, some, splits=["train"])["train"]
    head.compile(keras.optimizers.AdamW(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    head.fit(features, np.zeros((len(readable), len(GENRES))), batch_size=128, epochs=3, verbose=0)


class Thinned(keras.utils.PyDataset):
    """Takes every batch in turn but hands on only `steps` of them."""

    def __init__(self, batches: Any, steps: int):
        super().__init__()
        self.batches = batches
        self.shares = np.array_split(np.arange(len(batches)), steps)

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        for i in self.shares[step]:
            batch = self.batches[i]
        return batch


def watched(work: Callable[..., None], *arguments: Any) -> dict[str, int]:
    """Run `work` in a fresh process; returns the peaks of its memory in MB."""
    return measure.in_child(watch, work, arguments)


def watch(work: Callable[..., None], arguments: Sequence[Any]) -> dict[str, int]:
    """Run `work` while a thread notes the highest memory that it sees, in MB."""
    peaks = read_memory()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            for kind, value in read_memory().items():
                peaks[kind] = max(peaks[kind], value)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        work(*arguments)
    finally:
        done.set()
        thread.join()
    return {kind: round(value / 1e6) for kind, value in peaks.items()}


def read_memory() -> dict[str, float]:
    """Return this process's memory in bytes: `anonymous` now, and in `total`."""
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        kilobytes = {"anonymous": lines["RssAnon"], "total": lines["VmHWM"]}
        return {kind: 1024 * float(text.split()[0]) for kind, text in kilobytes.items()}
    try:
        import psutil
    except ImportError:
        raise SystemExit("Reading memory needs Linux or psutil: pip install psutil.") from None
    memory = psutil.Process().memory_full_info()
    return {"anonymous": memory.uss, "total": memory.rss}


if __name__ == "__main__":
    main()
