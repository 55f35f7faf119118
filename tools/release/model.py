"""Put the released model together: networks from their stages, the sum, thresholds, the report.

    python tools/release/model.py --posters DIR --more DIR --films DIR --off-limits FILE --out DIR

OUT holds `picture.npz`, `text.safetensors` with `text_head.npz`, and `ngrams.npz`, as the other
stages wrote them, and gets the folder `model`. Where there is a `second.npz` too, the logits of
both picture networks are averaged, scaled alike. The sum is fitted, and the thresholds are tuned,
on the validation posters, which no part has learned from.

`--last FOLDER` names parts of the same settings that have learned from the validation posters too
(`--last-fit` of the other stages). They are saved as `FOLDER/model`, with the sum and the
thresholds of those in OUT. With `--test` the public test posters are scored, once, by the model
that was saved last, and the figures stand in its `metrics.json`; without it no test poster is
opened.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

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


def load_pictures(folder: Path) -> list[keras.Model]:
    """Return the networks of pixels of a folder, one or two."""
    files = {PICTURE: folder / "picture.npz", SECOND: folder / "second.npz"}
    return [picture_network(name, file) for name, file in files.items() if file.exists()]


def load_words(folder: Path) -> saved_model.WordsModel:
    """Return what reads the words."""
    return saved_model.WordsModel(text_network(folder), text.NgramModel.load(folder / "ngrams.npz"))


def slope(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return what makes logits calibrated: an asymmetric loss leaves them too close to 0."""
    return float(fusion.fit_fusion({"picture": logits}, labels).weights["picture"][0])


def average(networks: list[keras.Model], factors: list[float]) -> keras.Model:
    """Return the mean of networks whose logits are multiplied by `factors` first."""
    for network, factor in zip(networks, factors, strict=True):
        *body, kernel, bias = network.get_layer("head").get_weights()
        network.get_layer("head").set_weights([*body, kernel * factor, bias * factor])
    return models.average_models(*networks)


def main() -> None:
    """Fit the sum on validation, save, and with `--test` report."""
    parser = arguments(__doc__.splitlines()[0], fits=False)
    parser.add_argument("--last", type=Path, help="folder of the parts of a last fit")
    parser.add_argument("--test", action="store_true", help="score the public test posters")
    options = parser.parse_args()
    data = load(options, last_fit=False)
    labels = targets(data, data.validation)
    networks, words = load_pictures(options.out), load_words(options.out)
    some = texts(data, data.validation)
    has_text = np.array([bool(one) for one in some])
    files = [data.pictures[poster] for poster in data.validation]
    each = [picture_logits(network, files) for network in networks]
    slopes = [slope(one, labels) for one in each]
    factors = [one / slopes[-1] for one in slopes]  # the last network stays as it is
    picture = average(networks, factors)
    parts = {"picture": np.mean([f * one for f, one in zip(factors, each, strict=True)], axis=0)}
    parts |= words.logits(some)
    for name, part in parts.items():
        print(f"{name}: {evaluation.macro_average_precision(labels, part):.4f}")
    reached = cross_validated(
        {name: part[has_text] for name, part in parts.items()}, labels[has_text]
    )
    print(f"sum in five folds: {reached:.4f}")
    fusions = fusion.fit_fusions(parts, labels, has_text)
    scores, _ = fusion.fuse(fusions, parts, has_text)
    thresholds = evaluation.tune_thresholds(labels, scores)
    training = {
        "model": PICTURE,
        "second_model": SECOND if (options.out / "second.npz").exists() else "",
        "image_size": list(SIZE),
        "read_text": True,
        "sample": False,
        "last_fit": bool(options.last),
        "validation_macro_map": round(reached, 4),
    }
    folder = options.out / "model"
    save(folder, picture, words, fusions, thresholds, training | {"last_fit": False}, data)
    what_8_bits_cost(folder, parts, some, data, labels)
    if options.last:
        data, folder = load(options, last_fit=True), options.last / "model"
        picture, words = average(load_pictures(options.last), factors), load_words(options.last)
        save(folder, picture, words, fusions, thresholds, training, data)
    if options.test:
        report(folder, data, read_test(options.posters))


def save(
    folder: Path,
    picture: keras.Model,
    words: saved_model.WordsModel,
    fusions: dict[str, fusion.LogisticFusion],
    thresholds: np.ndarray,
    training: dict[str, Any],
    data: ReleaseData,
) -> None:
    """Save a model, and with it what it has learned from."""
    folder.mkdir(exist_ok=True)
    files = [data.pictures[poster] for poster in data.train]
    counts = {
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
        training | counts,
        training_pictures=files,
        int8=True,
        calibration=calibration_pixels([str(file) for file in files], SIZE),
    )


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
    logits = picture_logits(model.network, test.files, model.image_size)
    words = model.words.logits([text.join_lines(lines) for lines in test.lines])
    return {
        "both": predictor.combine(logits, test.lines)[0],
        "picture alone": predictor.combine(logits, [[]] * len(logits))[0],
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
    saved_model.add_metrics(
        folder, {name: apps.headline(result) for name, result in results.items()}
    )
    print(apps.comparison(results).round(4).to_string())


if __name__ == "__main__":
    main()
