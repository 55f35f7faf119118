"""Does a larger picture help? Macro mAP of a head on frozen features, by size and shape.

    python benchmarks/picture_size.py [--train 0] [--widths 320 400]

Needs the real posters. Each size is decoded, run through the frozen EfficientNet-Lite2 and given
heads of its own (three seeds, as in the train notebook); the early stopping is on validation. 2000
of the training posters are used, drawn with seed 0, which lowers every figure; `--train 0` takes
all, and about an hour on one core. The network's work grows with the number of pixels. Features are
kept in `outputs/picture_size`: a stopped run goes on, in the size it was at; two runs at once may
share the work by `--widths`. Writes `benchmarks/results/picture_size.json` and, to
`outputs/picture_size`, the figure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import keras
import measure
import pandas as pd
from matplotlib import pyplot as plt

from genre_utils import batches, dataset, images, models, plots, sources, training
from genre_utils.evaluation import macro_average_precision

WIDTHS = (128, 192, 250, 320, 400)
SHAPES = ("square", "portrait")
SEEDS = (0, 1, 2)
NETWORK = "efficientnet_lite2"
OUTPUT = Path("outputs/picture_size")


def main() -> None:
    """Measure every size and shape that is not measured yet, then draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=2000, help="training posters; 0: all")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="pixels")
    options = parser.parse_args()
    data = dataset.load_dataset(sources.find_data())
    parts = {split: data.part(split) for split in dataset.SPLITS}
    if options.train:
        parts["train"] = parts["train"].sample(options.train, random_state=0)
    amount = len(parts["train"])
    for width in options.widths:
        for shape in SHAPES:
            size = images.poster_size(width, shape)
            if not any(row["size"] == list(size) for row in rows_of_before(amount)):
                row = {"width": width, "shape": shape, **measure_size(data, parts, size)}
                print(row, flush=True)
                rows = sorted([*rows_of_before(amount), row], key=lambda row: row["size"][::-1])
                measure.save("picture_size", {"training_posters": amount, "rows": rows})
    draw(pd.DataFrame(rows_of_before(amount)))


def rows_of_before(amount: int) -> list[dict]:
    """Give the rows measured before with as many training posters; none of other amounts."""
    file = measure.RESULTS / "picture_size.json"
    result = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return result["rows"] if result.get("training_posters") == amount else []


def measure_size(
    data: dataset.Dataset, parts: dict[str, pd.DataFrame], size: tuple[int, int]
) -> dict:
    """Score heads on the frozen features at one size: means over the seeds."""
    backbone = models.build_model(NETWORK, size, data.genres).get_layer("backbone")
    features, labels = {}, {}
    for split, rows in parts.items():
        paths = rows["path"].tolist()
        cache = batches.fill_cache(paths, size, OUTPUT)
        features[split] = training.frozen_features(backbone, NETWORK, cache, paths)
        labels[split] = data.labels(rows)
        cache.file.unlink()  # up to 5 GB a size, and the features are kept
    scores = pd.DataFrame([score(features, labels, seed) for seed in SEEDS])
    return {
        "size": list(size),
        **scores.mean().round(4).to_dict(),
        "validation_seeds": scores["validation"].round(4).tolist(),
    }


def score(features: dict, labels: dict, seed: int) -> dict[str, float]:
    """Train one head as the train notebook does; macro mAP on validation and test."""
    keras.utils.set_random_seed(seed)
    head = models.build_head(features["train"].shape[1], labels["train"].shape[1])
    training.fit_head(head, features, labels, OUTPUT / "head.csv")
    return {
        split: macro_average_precision(labels[split], head.predict(features[split], verbose=0))
        for split in ("validation", "test")
    }


def draw(table: pd.DataFrame) -> None:
    """Draw validation and test macro mAP over the picture's width, a line a shape."""
    plots.use_style()
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for panel, split in zip(panels, ("validation", "test"), strict=True):
        for shape, marker, color in zip(SHAPES, "so", (plots.ORANGE, plots.BLUE), strict=True):
            line = table[table["shape"] == shape]
            panel.plot(line["width"], line[split], marker=marker, color=color, label=shape)
        panel.set(xlabel="width of the picture (pixels)", title=split)
    panels[0].set_ylabel("macro mAP, frozen features")
    panels[1].legend(loc="lower right")
    best = table.loc[table["validation"].idxmax()]
    title = f"Validation is best at {best['width']} pixels, {best['shape']}"
    figure.suptitle(title, x=0.01, ha="left")
    plots.save_figure(figure, OUTPUT, "picture_size")


if __name__ == "__main__":
    main()
