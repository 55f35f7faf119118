import keras
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from genre_utils import training
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


def test_features_that_are_no_numbers_stop_with_a_sentence(tmp_path):
    features = {"train": np.zeros((4, 3)), "validation": np.zeros((4, 3))}
    features["train"][2, 1] = np.nan
    labels = {split: np.ones((4, 2), np.int8) for split in features}
    with pytest.raises(training.RunError, match="no numbers for 1 train posters, such as row 2"):
        training.fit_head(None, features, labels, tmp_path / "head.csv")


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
    features = training.frozen_features(backbone, "mean", cache, paths, batch=7)
    np.testing.assert_allclose(features, cache.pixels(paths).mean(axis=(1, 2)), rtol=1e-5)
    some = training.frozen_features(backbone, "mean", cache, paths[5:])
    np.testing.assert_allclose(some, features[5:], rtol=1e-5)
    monkeypatch.setattr(backbone, "predict", lambda *_, **__: pytest.fail("computed again"))
    again = training.frozen_features(backbone, "mean", cache, paths)
    np.testing.assert_array_equal(again, features)


def test_every_poster_is_judged_by_a_model_that_has_not_seen_it():
    """What learns by heart knows nothing of the poster that it judges."""
    texts = [f"poster {i}" for i in range(23)]
    labels = np.eye(23)

    def by_heart(seen, truth):
        known = dict(zip(seen, truth, strict=True))
        return lambda others: np.array([known.get(text, np.full(23, -1.0)) for text in others])

    assert (training.out_of_fold(by_heart, texts, labels) == -1).all()


def test_a_head_that_nothing_watches_learns_a_rule_and_is_not_sure_of_noise():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 20)).astype("float32")
    labels = np.stack([features[:, 0] > 0, rng.random(600) < 0.5], axis=1).astype(int)
    logits = training.out_of_fold(training.unwatched_head, features, labels)
    assert average_precision_score(labels[:, 0], logits[:, 0]) > 0.95
    assert average_precision_score(labels[:, 1], logits[:, 1]) < 0.65
    np.testing.assert_array_equal(
        logits, training.out_of_fold(training.unwatched_head, features, labels)
    )
