"""From a trained model to files for other programs: ONNX, and LiteRT for phones.

`predict` needs neither: it computes a model folder as it is. The networks of picture and text are
exported, a joint head and n-grams are not. ONNX files have the weights inside. LiteRT files are
written by Keras' own `export`.
"""

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from genre_utils import networks, saved_model
from genre_utils.evaluation import macro_average_precision
from genre_utils.images import PosterError, read_poster, resize_poster
from genre_utils.networks import FORMAT
from genre_utils.predictor import Predictor
from genre_utils.saved_model import PICTURE_FILES, TEXT_FILES, SavedModel, load_model
from genre_utils.support import DataError, naming_full_disks, replacing, sha256_of, write_json

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}

CALIBRATION = 60  # posters; more change no range by much


def export_model(folder: Path, kind: str = "onnx", int8: bool = False) -> list[Path]:
    """Write a model's networks as `.onnx` or `.tflite` into its folder; returns the paths.

    These are the networks of picture and text. A joint head is not exported, nor are the n-grams.
    `kind` is `"onnx"` or `"litert"`. ONNX files have the weights of the folder as they are there;
    LiteRT files have them in half precision, with `int8` those of dense layers and embeddings in 8
    bits. Raises `DataError`.
    """
    if kind not in SUFFIXES:
        raise DataError(f"The format {kind!r} is unknown: give one of {', '.join(SUFFIXES)}.")
    if kind == "litert" and keras.backend.backend() != "tensorflow":
        raise DataError(
            f"Keras runs on {keras.backend.backend()} here, and LiteRT is written from "
            "TensorFlow: set KERAS_BACKEND=tensorflow. A model trained on any backend will do."
        )
    model = load_model(folder)
    parts = {PICTURE_FILES[0]: model.network}
    if model.words:
        parts[TEXT_FILES[0]] = model.words.network
    files = []
    for name, network in parts.items():
        file = (folder / name).with_suffix(SUFFIXES[kind])
        with replacing(file) as temporary:
            if kind == "onnx":
                temporary.write_bytes(networks.to_onnx(folder / name))
            else:
                _write_litert(network, temporary, int8)
        files.append(file)
    return files


def to_int8(folder: Path, calibration: np.ndarray | None = None) -> None:
    """Round the networks of a saved model to 8 bits, in place; see `save_model`.

    Raises `DataError` where `calibration` is missing and convolutions, in 8 bits already, would
    become floats again.
    """
    if calibration is None and networks.read_config(folder / PICTURE_FILES[0])[1]:
        raise DataError(
            f"The convolutions of {folder} are in 8 bits already, for which posters are needed: "
            "give --data DIR."
        )
    model = load_model(folder)
    parts = model.network, model.words, model.fusions, model.genres, model.thresholds
    names = ("metrics", "training_ids", "training_ids_sha256", saved_model.PICTURES)
    kept, training = {name: model.card[name] for name in names}, model.card["training"]
    eight_bits = {"int8": True, "calibration": calibration}
    saved_model.save_model(folder, *parts, [], training, **eight_bits, kept=kept)


def convert_model(folder: Path) -> None:
    """Write a folder of format 2 as one of format 3, in its place.

    Its `.keras` files pass `check_network` before Keras opens them. The metrics stay: half
    precision is what the weights had. Raises `DataError`.
    """
    card = networks.read_json(folder / "model.json")
    if not isinstance(card, dict) or card.get("format") != FORMAT - 1:
        raise DataError(f"{folder} holds no model of format {FORMAT - 1}: nothing to convert.")
    files = card.get("sha256")
    if not isinstance(files, dict):
        raise DataError(f"{folder / 'model.json'} names no files; train the model again.")
    parts, kept, written = {"picture": "model.keras"}, (), PICTURE_FILES
    if "words.keras" in files:
        parts["text"], kept, written = "words.keras", TEXT_FILES[2:], (*PICTURE_FILES, *TEXT_FILES)
    for name in (*parts.values(), *kept):
        networks.check_model_file(folder, name, files)
    keys = [field.name for field in fields(saved_model.Card)]
    card = {saved_model.PICTURES: [], **card, "format": FORMAT}
    card = {key: card.get(key) for key in keys}
    networks.check_card(card, keys, folder)
    with naming_full_disks(folder):
        for part, name in parts.items():
            network = networks.load_network(folder / name)
            networks.save_folder_network(network, folder / f"{part}.json")
        card["sha256"] = {name: sha256_of(folder / name) for name in written}
        write_json(folder / "model.json", card)
    for name in (*parts.values(), "model.onnx", "words.onnx"):
        (folder / name).unlink(missing_ok=True)


def compare(
    before: SavedModel, after: SavedModel, paths: Sequence[str], labels: np.ndarray, cache: Any
) -> str:
    """Score validation posters by two versions of a model, and say how far these differ.

    `labels` are multi-hot `(n, genres)`, `cache` has the posters' words, where they were read. A
    joint head is left out of both where `after` is of LiteRT files, and counts where it is a model
    folder. Raises `DataError` where no poster with a genre of the model can be read.
    """
    if isinstance(after.network, LitertNetwork) and before.words:
        before = replace(before, words=replace(before.words, joint=None))
    scores = []
    for model in (before, after):
        found = list(Predictor(model, None, cache).stream(paths))
        readable = np.array([one.error is None for one in found])
        if not labels[readable].any():
            raise DataError(
                "No validation poster with a genre of the model can be read: nothing is scored."
            )
        scores.append(np.array([one.scores for one in found if one.error is None]))
    was, is_now = (macro_average_precision(labels[readable], one) for one in scores)
    with_text = sum(bool(one.lines) for one in found)
    difference = np.abs(scores[0] - scores[1]).max()
    return (
        f"On {readable.sum()} validation posters, {with_text} of them with words, macro mAP is "
        f"{is_now:.4f}, and {was:.4f} before ({is_now - was:+.4f}); two scores differ by "
        f"{difference:.4f} at most."
    )


def load_exported(folder: Path, kind: str) -> SavedModel:
    """Load a model to compare with: with the `.tflite` files, or as ONNX Runtime computes it.

    The latter has the weights of the `.onnx` files, and the folder's joint head, if it has one.
    """
    if kind == "onnx":
        return load_model(folder, runtime=True)
    model = load_model(folder)
    words = model.words and replace(
        model.words, network=LitertNetwork((folder / TEXT_FILES[0]).with_suffix(".tflite"))
    )
    picture = LitertNetwork((folder / PICTURE_FILES[0]).with_suffix(".tflite"))
    return replace(model, network=picture, words=words)


def calibration_pixels(paths: Sequence[str], image_size: tuple[int, int]) -> np.ndarray:
    """Return posters, uint8 `(n, height, width, 3)`, that show how large feature maps become.

    They are `CALIBRATION` at even distances among `paths`; what cannot be read is left out. Raises
    `DataError` where nothing is left.
    """
    pixels = []
    paths = list(paths)
    for i in np.linspace(0, len(paths) - 1, min(len(paths), CALIBRATION)).astype(int):
        try:
            pixels.append(resize_poster(read_poster(paths[i]), image_size))
        except PosterError:
            continue
    if not pixels:
        raise DataError("None of the training posters can be read: 8 bits need some.")
    return np.stack(pixels)


class LitertNetwork:
    """A `.tflite` file at work in TensorFlow's own interpreter; it is asked as a network is."""

    def __init__(self, file: Path):
        import tensorflow as tf

        self.interpreter = tf.lite.Interpreter(str(file), num_threads=os.cpu_count())
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        self.output_shape = tuple(self.output["shape_signature"])

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Return the logits, float32 `(n, genres)`, of pixels or tokens."""
        self.interpreter.resize_tensor_input(self.input["index"], inputs.shape)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.input["index"], inputs.astype(self.input["dtype"]))
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"])


def _write_litert(network: keras.Model, file: Path, int8: bool) -> None:
    import tensorflow as tf

    settings: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if not int8:
        settings["target_spec"] = {"supported_types": [tf.float16]}
    network.export(str(file), format="litert", verbose=False, **settings)
