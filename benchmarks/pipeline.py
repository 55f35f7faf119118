"""Does the pipeline keep up? Filling the cache beside bare Pillow, and an epoch beside no data.

    python benchmarks/pipeline.py [--posters 2000] [--only epoch]

Three measurements, each of them alternating its sides in one run:

- cache: `fill_cache` at 400 × 272 pixels into an empty folder, beside Pillow's decode and resize
  written to a file of the same size, on all cores and one by one; and beside libjpeg-turbo alone,
  which decodes but neither resizes nor writes (where `simplejpeg` is installed);
- epoch: `seed_cnn` at 128 × 128 pixels fed by `PosterBatches`, beside as many steps on one batch
  that stays in memory;
- fine_tuning: the same for an EfficientNet-Lite2 as the train notebook fine-tunes it, with
  augmentation, for a few steps.

All posters were read once before the clock runs. Each writes
`benchmarks/results/pipeline-NAME.json`; needs 2 GB below `outputs/` and about ten minutes on two
cores.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import keras
import measure
import numpy as np
import record
from PIL import Image

from genre_utils import batches, dataset, models

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

SIZE = (400, 272)
FINE_TUNING_STEPS = 12
OUTPUT = Path("outputs/pipeline")


def main() -> None:
    """Measure each part and write its result."""
    parser = measure.options_parser(__doc__, posters=2000)
    names = ("cache", "epoch", "fine_tuning")
    parser.add_argument("--only", nargs="+", choices=names, help="measurements (default: all)")
    options = parser.parse_args()
    data = measure.real_posters(options.posters)
    warm = batches.fill_cache(data.posters["path"].tolist(), SIZE, OUTPUT / "warm")
    data = data.without(warm.unreadable)
    parts = {
        "cache": lambda: measure_cache(data.posters["path"].tolist()),
        "epoch": lambda: measure_epoch(data),
        "fine_tuning": lambda: measure_fine_tuning(data),
    }
    for name in options.only or names:
        figures, rows = parts[name]()
        command = f"python benchmarks/pipeline.py --only {name}"
        rows = [record.Row(*row, command) for row in rows]
        record.save(f"pipeline-{name}", {"posters": len(data.posters), **figures}, rows)
    shutil.rmtree(OUTPUT)


def measure_cache(paths: Sequence[str], rounds: int = 5) -> tuple:
    """Time filling a fresh cache beside what decodes and resizes without this project's code."""
    scratch = OUTPUT / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # a cache left there would be found, not filled
    scratch.mkdir(parents=True)
    sides = {
        "fill_cache": lambda: batches.fill_cache(paths, SIZE, scratch),
        "pillow_all_cores": lambda: on_all_cores(fill_with_pillow, paths, scratch),
        "pillow_one_thread": lambda: fill_with_pillow(paths, scratch, map),
    }
    if simplejpeg:
        sides["libjpeg_turbo_all_cores"] = lambda: on_all_cores(decode_only, paths)
    seconds = measure.alternate(sides, rounds, after=lambda: empty(scratch))
    speeds = {side: round(len(paths) / median(times), 1) for side, times in seconds.items()}
    ours = seconds["fill_cache"]
    beside = {side: measure.ratio(times, ours) for side, times in seconds.items()}
    figures = {"size": list(SIZE), "posters_a_second": speeds, "speed_beside": beside}
    goals = {
        "pillow_all_cores": ("Pillow on all cores", "≥ 0.90 ×"),
        "pillow_one_thread": ("Pillow on one thread", "≥ 1.8 ×"),
        "libjpeg_turbo_all_cores": ("libjpeg-turbo that decodes only, all cores", "—"),
    }
    rows = [
        (
            f"Filling the pixel cache beside {what}, speed",
            goal,
            f"{beside[side]:.2f} × ({speeds['fill_cache']:.0f} and {speeds[side]:.0f} posters/s)",
        )
        for side, (what, goal) in goals.items()
        if side in sides
    ]
    return {**figures, "seconds": seconds}, rows


def on_all_cores(work: Callable, *arguments: Any) -> None:
    """Run `work` with the `map` of a pool of as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work(*arguments, pool.map)


def fill_with_pillow(paths: Sequence[str], folder: Path, mapping: Callable) -> None:
    """Decode, resize and write as anyone would with Pillow and NumPy."""
    shape = (len(paths), *SIZE, 3)
    rows = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=np.uint8, shape=shape)

    def decode(i: int) -> None:
        with Image.open(paths[i]) as image:
            rows[i] = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC)

    list(mapping(decode, range(len(paths))))


def decode_only(paths: Sequence[str], mapping: Callable) -> None:
    """Decode with libjpeg-turbo and throw the pixels away."""

    def decode(path: str) -> None:
        # The few posters that are no RGB or grey JPEG are passed over, which favours this side.
        with suppress(ValueError):
            simplejpeg.decode_jpeg(Path(path).read_bytes())

    list(mapping(decode, paths))


def empty(folder: Path) -> None:
    """Remove everything in a folder."""
    for file in folder.iterdir():
        file.unlink()


def measure_epoch(data: dataset.Dataset) -> tuple:
    """Time epochs of the published network at a size at which its steps are short."""
    size = (128, 128)
    model = models.build_model("seed_cnn", size, data.genres)
    model.compile(keras.optimizers.Adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    result = beside_constant(model, batches_of(data, size, batch=32), rounds=5)
    what = "An epoch of the published network at 128 × 128 beside a constant batch, time"
    figures = {"model": "seed_cnn", "size": list(size), **result}
    return figures, [(what, "within 3 %", epoch_text(result))]


def measure_fine_tuning(data: dataset.Dataset) -> tuple:
    """Time a few steps of fine-tuning as the train notebook does it."""
    model = models.build_model("efficientnet_lite2", SIZE, data.genres)
    models.freeze_for_fine_tuning(model)
    optimizer = keras.optimizers.AdamW(1e-4, weight_decay=1e-2)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    batches = batches_of(data, SIZE, batch=16, steps=FINE_TUNING_STEPS, augmented=True)
    result = beside_constant(model, batches, rounds=3)
    what = "Fine-tuning EfficientNet-Lite2 at 400 × 272, augmented, beside a constant batch, time"
    figures = {"model": "efficientnet_lite2", "size": list(SIZE), **result}
    return figures, [(what, "—", epoch_text(result))]


def epoch_text(result: dict[str, Any]) -> str:
    """Write how much longer steps on posters take than steps on one batch in memory."""
    return (
        f"{100 * (result['ratio'] - 1):+.1f} % over {result['steps']} steps "
        f"(making the batches alone: {100 * result['share_of_batches_alone']:.1f} %)"
    )


def batches_of(
    data: dataset.Dataset,
    size: tuple[int, int],
    batch: int,
    steps: int | None = None,
    augmented: bool = False,
) -> batches.PosterBatches:
    """Return whole batches only, of training posters: every step is as long as the next."""
    rows = data.part("train")
    rows = rows.iloc[: min(steps or len(rows), len(rows) // batch) * batch]
    paths = rows["path"].tolist()
    cache = batches.fill_cache(paths, size, OUTPUT / "warm")
    return batches.PosterBatches(cache, paths, data.labels(rows), batch, 0, augmented=augmented)


class Constant(keras.utils.PyDataset):
    """The same arrays for every batch: what training costs when data cost nothing."""

    def __init__(self, batch: tuple[np.ndarray, np.ndarray], steps: int):
        super().__init__()
        self.batch = batch
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch


def beside_constant(
    model: keras.Model, batches: batches.PosterBatches, rounds: int
) -> dict[str, Any]:
    """Time epochs on the posters beside epochs on one batch; `ratio` is 1 when data are free."""
    fit = partial(model.fit, epochs=1, shuffle=False, verbose=0)
    fit(Constant(batches[0], 2))  # compiles
    sides = {
        "posters": lambda: fit(batches),
        "constant": lambda: fit(Constant(batches[0], len(batches))),
        "batches_alone": lambda: [batches[i] for i in range(len(batches))],
    }
    seconds = measure.alternate(sides, rounds)
    return {
        "batch": batches.batch_size,
        "steps": len(batches),
        "ratio": measure.ratio(seconds["posters"], seconds["constant"]),
        "share_of_batches_alone": measure.ratio(seconds["batches_alone"], seconds["constant"]),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
