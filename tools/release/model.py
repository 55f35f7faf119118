"""Put the released model together: networks from their stages, the sum, thresholds, the report.

    python tools/release/model.py --posters DIR --more DIR --films DIR --off-limits FILE --out DIR

OUT holds `picture.npz`, `text.safetensors` with `text_head.npz`, and `ngrams.npz`, as the other
stages wrote them, and gets the folder `model`. Where there is a `second.npz` too, the logits of
both picture networks are averaged. The sum is fitted, and the thresholds are tuned, on the
validation posters, which no part has learned from. With `--test` the public test posters are
scored, once, and the figures stand in `model/metrics.json`; without it no test poster is opened.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from data import SPLITS, ReleaseData, arguments, load, read_ids, read_lines, targets, texts

from genre_utils import apps, evaluation, fusion, images, models, saved_model, text
from genre_utils.apps.export import calibration_pixels
from genre_utils.genres import IMDB_GENRES, multi_hot
from genre_utils.networks import RuntimeNetwork, build_encoder, set_weights
from genre_utils.ocr import Line
from genre_utils.predictor import Predictor
from genre_utils.sources import parse_genres

PICTURE, SECOND = "efficientnet_lite2", "efficientnet_lite0"
SIZE = images.enlarged(images.poster_size(272, "portrait"))
FOLDS, REPEATS = 5, 4


def picture_network(name: str, file: Path) -> keras.Model:
    """Build a network of pixels with the weights that `picture.py` wrote."""
    network = models.build_model(name, SIZE, IMDB_GENRES)
    with np.load(file) as arrays:
        for layer in network.get_layer("backbone").layers:
            if layer.weights:
                layer.set_weights([arrays[f"{layer.name}/{i}"] for i in range(len(layer.weights))])
        network.get_layer("head").set_weights([arrays[f"head/{i}"] for i in range(4)])
    return network


def text_network(folder: Path) -> keras.Model:
    """Build the text model with the weights that `text.py` wrote."""
    encoder = build_encoder()
    set_weights(encoder, folder / "text.safetensors")
    network = models.build_words_model(encoder, IMDB_GENRES)
    with np.load(folder / "text_head.npz") as arrays:
        network.get_layer("head").set_weights([arrays[f"head/{i}"] for i in range(4)])
    return network


def picture_logits(
    network: keras.Model | RuntimeNetwork, files: list[Path], size: tuple[int, int] = SIZE
) -> np.ndarray:
    """Return the logits of whole posters, `(n, 24)`."""
    parts = []
    for start in range(0, len(files), 16):
        batch = [
            images.resize_poster(images.read_poster(file), size)
            for file in files[start : start + 16]
        ]
        parts.append(np.asarray(network.predict_on_batch(np.stack(batch))))
    return np.concatenate(parts).astype(np.float64)


def cross_validated(logits: dict[str, np.ndarray], labels: np.ndarray) -> float:
    """Return the mean macro mAP of sums fitted on four fifths and scored on the rest."""
    figures = []
    for repeat in range(REPEATS):
        fold = np.random.default_rng(repeat).permutation(len(labels)) % FOLDS
        scores = np.empty(labels.shape)
        for held_out in range(FOLDS):
            rest, here = fold != held_out, fold == held_out
            fitted = fusion.fit_fusion({k: v[rest] for k, v in logits.items()}, labels[rest])
            scores[here] = fitted.scores({k: v[here] for k, v in logits.items()})
        figures.append(evaluation.macro_average_precision(labels, scores))
    return float(np.mean(figures))


def learned_ids(data: ReleaseData) -> list[str]:
    """Return the ids of all posters and films that any part has learned from."""
    return sorted({*data.train, *(film.id for film in data.films if film.id)})


def main() -> None:
    """Fit the sum on validation, save, and with `--test` report."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--test", action="store_true", help="score the public test posters")
    options = parser.parse_args()
    data = load(options)
    labels = targets(data, data.validation)
    picture = picture_network(PICTURE, options.out / "picture.npz")
    second = options.out / "second.npz"
    if second.exists():
        picture = models.average_models(picture, picture_network(SECOND, second))
    network = text_network(options.out)
    words = saved_model.WordsModel(network, text.NgramModel.load(options.out / "ngrams.npz"))
    some = texts(data, data.validation)
    has_text = np.array([bool(one) for one in some])
    logits = {"picture": picture_logits(picture, [data.pictures[p] for p in data.validation])}
    of_text = words.logits(some)
    for name, part in (logits | of_text).items():
        print(f"{name}: {evaluation.macro_average_precision(labels, part):.4f}")
    parts = logits | of_text
    reached = cross_validated(
        {name: part[has_text] for name, part in parts.items()}, labels[has_text]
    )
    print(f"sum in five folds: {reached:.4f}")
    fusions = fusion.fit_fusions(parts, labels, has_text)
    scores, _ = fusion.fuse(fusions, parts, has_text)
    thresholds = evaluation.tune_thresholds(labels, scores)
    folder = options.out / "model"
    folder.mkdir(exist_ok=True)
    training = {
        "model": PICTURE,
        "second_model": SECOND if second.exists() else "",
        "image_size": list(SIZE),
        "read_text": True,
        "sample": False,
        "validation_macro_map": round(reached, 4),
        "posters": len(data.train),
        "with_text": sum(bool(data.lines.get(poster)) for poster in data.train),
        "films": len(data.films),
    }
    saved_model.save_model(
        folder,
        picture,
        words,
        fusions,
        IMDB_GENRES,
        thresholds,
        learned_ids(data),
        training,
        training_pictures=[data.pictures[poster] for poster in data.train],
        int8=True,
        calibration=calibration_pixels([str(data.pictures[p]) for p in data.train], SIZE),
    )
    what_8_bits_cost(folder, parts, some, data, labels)
    if options.test:
        report(folder, data, read_test(options.posters))


def what_8_bits_cost(
    folder: Path,
    logits: dict[str, np.ndarray],
    some: list[str],
    data: ReleaseData,
    labels: np.ndarray,
) -> None:
    """Print by how much the saved model's validation scores differ from those before rounding."""
    model = saved_model.load_model(folder, runtime=True)
    has_text = np.array([bool(one) for one in some])
    rounded = {
        "picture": picture_logits(model.network, [data.pictures[p] for p in data.validation])
    }
    rounded |= model.words.logits(some)
    before, after = (fusion.fuse(model.fusions, each, has_text)[0] for each in (logits, rounded))
    difference = np.abs(before - after)
    figures = [evaluation.macro_average_precision(labels, each) for each in (before, after)]
    print(
        f"8 bits: macro mAP {figures[0]:.4f} before, {figures[1]:.4f} after; scores differ by "
        f"{difference.mean():.4f} on average, {difference.max():.4f} at most"
    )


class TestPosters(NamedTuple):
    """The public test posters: pictures, labels `(n, 24)`, the lines read on each."""

    files: list[Path]
    labels: np.ndarray
    lines: list[list[Line]]


def read_test(posters: Path) -> TestPosters:
    """Read the public test set from the folder of the public data."""
    wanted = read_ids(SPLITS / "imdb_test_ids.txt")
    with open(posters / "train.csv", encoding="utf-8") as file:
        genres = {row["Id"]: row["Genre"] for row in csv.DictReader(file) if row["Id"] in wanted}
    named = [
        [name for name in parse_genres(g) or [] if name in IMDB_GENRES] for g in genres.values()
    ]
    lines = read_lines(posters / "poster_text.jsonl.gz")
    files = [posters / "Images" / f"{poster}.jpg" for poster in genres]
    return TestPosters(files, multi_hot(named, IMDB_GENRES), [lines.get(p, []) for p in genres])


def score(folder: Path, test: TestPosters) -> tuple[dict[str, np.ndarray], Predictor]:
    """Return the scores `(n, 24)` of the model in a folder: both, picture alone, words alone."""
    predictor = Predictor(saved_model.load_model(folder, runtime=True))
    model = predictor.model
    outputs = picture_logits(predictor.network, test.files, model.image_size)
    words = model.words.logits([text.join_lines(lines) for lines in test.lines])
    return {
        "both": predictor.combine(outputs, test.lines)[0],
        "picture alone": predictor.combine(outputs, [[]] * len(outputs))[0],
        "words alone": model.fusions["words"].scores(words),
    }, predictor


def report(folder: Path, data: ReleaseData, test: TestPosters) -> None:
    """Score the public test posters as the train notebook does, and write the figures."""
    scores, predictor = score(folder, test)
    training = predictor.model.card["training"]
    names = " + ".join(filter(None, (training["model"], training["second_model"])))
    systems = {f"{names} and words, test": scores["both"]}
    systems |= {f"{part}, test": scores[part] for part in ("picture alone", "words alone")}
    results = {
        name: evaluation.evaluate(test.labels, one, IMDB_GENRES, predictor.thresholds, True)
        for name, one in systems.items()
    }
    guessed = evaluation.baselines(
        targets(data, data.train).astype(np.int8), test.labels, IMDB_GENRES, True
    )
    results |= {f"{name}, test": result for name, result in guessed.items()}
    metrics = {"sample": False, "settings": training, "results": results}
    metrics["both against picture alone"] = evaluation.paired_bootstrap(
        test.labels, scores["both"], scores["picture alone"]
    )
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    saved_model.add_metrics(folder, results)
    print(apps.comparison(results).round(4).to_string())


if __name__ == "__main__":
    main()
