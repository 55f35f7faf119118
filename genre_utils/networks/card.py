"""A model folder's `model.json` and its files, checked before they are used."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genre_utils.genres import RESERVED
from genre_utils.networks.arrays import MAX_WEIGHTS, naming
from genre_utils.support import DataError, sha256_of

FORMAT = 3
MAX_SIDE = 2048  # pixels; a training allows 1024 across


def read_card(folder: Path) -> dict[str, Any]:
    """Read `model.json`, whose keys `saved_model.Card` explains.

    Raises `DataError` when it is missing, damaged or of another format.
    """
    file = folder / "model.json"
    if folder.is_file():
        raise DataError(
            f"{folder} is a file, and a model is a folder with a model.json: give the OUTPUT_DIR "
            "of a finished training. Models of other kinds (.h5, .keras, pickles) are not loaded."
        )
    if not file.is_file():
        raise DataError(
            f"{folder} holds no trained model (no model.json). Give the OUTPUT_DIR of a finished "
            "training, or none to use the released model."
        )
    card = read_json(file)
    if isinstance(card, dict) and card.get("format") == FORMAT - 1:
        raise DataError(
            f"{folder} has format {FORMAT - 1}, of the version before. Convert it once: "
            f"poster-genres export --convert {folder}"
        )
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(
            f"{file} does not say that it has format {FORMAT}, the one this version reads. "
            "Update poster-genres or train the model again."
        )
    if not isinstance(card.get("sha256"), dict):
        raise DataError(f"{file} names no files; train the model again.")
    return card


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; raises `DataError` when it cannot be read."""
    with naming(file, "cannot be read", "Train or copy the model again."):
        return json.loads(file.read_text("utf-8"))


def check_card(card: Mapping[str, Any], keys: Sequence[str], folder: Path) -> None:
    """Raise `DataError` where a card lacks one of `keys` or contradicts itself.

    This is what can be said of it before a network is built.
    """
    file = folder / "model.json"
    with naming(file, "cannot be understood", "Copy the whole folder again, or train it again."):
        genres, thresholds = card["genres"], np.asarray(card["thresholds"], float)
        sides = [s for s in card["image_size"] if isinstance(s, int) and 1 <= s <= MAX_SIDE]
        sums = [
            np.asarray([fitted["bias"], *fitted["weights"].values()], float)
            for fitted in card["sums"].values()
        ]
        named = [*genres, *card["training_ids"], *card["training_pictures"]]
        mappings = card["training"], card["metrics"], *card["metrics"].values()
        sound = (
            set(card) >= set(keys)
            and len(set(genres)) == len(genres) == len(thresholds)
            and len(sides) == 2
            and all(genres)
            and all(isinstance(threshold, float | int) for threshold in card["thresholds"])
            and not set(genres) & set(RESERVED)
            and all(isinstance(name, str) for name in named)
            and "picture" in card["sums"]
            and ((thresholds >= 0) & (thresholds <= 1)).all()
            and all(table.shape[1:] == (len(genres),) for table in sums)
            and all(np.isfinite(table).all() for table in sums)
            and all(isinstance(mapping, dict) for mapping in mappings)
        )
    if not sound:
        raise DataError(
            f"{file} contradicts itself: its genres, thresholds, sums or sizes do "
            "not fit each other. Copy the whole folder again."
        )


def check_model_file(folder: Path, name: str, files: Mapping[str, str]) -> None:
    """Raise `DataError` unless a file is there, and is the one whose sum `files` names."""
    file = folder / name
    if name not in files or not file.is_file():
        raise DataError(f"{file} is missing; copy the whole model folder, or train again.")
    if file.stat().st_size > MAX_WEIGHTS:
        raise DataError(f"{file} is larger than any file of this project: it is not loaded.")
    if sha256_of(file) != files[name]:
        raise DataError(
            f"{file} is not the file that model.json was written for (its SHA-256 differs): it is "
            "damaged or from another training. Copy the whole model folder again."
        )
