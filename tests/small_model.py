"""A model of all parts that is made in seconds, with networks that nobody trained."""

from pathlib import Path

import keras
import numpy as np

from genre_utils import models
from genre_utils.fusion import LogisticFusion
from genre_utils.networks import minilm
from genre_utils.saved_model import WordsModel, save_model
from genre_utils.text import NgramModel

GENRES = ("Horror", "Romance", "Western")
TEXTS = ("the night of fear", "love and a night of love", "riders of the west") * 4


def make_small_model(folder: Path) -> Path:
    """Save a model of pictures of 96 × 80 pixels and of words; `folder` is given back."""
    keras.utils.set_random_seed(0)
    labels = np.tile(np.eye(3, dtype=np.int8), (4, 1))
    deep, minilm.LAYERS = minilm.LAYERS, 1
    try:
        words = models.build_words_model(minilm.build_encoder(), GENRES)
    finally:
        minilm.LAYERS = deep
    parts = ("picture", "sentence", "ngrams")
    fusions = {
        "picture": LogisticFusion({"picture": np.ones(3)}, np.zeros(3)),
        "words": LogisticFusion({part: np.ones(3) for part in parts[1:]}, np.zeros(3)),
        "both": LogisticFusion({part: np.ones(3) for part in parts}, np.zeros(3)),
    }
    save_model(
        folder,
        models.build_model("seed_cnn", (96, 80), GENRES),
        WordsModel(words, NgramModel.fit(TEXTS, labels)),
        fusions,
        GENRES,
        np.full(3, 0.5),
        [],
        {"model": "seed_cnn", "sample": True},
    )
    return folder
