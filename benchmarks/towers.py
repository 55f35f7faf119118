"""What is each tower worth, and how are they best added? Five folds of the cheap parts.

    python benchmarks/towers.py [--cache outputs/released/cache] [--words outputs/words.jsonl]

Needs the real posters and their words; uses those that are neither test nor unlabelled. In each
fold heads on frozen features (pictures: EfficientNet-Lite2 and -Lite0 at 400 × 272; sentences:
MiniLM's vectors, lines from top to bottom) and the n-grams learn from the other four, so that every
poster has logits of towers that never saw it. Learned sums are fitted on the other folds' logits.
The figures are means over the folds of macro mAP (genres with at least 5 positives in the fold) and
the calibration error. Writes `benchmarks/results/towers.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import measure
import numpy as np
from scipy.special import expit

from genre_utils import batches, dataset, images, models, networks, ocr, sources, training
from genre_utils.evaluation import calibration_error, macro_average_precision
from genre_utils.fusion import ALL_SHARE, fit_fusion
from genre_utils.text import fit_ngrams, join_lines, segment_words

PICTURES = ("efficientnet_lite2", "efficientnet_lite0")


def main() -> None:
    """Compute every tower's out-of-fold logits and score the ways of adding them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("outputs/released/cache"))
    parser.add_argument("--words", type=Path, default=ocr.WORDS_FILE)
    options = parser.parse_args()
    data = dataset.load_dataset(sources.find_data())
    parts = [data.part(split) for split in ("train", "validation")]
    paths = [path for part in parts for path in part["path"]]
    labels = np.concatenate([data.labels(part) for part in parts])
    towers, seconds = {}, {}

    def add(name: str, fit: Callable, inputs: np.ndarray | list) -> None:
        start = time.perf_counter()
        towers[name] = training.out_of_fold(fit, inputs, labels)
        seconds[name] = round(time.perf_counter() - start)
        print(f"{name}: {seconds[name]} s", flush=True)

    for name in PICTURES:
        add(name, training.unwatched_head, picture_features(name, data, parts, options.cache))
    lines = ocr.read_posters(paths, ocr.WordCache(options.words)).lines
    found = [lines.get(path, []) for path in paths]
    texts = [segment_words(" ".join(line.text for line in one)) for one in found]
    network, how = networks.load_encoder()
    print(how)
    vectors = networks.run_on_words(network, networks.tokenize(texts))
    add("sentence", training.unwatched_head, vectors)
    add("n-grams", fit_ngrams, texts)
    add("n-grams, largest line first", fit_ngrams, [join_lines(one) for one in found])
    systems = score_all(towers, labels)
    measure.save("towers", {"posters": len(labels), "systems": systems, "seconds": seconds})


def score_all(towers: dict, labels: np.ndarray) -> list[dict]:
    """Score each tower alone, plain sums, and learned sums with a stronger or weaker hold."""
    eyes = sum(towers[name] for name in PICTURES) / len(PICTURES)
    three = {"picture": eyes, "sentence": towers["sentence"], "ngrams": towers["n-grams"]}
    plain = eyes + 0.7 * towers["sentence"] + 0.4 * towers["n-grams"]
    systems = {name: logits for name, logits in towers.items()}
    systems["both pictures, mean"] = eyes
    systems["picture + 0.7 sentence + 0.4 n-grams"] = plain
    rows = [
        row(name, [logits[rest] for rest in training.folds(len(labels))], labels)
        for name, logits in systems.items()
    ]
    for name, hold in (("shared weights", ALL_SHARE), *((f"hold {h}", h) for h in (100, 20, 5))):
        fitted = []
        for rest in training.folds(len(labels)):
            known = {tower: logits[~rest] for tower, logits in three.items()}
            learned = fit_fusion(known, labels[~rest], hold)
            fitted.append(learned.logits({tower: logits[rest] for tower, logits in three.items()}))
        rows.append(row(f"learned sum, {name}", fitted, labels))
    return rows


def row(name: str, logits: Sequence[np.ndarray], labels: np.ndarray) -> dict:
    """Give one system's figures: means over the folds."""
    truth = [labels[rest] for rest in training.folds(len(labels))]
    pairs = list(zip(truth, logits, strict=True))
    return {
        "system": name,
        "macro_map": round(float(np.mean([macro_average_precision(*pair) for pair in pairs])), 4),
        "calibration_error": round(
            float(np.mean([calibration_error(true, expit(one)) for true, one in pairs])), 4
        ),
    }


def picture_features(name: str, data: dataset.Dataset, parts: Sequence, folder: Path) -> np.ndarray:
    """Give frozen features, which a training has left in its cache or which are computed now."""
    size = images.poster_size(272, "portrait")
    cache = batches.fill_cache(data.posters["path"].tolist(), size, folder)
    backbone = models.build_model(name, size, data.genres).get_layer("backbone")
    return np.concatenate(
        [training.frozen_features(backbone, name, cache, part["path"].to_numpy()) for part in parts]
    )


if __name__ == "__main__":
    main()
