"""The folder of a trained model: its networks, and a `model.json` that says all about them.

`model.keras` judges the picture. A model that reads words has three files more: `words.keras` and
`tokenizer.json`, which understand sentences, and `ngrams.npz`, which knows names. `model.onnx` and
`words.onnx` are the same networks as `export` writes them, which need no Keras to compute.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genre_utils import fusion
from genre_utils.fusion import LogisticFusion
from genre_utils.genres import RESERVED
from genre_utils.networks import (
    MAX_WEIGHTS,
    TOKENIZER,
    ModelError,
    RuntimeNetwork,
    check_tokenizer,
    load_network,
    onnx,
    run_on_words,
    tokenize,
)
from genre_utils.sources import normal_id, spellings
from genre_utils.support import naming_full_disks, write_json
from genre_utils.text import NgramModel

if TYPE_CHECKING:  # Keras is imported where it loads or saves: seconds that prediction can spare
    import h5py
    import keras

FORMAT = 2
PICTURE_FILE, WORDS_FILE, NGRAMS_FILE = "model.keras", "words.keras", "ngrams.npz"
TOKENIZER_FILE = "tokenizer.json"
RUNTIME_FILES = {PICTURE_FILE: "model.onnx", WORDS_FILE: "words.onnx"}
# The only files that are ever opened: whatever else lies in a folder, or is named by its card, is
# not loaded.
READING_FILES = (WORDS_FILE, NGRAMS_FILE, TOKENIZER_FILE)
KNOWN_FILES = (PICTURE_FILE, *READING_FILES, *RUNTIME_FILES.values())
RELEASED = Path(__file__).parent / "released"
TEXTS, RUNTIME_TEXTS = 64, 8  # that the words' network sees at once
PICTURES = "training_pictures"
MAX_SIDE = 2048  # pixels; a training allows 1024 across

# Left out of a network's config: the losses and optimizers of its parts, and what Keras writes
# since 3.14, at its default in all networks of ours; Colab and Kaggle have 3.13, which refuses it.
LEFT_OUT = (
    "compile_config",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
    "input_axes",
    "output_axes",
    "use_gate",
    "sliding_window",
)


@dataclass(frozen=True)
class WordsModel:
    """The two towers of the words: a network on a sentence encoder, and the n-grams."""

    network: keras.Model | RuntimeNetwork
    ngrams: NgramModel
    tokenizer: Path = TOKENIZER

    def logits(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Give each tower's logits `(n, genres)` for some posters' texts."""
        tokens = tokenize(texts, self.tokenizer)
        # Sorted by length, few texts need little filling up; Keras compiles for each size anew.
        batch = RUNTIME_TEXTS if isinstance(self.network, RuntimeNetwork) else TEXTS
        return {
            "sentence": run_on_words(self.network, tokens, batch),
            "ngrams": self.ngrams.logits(texts),
        }


@dataclass(frozen=True)
class SavedModel:
    """Networks with what is needed to use them, and `card`, the whole content of `model.json`.

    `words` is `None` in a model of the picture alone. `sums` turns the towers' logits into
    calibrated ones: `sums["picture"]` of the picture alone, `sums["both"]` with the words.
    """

    network: keras.Model | RuntimeNetwork
    words: WordsModel | None
    sums: dict[str, LogisticFusion]
    genres: tuple[str, ...]
    thresholds: np.ndarray
    image_size: tuple[int, int]
    card: dict[str, Any]

    def was_trained_on(self, ids: Iterable[str], paths: Iterable[str | Path] = ()) -> list[str]:
        """Return those of the ids that were in the training set, in any spelling.

        With `paths`, one an id, a training picture is known by its bytes, too, if `knows_pictures`.
        """
        known, pictures = set(self.card["training_ids"]), set(self.card.get(PICTURES, ()))
        return [
            poster
            for poster, path in zip_longest(ids, paths)
            if not known.isdisjoint(map(_short_hash, spellings(poster)))
            or (pictures and path is not None and _picture_hash(path) in pictures)
        ]

    @property
    def knows_pictures(self) -> bool:
        """Whether the card lists the training pictures' hashes; those of older models do not."""
        return bool(self.card.get(PICTURES))


def save_model(
    folder: Path,
    network: keras.Model,
    words: WordsModel | None,
    sums: Mapping[str, LogisticFusion],
    genres: Sequence[str],
    thresholds: Sequence[float],
    training_ids: Iterable[str],
    training: dict[str, Any],
    training_pictures: Iterable[str | Path] = (),
) -> None:
    """Write a model folder; weights are rounded to half precision.

    `thresholds` are scores from 0 to 1, one a genre. `training` says how it was trained and goes
    into the card as it is. `training_pictures` are the training posters' files, or their SHA-256
    sums: by them `evaluate` knows a poster under another id. All is written aside first: an older
    model in the folder stays whole when the disk is full. `model.json` comes last; a process killed
    just before leaves files that contradict an older card, which `load_model` says.
    """
    training_ids = list(training_ids)
    pictures = sorted({_picture_hash(picture) for picture in training_pictures})
    aside = folder / ".saving"
    shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
    aside.mkdir(parents=True)
    try:
        with naming_full_disks(folder):
            _save_network(network, aside / PICTURE_FILE)
            if words:
                _save_network(words.network, aside / WORDS_FILE)
                words.ngrams.save(aside / NGRAMS_FILE)
                shutil.copyfile(words.tokenizer, aside / TOKENIZER_FILE)
        files = [file.replace(folder / file.name) for file in sorted(aside.iterdir())]
        for name in RUNTIME_FILES.values():  # of the model that was here before
            (folder / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    card = {
        "format": FORMAT,
        "genres": list(genres),
        "thresholds": [round(float(t), 6) for t in thresholds],
        "image_size": list(network.input_shape[1:3]),
        "sums": {name: fusion.to_card(fitted) for name, fitted in sums.items()},
        "training": training,
        "metrics": {},
        "sha256": {file.name: sha256_of(file) for file in files},
        "training_ids_sha256": _hash("\n".join(sorted(training_ids))),
        "training_ids": sorted(_short_hash(normal_id(poster)) for poster in training_ids),
    }
    if pictures:
        card[PICTURES] = pictures
    write_json(folder / "model.json", card)


def add_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the figures measured with a saved model into its card."""
    card = read_card(folder)
    write_json(folder / "model.json", {**card, "metrics": metrics})


def read_card(folder: Path) -> dict[str, Any]:
    """Read `model.json`; raises `ModelError` when it is missing, damaged or too new."""
    file = folder / "model.json"
    if folder.is_file():
        raise ModelError(
            f"{folder} is a file, and a model is a folder with a model.json: give the OUTPUT_DIR "
            "of a finished training. Models of other kinds (.h5, .keras, pickles) are not loaded."
        )
    if not file.is_file():
        raise ModelError(
            f"{folder} holds no trained model (no model.json). Give the OUTPUT_DIR of a finished "
            "training, or leave --model out to use the released model."
        )
    try:
        card = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{file} cannot be read ({error}); train or copy the model again."
        ) from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(
            f"{file} does not say that it has format {FORMAT}, the one this version reads. "
            "Update poster-genres or train the model again."
        )
    return card


def load_model(
    folder: Path = RELEASED, with_words: bool = True, runtime: bool = False
) -> SavedModel:
    """Load a model folder, by default the released one; without its words it loads faster.

    With `runtime` the networks are those of ONNX Runtime, if the folder has them; else Keras'.
    Raises `ModelError` when a file is missing, or is not the one that `model.json` was written
    for. Only Keras' own layers are loaded; nothing in the file is executed.
    """
    folder = Path(folder)
    card = read_card(folder)
    files = card.get("sha256")
    if not isinstance(files, dict):
        raise ModelError(f"{folder / 'model.json'} names no files; train the model again.")
    for name in (PICTURE_FILE, *(READING_FILES if WORDS_FILE in files else ())):
        if name not in files:
            raise ModelError(f"{folder / 'model.json'} names no {name}; train the model again.")
    if strange := sorted(set(files) - set(KNOWN_FILES)):
        raise ModelError(f"{folder / 'model.json'} names a file that no model has: {strange[0]!r}.")
    with_words = with_words and WORDS_FILE in files
    used = _used_files(files, with_words, runtime)
    for name in used.values():
        _check_file(folder, name, files)
    _check_card(card, folder)
    network = _load_network(folder / used[PICTURE_FILE])
    words = None
    try:
        if with_words:
            words = WordsModel(
                _load_network(folder / used[WORDS_FILE]),
                NgramModel.load(folder / NGRAMS_FILE),
                folder / TOKENIZER_FILE,
            )
            check_tokenizer(words.tokenizer)
        genres, size = tuple(card["genres"]), tuple(card["image_size"])
        sums = {name: fusion.from_card(fitted, genres) for name, fitted in card["sums"].items()}
        outputs = [network.output_shape[-1], len(card["thresholds"])]
        if words:
            outputs += [words.network.output_shape[-1], len(words.ngrams.bias)]
        towers = {"picture", *(("sentence", "ngrams") if words else ())}
        agree = set(outputs) == {len(genres)} and tuple(network.input_shape[1:3]) == size
        agree = agree and set(sums["picture"].weights) == {"picture"}
        agree = agree and (not words or set(sums["both"].weights) == towers)
    except ModelError:
        raise
    except Exception as error:  # NumPy, tokenizers and plain lists each have their own
        raise ModelError(
            f"{folder} holds a model that cannot be understood ({str(error)[:200]}): copy the "
            "whole folder again, or train the model again."
        ) from None
    if not agree:
        raise ModelError(f"{folder / 'model.json'} and the files beside it contradict each other.")
    return SavedModel(network, words, sums, genres, np.asarray(card["thresholds"]), size, card)


def _check_card(card: dict[str, Any], folder: Path) -> None:
    """Check what the card says by itself, before a network is built."""
    try:
        genres, thresholds = card["genres"], np.asarray(card["thresholds"], float)
        sums = [fusion.from_card(fitted, genres) for fitted in card["sums"].values()]
        sides = [side for side in card["image_size"] if 1 <= side <= MAX_SIDE]
        sound = len(set(genres)) == len(genres) == len(thresholds) and len(sides) == 2
        sound = sound and all(isinstance(genre, str) and genre for genre in genres)
        sound = sound and "picture" in card["sums"]
        sound = sound and ((thresholds >= 0) & (thresholds <= 1)).all()
        for fitted in sums:
            sound = sound and np.isfinite([fitted.bias, *fitted.weights.values()]).all()
        sound = sound and all(isinstance(poster, str) for poster in card["training_ids"])
        sound = sound and all(isinstance(picture, str) for picture in card.get(PICTURES, []))
        sound = sound and not set(genres) & set(RESERVED)
        figures = card["metrics"]
        sound = sound and isinstance(card["training"], dict) and isinstance(figures, dict)
        sound = sound and all(isinstance(measured, dict) for measured in figures.values())
    except Exception as error:
        raise ModelError(
            f"{folder / 'model.json'} cannot be understood ({str(error)[:200]}): copy the whole "
            "folder again, or train the model again."
        ) from None
    if not sound:
        raise ModelError(
            f"{folder / 'model.json'} contradicts itself: its genres, thresholds, sums or sizes do "
            "not fit each other. Copy the whole folder again."
        )


def _used_files(files: Mapping[str, str], with_words: bool, fast: bool) -> dict[str, str]:
    """Give the file that is loaded for each part: all networks' ONNX files, or none."""
    networks = (PICTURE_FILE, WORDS_FILE) if with_words else (PICTURE_FILE,)
    used = {name: RUNTIME_FILES[name] for name in networks}
    if not (fast and set(used.values()) <= set(files) and onnx.available()):
        used = {name: name for name in networks}
    if with_words:
        used |= {name: name for name in (NGRAMS_FILE, TOKENIZER_FILE)}
    return used


def _check_file(folder: Path, name: str, files: Mapping[str, str]) -> None:
    file = folder / name
    if name not in files or not file.is_file():
        raise ModelError(f"{file} is missing; copy the whole model folder, or train again.")
    if file.stat().st_size > MAX_WEIGHTS:
        raise ModelError(f"{file} is larger than any file of this project: it is not loaded.")
    if sha256_of(file) != files[name]:
        raise ModelError(
            f"{file} is not the file that model.json was written for (its SHA-256 differs): it is "
            "damaged or from another training. Copy the whole model folder again."
        )


def _save_network(network: keras.Model, file: Path) -> None:
    network.save(file)
    file.write_bytes(_rewrite_archive(file.read_bytes()))


def _load_network(file: Path) -> keras.Model | RuntimeNetwork:
    if file.suffix == ".keras":
        return load_network(file)
    try:
        return RuntimeNetwork(file)
    except Exception as error:  # ONNX Runtime has a dozen kinds of its own
        raise ModelError(
            f"{file} cannot be loaded by ONNX Runtime ({str(error)[:200]}). Update onnxruntime, or "
            "export the model again."
        ) from None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _short_hash(poster: str) -> str:
    # 48 bits: among 10,000 posters two collide with a chance of 2 in 10 million.
    return _hash(poster)[:12]


def _picture_hash(picture: str | Path) -> str:
    is_hash = isinstance(picture, str) and re.fullmatch("[0-9a-f]{12,64}", picture)
    return (picture if is_hash else sha256_of(Path(picture)))[:12]


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, as `model.json` names it."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _rewrite_archive(content: bytes) -> bytes:
    """Make a `.keras` file a fraction as large, and readable by older versions of Keras 3."""
    rewritten = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(rewritten, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(".h5"):
                data = _halve_weights(data)
            elif entry.filename == "config.json":
                data = json.dumps(_leave_out(json.loads(data))).encode()
            new.writestr(entry, data)
    return rewritten.getvalue()


def _leave_out(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: _leave_out(v) for k, v in config.items() if k not in LEFT_OUT}
    if isinstance(config, list):
        return [_leave_out(value) for value in config]
    # Trained in half precision on an accelerator, a model computes in full precision anywhere.
    return "float32" if config == "mixed_bfloat16" else config


def _halve_weights(content: bytes) -> bytes:
    """Round the weights in an HDF5 file to float16, which Keras widens, without optimizers."""
    import h5py

    halved = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as old, h5py.File(halved, "w") as new:
        new.attrs.update(old.attrs)

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if "optimizer" in name.split("/"):
                return
            if isinstance(item, h5py.Group):
                twin = new.require_group(name)
            else:
                half = np.float16 if item.dtype == np.float32 else item.dtype
                twin = new.create_dataset(name, data=item[()].astype(half))
            twin.attrs.update(item.attrs)

        old.visititems(copy)
    return halved.getvalue()
