"""What is each tower worth, and how are they best added? Five folds of the cheap parts.

    python benchmarks/towers.py [--cache outputs/released/cache] [--words outputs/words.jsonl]

Needs the real posters and their words; uses those that are neither test nor unlabelled. In each
fold heads on frozen features (pictures: EfficientNet-Lite2 and -Lite0 at 400 × 272; sentences:
MiniLM's vectors) and the n-grams learn from the other four, so that every poster has logits of
towers that never saw it. Learned sums are fitted on the other folds' logits. The figures are means
over the folds of macro mAP (genres with at least 5 positives in the fold) and the calibration
error. Writes `benchmarks/results/towers.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import measure
import numpy as np
from scipy.special import expit
from sklearn.model_selection import KFold

from genre_utils import (
    dataset,
    encoder,
    images,
    models,
    pipeline,
    reading,
    sources,
    tokenizing,
    training,
)
from genre_utils.evaluation import calibration_error, macro_average_precision
from genre_utils.fusion import fit_sum
from genre_utils.words import NgramModel, as_text

PICTURES = ("efficientnet_lite2", "efficientnet_lite0")
EPOCHS = {"picture": 30, "sentence": 20}
SHARED = 1e6  # so strong a hold that every genre has the same weights


def main() -> None:
    """Compute every tower's out-of-fold logits and score the ways of adding them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("outputs/released/cache"))
    parser.add_argument("--words", type=Path, default=reading.WORDS_FILE)
    options = parser.parse_args()
    data = dataset.load_dataset(sources.find_data())
    parts = [data.part(split) for split in ("train", "validation")]
    paths = [path for part in parts for path in part["path"]]
    labels = np.concatenate([data.labels(part) for part in parts])
    folds = list(KFold(5, shuffle=True, random_state=0).split(labels))
    towers, seconds = {}, {}

    def add(name: str, fit: Callable, inputs: np.ndarray | list) -> None:
        start = time.perf_counter()
        towers[name] = out_of_fold(fit, inputs, labels, folds)
        seconds[name] = round(time.perf_counter() - start)
        print(f"{name}: {seconds[name]} s", flush=True)

    for name in PICTURES:
        add(name, fit_head, picture_features(name, data, parts, options.cache))
    lines = reading.read_posters(paths, reading.WordCache(options.words)).lines
    found = [lines.get(path, []) for path in paths]
    texts = [as_text(one) for one in found]
    network, how = encoder.load_encoder()
    print(how)
    add("sentence", fit_head, tokenizing.run_on_words(network, tokenizing.tokenize(texts)))
    add("n-grams", fit_ngrams, texts)
    largest = [as_text(sorted(one, key=_height, reverse=True)) for one in found]
    add("n-grams, largest line first", fit_ngrams, largest)
    systems = score_all(towers, labels, folds)
    measure.save("towers", {"posters": len(labels), "systems": systems, "seconds": seconds})


def score_all(towers: dict, labels: np.ndarray, folds: Sequence) -> list[dict]:
    """Score each tower alone, plain sums, and learned sums with a stronger or weaker hold."""
    eyes = sum(towers[name] for name in PICTURES) / len(PICTURES)
    three = {"picture": eyes, "sentence": towers["sentence"], "ngrams": towers["n-grams"]}
    plain = eyes + 0.7 * towers["sentence"] + 0.4 * towers["n-grams"]
    systems = {name: logits for name, logits in towers.items()}
    systems["both pictures, mean"] = eyes
    systems["picture + 0.7 sentence + 0.4 n-grams"] = plain
    rows = [
        row(name, [logits[rest] for _, rest in folds], labels, folds)
        for name, logits in systems.items()
    ]
    for name, hold in (("shared weights", SHARED), *((f"hold {h}", h) for h in (100, 20, 5))):
        fitted = []
        for train, rest in folds:
            learned = fit_sum({k: v[train] for k, v in three.items()}, labels[train], hold)
            fitted.append(learned.logits({k: v[rest] for k, v in three.items()}))
        rows.append(row(f"learned sum, {name}", fitted, labels, folds))
    return rows


def row(name: str, logits: Sequence[np.ndarray], labels: np.ndarray, folds: Sequence) -> dict:
    """Give one system's figures: means over the folds."""
    truth = [labels[rest] for _, rest in folds]
    pairs = list(zip(truth, logits, strict=True))
    return {
        "system": name,
        "macro_map": round(float(np.mean([macro_average_precision(*pair) for pair in pairs])), 4),
        "calibration_error": round(
            float(np.mean([calibration_error(true, expit(one)) for true, one in pairs])), 4
        ),
    }


def out_of_fold(
    fit: Callable, inputs: np.ndarray | list, labels: np.ndarray, folds: Sequence
) -> np.ndarray:
    """Give each poster the logits of a model that was fitted on the other folds."""
    logits = np.empty(labels.shape, np.float32)
    for train, rest in folds:
        logits[rest] = fit(_rows(inputs, train), labels[train])(_rows(inputs, rest))
    return logits


def fit_head(features: np.ndarray, labels: np.ndarray) -> Callable:
    """Train a head for a fixed number of epochs, and give its prediction."""
    keras.utils.set_random_seed(0)
    head = models.build_head(features.shape[1], labels.shape[1])
    epochs = EPOCHS["sentence" if features.shape[1] == encoder.WIDTH else "picture"]
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * -(-len(features) // 128))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4), loss)
    head.fit(features, labels.astype("float32"), 128, epochs, verbose=0)
    return lambda rest: head.predict(rest, verbose=0)


def fit_ngrams(texts: list[str], labels: np.ndarray) -> Callable:
    """Fit the n-grams, and give their prediction."""
    return NgramModel.fit(texts, labels).logits


def picture_features(name: str, data: dataset.Dataset, parts: Sequence, folder: Path) -> np.ndarray:
    """Give frozen features, which a training has left in its cache or which are computed now."""
    size = images.poster_size(272, "portrait")
    cache = pipeline.fill_cache(data.posters["path"].tolist(), size, folder)
    backbone = models.build_model(name, size, data.genres).get_layer("backbone")
    return np.concatenate(
        [training.frozen_features(backbone, name, cache, part["path"].to_numpy()) for part in parts]
    )


def _rows(inputs: np.ndarray | list, rows: np.ndarray) -> np.ndarray | list:
    return [inputs[i] for i in rows] if isinstance(inputs, list) else inputs[rows]


def _height(line: reading.Line) -> float:
    (_, top), (_, right_top), (_, right_bottom), (_, bottom) = line.corners
    return abs(bottom - top) + abs(right_bottom - right_top)


if __name__ == "__main__":
    main()
