"""Train the joint head of a saved model: from the features of picture and words to logits.

    python tools/release/joint.py --posters DIR --more DIR --off-limits FILE --out DIR [--model DIR]

The networks of MODEL, by default the released one, stay as they are, to the byte; its n-grams are
packed anew. The head learns from the posters with words that the networks learned from; the sum is
fitted, and the thresholds are tuned, on the validation posters. OUT gets the folder `joint`. With
`--test` the public test posters are scored, once, and the figures stand in `joint/metrics.json`;
without it no test poster is opened.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
from data import ReleaseData, arguments, load, targets, texts
from model import cross_validated, picture_logits, read_test, report

from genre_utils import evaluation, fusion, models, networks, saved_model
from genre_utils.genres import IMDB_GENRES
from genre_utils.support import sha256_of, short_hash, write_json

EPOCHS, BATCH, RATE = 4, 128, 5e-4
KERNEL_SCALE = 0.4  # times Keras' initial weights, which are too large for 3,832 features


def outputs(
    data: ReleaseData, posters: list[str], model: saved_model.SavedModel, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and features `(n, 24 + features)` of the pictures and of the texts.

    They are kept in the folder, under a name that tells models and posters apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"outputs-{short_hash(json.dumps([model.card['sha256'], posters]))}.npz"
    if not file.exists():
        tokens = networks.tokenize(texts(data, posters), model.words.tokenizer)
        of_text = networks.run_on_words(
            networks.with_features(model.words.network), tokens, saved_model.RUNTIME_TEXTS
        )
        network = networks.with_features(model.network)
        files = [data.pictures[poster] for poster in posters]
        of_picture = picture_logits(network, files, model.image_size)
        np.savez(file, picture=of_picture.astype(np.float32), text=of_text)
    with np.load(file) as found:
        return found["picture"], found["text"]


def fit_head(features: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Train a head on features `(n, features)` of any scale."""
    keras.utils.set_random_seed(0)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-4
    head = models.build_head(features.shape[1], labels.shape[1])
    head.name = "joint"
    kernel, *rest = head.get_weights()
    head.set_weights([KERNEL_SCALE * kernel, *rest])
    steps = EPOCHS * -(-len(features) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), loss)
    head.fit((features - mean) / deviation, labels, BATCH, EPOCHS, verbose=2)
    # The first layer takes the features as they are.
    kernel, bias, *rest = head.get_weights()
    kernel = kernel / deviation[:, None]
    head.set_weights([kernel, bias - mean @ kernel, *rest])
    return head


def main() -> None:
    """Train, fit the sum on validation, save, and with `--test` report."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=saved_model.RELEASED)
    parser.add_argument("--test", action="store_true", help="score the public test posters")
    options = parser.parse_args()
    data = load(options)
    model = saved_model.load_model(options.model, runtime=True)
    count, genres = len(data.validation), len(IMDB_GENRES)
    posters = data.validation + [poster for poster in data.train if data.lines.get(poster)]
    picture, text = outputs(data, posters, model, options.out)
    features = np.hstack([picture[:, genres:], text[:, genres:]])
    head = fit_head(features[count:], targets(data, posters[count:]))

    labels, some = targets(data, data.validation), texts(data, data.validation)
    has_text = np.array([bool(one) for one in some])
    logits = {"picture": picture[:count, :genres].astype(np.float64)}
    logits |= {"sentence": text[:count, :genres], "ngrams": model.words.ngrams.logits(some)}
    logits["joint"] = head.predict_on_batch(features[:count])
    for name, part in logits.items():
        print(f"{name}: {evaluation.macro_average_precision(labels, part):.4f}")
    beside = {name: part[has_text] for name, part in logits.items()}
    reached = cross_validated(beside, labels[has_text])
    del beside["joint"]
    print(f"sum in five folds: {reached:.4f}")
    print(f"... without the joint head: {cross_validated(beside, labels[has_text]):.4f}")

    fusions = fusion.fit_fusions(logits, labels, has_text)
    scores, _ = fusion.fuse(fusions, logits, has_text)
    folder = options.out / "joint"
    shutil.copytree(options.model, folder, dirs_exist_ok=True)
    networks.save_folder_network(head, folder / saved_model.JOINT_FILES[0], int8=True)
    model.words.ngrams.save(folder / saved_model.NGRAMS_FILE)
    card = networks.read_card(folder)
    changed = (*saved_model.JOINT_FILES, saved_model.NGRAMS_FILE)
    card["sha256"] |= {name: sha256_of(folder / name) for name in changed}
    card["sums"] = {name: fusion.to_card(fitted) for name, fitted in fusions.items()}
    thresholds = evaluation.tune_thresholds(labels, scores)
    card |= {"thresholds": [round(float(t), 6) for t in thresholds], "metrics": {}}
    card["training"]["validation_macro_map"] = round(reached, 4)
    write_json(folder / "model.json", card)
    if options.test:
        report(folder, data, read_test(options.posters))


if __name__ == "__main__":
    main()
