import keras
import numpy as np
import pytest

from genre_utils import runs, training
from genre_utils.batches import PosterBatches, WordBatches


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
    with pytest.raises(ValueError, match=r"no numbers for 24 train posters, such as 0\.png"):
        training.frozen_features(broken, cache, {"train": paths}, splits=["train"])


def test_epochs_follow_the_hardware():
    assert runs.choose_epochs(-1, "efficientnet_lite2", accelerated=False) == 0
    assert runs.choose_epochs(-1, "efficientnet_lite2", accelerated=True) > 0
    assert runs.choose_epochs(-1, "seed_cnn", accelerated=False) == 20
    assert runs.choose_epochs(3, "efficientnet_lite2", accelerated=False) == 3
    for epochs, model in ((-2, "efficientnet_lite2"), (0, "seed_cnn"), (1.5, "seed_cnn")):
        with pytest.raises(ValueError, match="give"):
            runs.choose_epochs(epochs, model, accelerated=False)


def test_features_are_computed_once_for_these_posters(posters, monkeypatch):
    cache, paths, _ = posters
    backbone = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])

    def features_of(paths):
        return training.frozen_features(backbone, cache, {"test": paths}, ["test"])["test"]

    features = features_of(paths)
    np.testing.assert_allclose(features, cache.pixels(paths).mean(axis=(1, 2)), rtol=1e-5)
    some = features_of(paths[5:])
    np.testing.assert_allclose(some, features[5:], rtol=1e-5)
    monkeypatch.setattr(backbone, "predict", lambda *_, **__: pytest.fail("computed again"))
    again = features_of(paths)
    np.testing.assert_array_equal(again, features)


def test_features_of_another_backbone_are_computed_anew(posters):
    cache, paths, _ = posters

    def features_of(start: float, strides: int) -> np.ndarray:
        first = keras.initializers.Constant(start)
        conv = keras.layers.Conv2D(2, 3, strides, "same", kernel_initializer=first)
        pool = keras.layers.GlobalAveragePooling2D()
        backbone = keras.Sequential([keras.Input((80, 80, 3)), conv, pool])
        return training.frozen_features(backbone, cache, {"test": paths}, ["test"])["test"]

    before = features_of(0.1, 1)
    np.testing.assert_array_equal(features_of(0.1, 1), before)
    for other in (features_of(0.2, 1), features_of(0.1, 4)):  # other weights, other layers
        assert np.abs(other - before).min() > 1e-3
