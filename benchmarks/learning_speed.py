"""How soon is the default training as good as the published network ever gets?

    python benchmarks/learning_speed.py [--model efficientnet_lite0 --width 128]

The clock starts at nothing but the posters, and counts all that the train notebook does on a CPU:
building the network, decoding every poster, the frozen features and the head's epochs, until
validation macro mAP passes 0.1745. Beside it stands the whole training of `seed_cnn`, `seconds` in
`benchmarks/results/seed_cnn.json` (by `seed_cnn.py`), which counts its epochs alone; it must come
from the same machine and as many cores. The test score is that of the network at that moment, off
the clock. Each model and size is a row of `benchmarks/results/learning_speed.json`; measuring again
replaces it.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import measure
import numpy as np

from genre_utils import batches, dataset, images, models, training
from genre_utils.evaluation import macro_average_precision

GOAL = 0.1745
OUTPUT = Path("outputs/learning_speed")
EPOCHS = 60


def main() -> None:
    """Train one network until it passes the goal, and write its row."""
    parser = measure.options_parser(__doc__)
    parser.add_argument("--model", default="efficientnet_lite2", help="network with a backbone")
    parser.add_argument("--width", type=int, default=272, help="width of the portrait, pixels")
    options = parser.parse_args()
    seed = read_result("seed_cnn")
    if not seed:
        raise SystemExit(
            "There is no benchmarks/results/seed_cnn.json to compare with: train seed_cnn as the "
            "README says, then run benchmarks/seed_cnn.py."
        )
    check_same_machine(seed["machine"])
    size = images.poster_size(options.width, "portrait")
    row = {"model": options.model, "size": list(size)}
    others = [
        other
        for other in read_result("learning_speed").get("rows", [])
        if any(other[key] != value for key, value in row.items())
    ]
    keras.utils.set_random_seed(0)
    row |= learn(measure.real_posters(options.posters), options.model, size)
    row["share_of_seed_cnn"] = round(row["seconds"] / seed["seconds"], 4)
    rows = [*others, row]
    measure.save(
        "learning_speed", {"goal": GOAL, "seed_cnn_seconds": seed["seconds"], "rows": rows}
    )
    print(row)


def check_same_machine(other: dict[str, Any]) -> None:
    """Exit unless the other side was measured on this processor and as many cores."""
    here = measure.describe_machine()
    for name in ("cpu", "cores_used"):
        if here[name] != other[name]:
            raise SystemExit(
                f"seed_cnn was trained where {name} was {other[name]}, and here it is "
                f"{here[name]}: the ratio would say nothing. Use the same machine and taskset."
            )


def learn(data: dataset.Dataset, name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Train a head from nothing until it passes; gives seconds, epochs and both scores."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    start = time.perf_counter()
    model = models.build_model(name, size, data.genres)
    cache = batches.fill_cache(data.posters["path"].tolist(), size, OUTPUT)
    data = data.without(cache.unreadable)
    train, labels = features_of(data, "train", model, cache)
    passing = Passing(*features_of(data, "validation", model, cache))
    head = model.get_layer("head")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss)
    head.fit(train, labels.astype("float32"), 128, epochs=EPOCHS, callbacks=[passing], verbose=0)
    seconds = time.perf_counter() - start
    if not passing.passed:
        raise SystemExit(f"{name} did not pass {GOAL} in {EPOCHS} epochs: nothing to write.")
    test, test_labels = features_of(data, "test", model, cache)
    score = macro_average_precision(test_labels, head.predict(test, verbose=0))
    shutil.rmtree(OUTPUT)
    return {
        "posters": len(data.posters),
        "seconds": round(seconds, 1),
        "epochs": passing.epochs,
        "validation": round(passing.validation, 4),
        "test": round(float(score), 4),
    }


def features_of(
    data: dataset.Dataset, split: str, model: keras.Model, cache: batches.PixelCache
) -> tuple[np.ndarray, np.ndarray]:
    """Give one split's frozen features and its labels."""
    rows = data.part(split)
    paths = rows["path"].tolist()
    features = training.frozen_features(model.get_layer("backbone"), model.name, cache, paths)
    return features, data.labels(rows)


class Passing(training.ValidationScore):
    """Stops the training once validation passes the goal."""

    passed = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score the network as it is after this epoch."""
        self.validation = self.score()
        self.epochs = epoch + 1
        self.passed = self.model.stop_training = self.validation > GOAL


def read_result(name: str) -> dict[str, Any]:
    """Read a result file; empty where it was not measured yet."""
    file = measure.RESULTS / f"{name}.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


if __name__ == "__main__":
    main()
