"""The folder of a trained model: its networks' files, and `model.json`, its card.

`picture.json` is the Keras config of the network of pictures, and `picture.safetensors` its
weights, plain arrays by name. A model that reads text has `text.json` and `text.safetensors`, a
network on a sentence encoder, its `tokenizer.json`, and `ngrams.npz`, the n-gram model; it may have
`joint.json` and `joint.safetensors`, a head on the features of both networks. Keras and ONNX
Runtime both compute a network from these files.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genre_utils import fusion, networks
from genre_utils.fusion import LogisticFusion
from genre_utils.sources import distinct_ids, spellings
from genre_utils.support import (
    DataError,
    naming_full_disks,
    picture_hash,
    sha256_of,
    short_hash,
    write_json,
)
from genre_utils.text import NgramModel

if TYPE_CHECKING:  # importing Keras takes seconds, which a prediction can spare
    import keras

PICTURE_FILES = ("picture.json", "picture.safetensors")
NGRAMS_FILE, TOKENIZER_FILE = "ngrams.npz", "tokenizer.json"
TEXT_FILES = ("text.json", "text.safetensors", NGRAMS_FILE, TOKENIZER_FILE)
JOINT_FILES = ("joint.json", "joint.safetensors")
# The only files of a folder that are ever opened, whatever its card names.
KNOWN_FILES = (*PICTURE_FILES, *TEXT_FILES, *JOINT_FILES)
RELEASED = Path(__file__).parent / "released"
TEXTS, RUNTIME_TEXTS = 64, 8  # a batch of the text network, by Keras and by ONNX Runtime
PICTURES = "training_pictures"


@dataclass(frozen=True)
class Card:
    """The content of `model.json`."""

    format: int  # 3
    genres: list[str]  # in the order of every network's outputs
    thresholds: list[float]  # the score from which a genre is assigned, 0 to 1, one a genre
    image_size: list[int]  # height and width in pixels that the picture network takes
    # By "picture", "words" (each alone), "both" and "joint": weights by part and a bias, by genre.
    sums: dict[str, dict[str, Any]]
    training: dict[str, Any]  # how it was trained, as the notebook wrote it
    metrics: dict[str, dict[str, Any]]  # by system and split, of all genres together
    sha256: dict[str, str]  # of each file beside this one
    training_ids_sha256: str  # of all training posters' ids, sorted, a line each
    training_ids: list[str]  # the first 12 digits of the SHA-256 of each
    training_pictures: list[str]  # the same of the posters' files; empty if they are not known


@dataclass(frozen=True)
class WordsModel:
    """The two models of the text: a network on a sentence encoder, and the n-grams.

    `joint`, if there is one, is a head that maps the features of the picture's network and, behind
    them, of the text's, to logits.
    """

    network: keras.Model | networks.RuntimeNetwork
    ngrams: NgramModel
    tokenizer: Path = networks.TOKENIZER
    joint: keras.Model | networks.RuntimeNetwork | None = None

    @cached_property
    def network_with_features(self) -> keras.Model | networks.RuntimeNetwork:
        """The network with its features behind the logits, where a joint head needs them."""
        return networks.with_features(self.network) if self.joint else self.network

    def logits(
        self, texts: Sequence[str], features: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return each part's logits, float32 `(n, genres)`, for some posters' texts.

        The joint head predicts where the picture's `features`, `(n, features)`, are given.
        """
        tokens, genres = networks.tokenize(texts, self.tokenizer), len(self.ngrams.bias)
        # Few texts of like length need little padding; but Keras compiles anew for each size.
        batch = RUNTIME_TEXTS if isinstance(self.network, networks.RuntimeNetwork) else TEXTS
        outputs = networks.run_on_words(self.network_with_features, tokens, batch)
        parts = {"sentence": outputs[:, :genres], "ngrams": self.ngrams.logits(texts)}
        if self.joint and features is not None and features.shape[1]:  # an exported one has none
            of_both = np.hstack([features, outputs[:, genres:]])
            parts["joint"] = np.asarray(self.joint.predict_on_batch(of_both))[: len(texts)]
        return parts


@dataclass(frozen=True)
class SavedModel:
    """A loaded model folder: networks, and what turns their logits into scores.

    `network` maps RGB `(n, *image_size, 3)`, 0–255, to logits `(n, len(genres))`; `image_size` is
    (height, width) in pixels. `words` is `None` in a model of the picture alone. `fusions` turn
    logits into scores: `"picture"` the picture's alone, `"words"` the text's alone, `"both"` those
    of picture and text, and `"joint"` those of the joint head as well. `thresholds`, float
    `(len(genres),)`, are the scores, 0 to 1, from which a genre is assigned. `card` is the content
    of `model.json`, as a dict.
    """

    network: keras.Model | networks.RuntimeNetwork
    words: WordsModel | None
    fusions: dict[str, LogisticFusion]
    genres: tuple[str, ...]
    thresholds: np.ndarray
    image_size: tuple[int, int]
    card: dict[str, Any]

    def was_trained_on(self, ids: Iterable[str], paths: Iterable[str | Path] = ()) -> list[str]:
        """Return those of the ids that were in the training set, in any spelling.

        With `paths`, one an id, training pictures are known by their bytes, too, where the
        card has these.
        """
        known, pictures = set(self.card["training_ids"]), set(self.card[PICTURES])
        return [
            poster
            for poster, path in zip_longest(ids, paths)
            if not known.isdisjoint(map(short_hash, spellings(poster)))
            or (pictures and path is not None and _is_among(pictures, path))
        ]


def _is_among(pictures: set[str], path: str | Path) -> bool:
    with suppress(OSError):  # who reads the picture says what is wrong with it
        return picture_hash(path) in pictures
    return False


def save_model(
    folder: Path,
    network: keras.Model,
    words: WordsModel | None,
    fusions: Mapping[str, LogisticFusion],
    genres: Sequence[str],
    thresholds: Sequence[float],
    training_ids: Iterable[str],
    training: dict[str, Any],
    training_pictures: Iterable[str | Path] = (),
    started_from: Mapping[str, Any] | None = None,
    int8: bool = False,
    calibration: np.ndarray | None = None,
    kept: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder; weights are rounded to half precision, or with `int8` to 8 bits.

    `thresholds` are scores from 0 to 1, one a genre. `training`, how it was trained, goes into the
    card, with the number of its posters. `training_pictures` are the training posters' files, or
    their SHA-256 sums, by which a poster is recognised under another id. `started_from` is the card
    of a model whose parts this one began with: its training posters count as this one's. With
    `int8`, `calibration` are pixels of some 60 posters `(n, height, width, 3)`; with them
    convolutions get 8 bits, too.
    `kept` are entries of the card that stay as they were in an older one.
    Raises `DataError` for layers that are not of Keras itself, `OSError` when the disk is full.

    All files are first written to a folder aside: an older model stays when the disk is full.
    `model.json` is written last. A process killed just before it leaves files that contradict an
    older card, and `load_model` says so.
    """
    training_ids = list(training_ids)
    pictures = sorted({picture_hash(picture) for picture in training_pictures})
    aside = folder / ".saving"
    shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
    aside.mkdir(parents=True)
    try:
        with naming_full_disks(folder):
            networks.save_folder_network(network, aside / PICTURE_FILES[0], int8, calibration)
            if words:
                networks.save_folder_network(words.network, aside / TEXT_FILES[0], int8)
                words.ngrams.save(aside / NGRAMS_FILE)
                shutil.copyfile(words.tokenizer, aside / TOKENIZER_FILE)
                if words.joint:
                    networks.save_folder_network(words.joint, aside / JOINT_FILES[0], int8)
        files = [file.replace(folder / file.name) for file in sorted(aside.iterdir())]
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    hashed = {short_hash(poster) for poster in distinct_ids(training_ids)}
    if hashed:
        training = {"posters": len(hashed)} | training
    if started_from:
        hashed |= set(started_from["training_ids"])
        pictures = sorted({*pictures, *started_from[PICTURES]})
    card = Card(
        format=networks.FORMAT,
        genres=list(genres),
        thresholds=[round(float(t), 6) for t in thresholds],
        image_size=list(network.input_shape[1:3]),
        sums={name: fusion.to_card(fitted) for name, fitted in fusions.items()},
        training=training,
        metrics={},
        sha256={file.name: sha256_of(file) for file in files},
        training_ids_sha256=hashlib.sha256("\n".join(sorted(training_ids)).encode()).hexdigest(),
        training_ids=sorted(hashed),
        training_pictures=pictures,
    )
    write_json(folder / "model.json", asdict(card) | (kept or {}))


def add_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write metrics into the card of a saved model, without those of each genre.

    `metrics` has, by system and split, what `evaluate` returned.
    """
    short = {
        system: {key: value for key, value in result.items() if key != "per_genre"}
        for system, result in metrics.items()
    }
    write_json(folder / "model.json", networks.read_card(folder) | {"metrics": short})


def reads_text(folder: Path) -> bool:
    """Say whether a model folder's card names the files of a text model; raises `DataError`."""
    return not set(networks.read_card(folder)["sha256"]).isdisjoint(TEXT_FILES)


def check_files(folder: Path, card: dict[str, Any], has_text: bool = True) -> list[str]:
    """Return the names of the files that a model is loaded from, by what its card says of them.

    Raises `DataError` when one is missing, or is not the one that the card was written for.
    """
    known = set(card["sha256"])
    if strange := sorted(known - set(KNOWN_FILES)):
        raise DataError(f"{folder / 'model.json'} names a file that no model has: {strange[0]!r}.")
    parts = (TEXT_FILES, JOINT_FILES) if has_text and not known.isdisjoint(TEXT_FILES) else ()
    needed = [*PICTURE_FILES, *(name for part in parts if known & set(part) for name in part)]
    for name in needed:
        networks.check_model_file(folder, name, card["sha256"])
    return needed


def load_model(folder: Path = RELEASED, has_text: bool = True, runtime: bool = False) -> SavedModel:
    """Load a model folder, by default the released one; without `has_text` only the picture's part.

    With `runtime` ONNX Runtime computes the networks if it has all their layers; else Keras does.
    Of a model in 8 bits it rounds the feature maps, too. Keras does not, and a score differs by a
    few hundredths.
    Raises `DataError` when a file is missing, or is not the one that `model.json` was written
    for. Only Keras' own layers are loaded; nothing in a file is executed.
    """
    folder = Path(folder)
    card = networks.read_card(folder)
    files = check_files(folder, card, has_text)
    has_text, joint = (not set(files).isdisjoint(part) for part in (TEXT_FILES, JOINT_FILES))
    networks.check_card(card, [field.name for field in fields(Card)], folder)
    network, words = networks.load_folder_network(folder / PICTURE_FILES[0], runtime), None
    if has_text:
        sentence = networks.load_folder_network(folder / TEXT_FILES[0], runtime)
        head = networks.load_folder_network(folder / JOINT_FILES[0], runtime) if joint else None
    damage = "holds a model that cannot be understood"
    # NumPy, tokenizers and lists each raise their own kinds.
    with networks.naming(folder, damage, "Copy the whole folder again, or train the model again."):
        if has_text:
            ngrams = NgramModel.load(folder / NGRAMS_FILE)
            words = WordsModel(sentence, ngrams, folder / TOKENIZER_FILE, head)
            networks.check_tokenizer(words.tokenizer)
        genres, size = tuple(card["genres"]), tuple(card["image_size"])
        thresholds = np.asarray(card["thresholds"], float)
        fusions = {key: fusion.from_card(one) for key, one in card["sums"].items()}
        outputs = [network.output_shape[-1], len(thresholds)]
        parts = {"picture": {"picture"}}  # of each sum
        if words:
            outputs += [words.network.output_shape[-1], len(words.ngrams.bias)]
            parts |= {"words": {"sentence", "ngrams"}, "both": {"picture", "sentence", "ngrams"}}
        if joint:
            outputs += [words.joint.output_shape[-1]]
            parts["joint"] = {*parts["both"], "joint"}
        agree = set(outputs) == {len(genres)} and tuple(network.input_shape[1:3]) == size
        agree = agree and all(set(fusions[key].weights) == some for key, some in parts.items())
        agree = agree and (not words or bool(joint) == ("joint" in fusions))
        if joint:
            both = networks.with_features(network), words.network_with_features
            width = sum(one.output_shape[-1] - len(genres) for one in both)
            agree = agree and words.joint.input_shape[-1] == width
    if not agree:
        raise DataError(f"{folder / 'model.json'} and the files beside it contradict each other.")
    return SavedModel(network, words, fusions, genres, thresholds, size, card)
