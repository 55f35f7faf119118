from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from genre_utils import models, networks, training
from genre_utils.batches import PosterBatches, WordBatches
from genre_utils.dataset import load_dataset
from genre_utils.saved_model import load_model

SPLITS = Path(training.__file__).parent / "splits"


@pytest.fixture(scope="module")
def own_posters(sample_folder):
    return load_dataset(sample_folder, limit=30)


def test_batches_name_their_posters(posters):
    cache, paths, labels = posters
    batches = PosterBatches(cache, paths, labels, 8, seed=1)
    for batch in range(len(batches)):
        shown = [f"{paths.index(p)}.png" for p in batches.paths[batches.rows[batch]]]
        assert batches.posters(batch) == shown
    tokens = [np.full(i + 1, i) for i in range(24)]
    texts = WordBatches(tokens, paths, labels, 8, 1, 0)
    for batch in range(len(texts)):
        rows, _ = texts[batch]
        assert texts.posters(batch) == [f"{row[0]}.png" for row in rows]


def test_features_that_are_no_numbers_stop_with_a_sentence(posters):
    cache, paths, _ = posters
    broken = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])
    broken.add(keras.layers.Rescaling(np.inf))
    with pytest.raises(training.RunError, match=r"no numbers for 24 train posters, such as 0\.png"):
        training.frozen_features(broken, "broken", cache, {"train": paths}, splits=["train"])


def test_epochs_follow_the_hardware():
    assert training.choose_epochs(-1, "efficientnet_lite2", accelerated=False) == 0
    assert training.choose_epochs(-1, "efficientnet_lite2", accelerated=True) > 0
    assert training.choose_epochs(-1, "seed_cnn", accelerated=False) == 20
    assert training.choose_epochs(3, "efficientnet_lite2", accelerated=False) == 3
    for epochs, model in ((-2, "efficientnet_lite2"), (0, "seed_cnn"), (1.5, "seed_cnn")):
        with pytest.raises(ValueError, match="give"):
            training.choose_epochs(epochs, model, accelerated=False)


def test_features_are_computed_once_for_these_posters(posters, monkeypatch):
    cache, paths, _ = posters
    backbone = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])

    def features_of(paths):
        return training.frozen_features(backbone, "mean", cache, {"test": paths}, 7, ["test"])[
            "test"
        ]

    features = features_of(paths)
    np.testing.assert_allclose(features, cache.pixels(paths).mean(axis=(1, 2)), rtol=1e-5)
    some = features_of(paths[5:])
    np.testing.assert_allclose(some, features[5:], rtol=1e-5)
    monkeypatch.setattr(backbone, "predict", lambda *_, **__: pytest.fail("computed again"))
    again = features_of(paths)
    np.testing.assert_array_equal(again, features)


def test_start_is_checked_against_the_posters(own_posters):
    training.check_start("imagenet", own_posters)
    training.check_start("posters", own_posters)
    with pytest.raises(ValueError, match="START is 'release': give one of 'imagenet', 'posters'"):
        training.check_start("release", own_posters)
    public = (SPLITS / "imdb_test_ids.txt").read_text().split()
    data = replace(own_posters, posters=pd.DataFrame({"id": public}))
    with pytest.raises(ValueError, match="START is 'posters', and these are the public posters"):
        training.check_start("posters", data)


def test_a_training_can_start_from_the_released_model(capsys):
    released = load_model(has_text=False)
    name = released.card["training"]["model"]
    other = next(other for other in networks.VARIANTS if other != name)
    names = {"picture": name, "second": other}
    pictures = {part: models.build_model(one, (96, 64), ("a", "b")) for part, one in names.items()}
    plain = {part: network.get_weights() for part, network in pictures.items()}
    training.start_from("imagenet", pictures, names)
    for part, network in pictures.items():
        np.testing.assert_array_equal(network.get_weights()[0], plain[part][0])
    training.start_from("posters", pictures, names)
    assert f"no {other}" in capsys.readouterr().out
    got = pictures["picture"].get_layer("backbone").get_weights()
    for ours, theirs in zip(got, released.network.get_layer("backbone").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any((a != b).any() for a, b in zip(got, plain["picture"], strict=False))
