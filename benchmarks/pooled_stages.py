"""Do pooled earlier stages help? Cross-validated macro mAP of heads on frozen features.

    python benchmarks/pooled_stages.py [--cache outputs/model/cache]

Needs the real posters; uses those that are neither test nor unlabelled, in five seeded folds. The
features of EfficientNet-Lite2 at 400 × 272 are computed into the cache folder, or found there after
a training on the same posters. Each fold trains one head on the top's features alone and one on
all, with the same seed, for 20 epochs. Writes `benchmarks/results/pooled_stages.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.model_selection import KFold

from genre_utils import batches, dataset, images, models, sources, training
from genre_utils.evaluation import macro_average_precision
from genre_utils.networks.efficientnet_lite import TOP_CHANNELS
from genre_utils.support import write_json

NETWORK = "efficientnet_lite2"
EPOCHS = 20
RESULT = Path(__file__).parent / "results" / "pooled_stages.json"


def main() -> None:
    """Score both sets of features on the same folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("outputs/pooled_stages"))
    options = parser.parse_args()
    data = dataset.load_dataset(sources.find_data())
    size = images.poster_size(272, "portrait")
    backbone = models.build_model(NETWORK, size, data.genres).get_layer("backbone")
    cache = batches.fill_cache(data.posters["path"].tolist(), size, options.cache)
    parts = [data.part(split) for split in ("train", "validation")]
    features = np.concatenate(
        [
            training.frozen_features(backbone, NETWORK, cache, part["path"].to_numpy())
            for part in parts
        ]
    )
    labels = np.concatenate([data.labels(part) for part in parts])
    folds = list(KFold(5, shuffle=True, random_state=0).split(features))
    scores = {
        "top": [score(features[:, :TOP_CHANNELS], labels, *fold) for fold in folds],
        "top and four stages": [score(features, labels, *fold) for fold in folds],
    }
    for name, values in scores.items():
        print(f"{name}: {np.mean(values):.4f}, folds {np.round(values, 4)}")
    write_json(RESULT, {name: np.round(values, 4).tolist() for name, values in scores.items()})


def score(features: np.ndarray, labels: np.ndarray, train: np.ndarray, rest: np.ndarray) -> float:
    """Train a head on some rows; macro mAP on the others."""
    keras.utils.set_random_seed(0)
    head = models.build_head(features.shape[1], labels.shape[1])
    steps = EPOCHS * -(-len(train) // 128)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4), loss)
    head.fit(features[train], labels[train].astype("float32"), 128, EPOCHS, verbose=0)
    return macro_average_precision(labels[rest], head.predict(features[rest], verbose=0))


if __name__ == "__main__":
    main()
