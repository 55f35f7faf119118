import json

import keras
import numpy as np
import pandas as pd
import pytest

from genre_utils import models, training
from genre_utils.pipeline import PosterBatches, fill_cache

GENRES = ("dark", "bright")
EPOCHS = 4


@pytest.fixture
def posters(tmp_path, encode):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(24):
        shade = rng.integers(0, 100) + 120 * (i % 2)
        path = tmp_path / f"{i}.png"
        path.write_bytes(encode(np.full((90, 90, 3), shade, np.uint8), "PNG"))
        paths.append(str(path))
    labels = np.eye(2)[np.arange(24) % 2]
    return fill_cache(paths, (80, 80), tmp_path / "cache"), paths, labels


def fit(folder, posters, callbacks=()) -> pd.DataFrame:
    """What the train notebook does, in small."""
    cache, paths, labels = posters
    keras.utils.set_random_seed(0)
    run = training.open_run(folder, {"seed": 0})
    model = models.build_model("seed_cnn", 80, GENRES)
    model.compile(keras.optimizers.Adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    model, done = run.resume(model)
    batches = PosterBatches(cache, paths, labels, 8, seed=0, augmented=True, first_epoch=done)
    validation = PosterBatches(cache, paths, labels, 8)
    keep = training.Checkpoints(run, validation, labels, patience=EPOCHS)
    model.fit(
        batches,
        initial_epoch=done,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[keep, *callbacks],
    )
    return run.history().drop(columns="seconds")


class Kill(keras.callbacks.Callback):
    """Stops the process's training in the middle of the second epoch, or while it saves."""

    def __init__(self, moment: str):
        super().__init__()
        self.moment = moment

    def on_train_batch_end(self, batch, logs=None):
        if self.moment == "batch" and batch == 1 and self.model.optimizer.iterations > 3:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if self.moment == "epoch" and epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["batch", "epoch"])
def test_interrupted_training_ends_as_the_uninterrupted_one(tmp_path, posters, moment):
    whole = fit(tmp_path / "whole", posters)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", posters, [Kill(moment)])
    resumed = fit(tmp_path / "cut", posters)
    assert whole["epoch"].tolist() == resumed["epoch"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(whole["loss"], resumed["loss"], atol=1e-6)
    np.testing.assert_allclose(whole["val_macro_map"], resumed["val_macro_map"], atol=1e-6)


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, posters, capsys):
    whole = fit(tmp_path / "run", posters)
    run = training.Run(tmp_path / "run", {})
    newest, before = run.checkpoints()
    newest.write_bytes(newest.read_bytes()[:1000])
    model, done = run.resume(None)
    assert done == int(before.stem[-3:]) == EPOCHS - 1
    assert newest.name in capsys.readouterr().out
    newest.unlink()
    np.testing.assert_allclose(fit(tmp_path / "run", posters)["loss"], whole["loss"], atol=1e-6)


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path, posters):
    cache, paths, labels = posters
    run = training.open_run(tmp_path / "run", {})
    model = models.build_model("seed_cnn", 80, GENRES)
    # A rate of zero: no epoch is better than the network before the first.
    model.compile(keras.optimizers.SGD(0.0), keras.losses.BinaryCrossentropy(from_logits=True))
    batches = PosterBatches(cache, paths, labels, 8)
    keep = training.Checkpoints(run, batches, labels, patience=2)
    model.fit(batches, epochs=9, shuffle=False, verbose=0, callbacks=[keep])
    assert run.history()["epoch"].tolist() == [0, 1, 2]
    best = keras.saving.load_model(run.best_file)
    np.testing.assert_array_equal(best.get_weights()[0], model.get_weights()[0])


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    training.open_run(tmp_path, {"model": "a", "seed": 0})
    training.open_run(tmp_path, {"model": "a", "seed": 0})
    with pytest.raises(training.RunError, match="seed was 0 and is now 1.*RESTART=True"):
        training.open_run(tmp_path, {"model": "a", "seed": 1})
    training.open_run(tmp_path, {"model": "a", "seed": 1}, restart=True)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"model": "a", "seed": 1}


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(training.RunError, match="cannot be written"):
        training.open_run(tmp_path / "file" / "model", {})


def test_epochs_follow_the_hardware():
    assert training.choose_epochs(-1, "efficientnet_lite2", accelerated=False) == 0
    assert training.choose_epochs(-1, "efficientnet_lite2", accelerated=True) > 0
    assert training.choose_epochs(-1, "seed_cnn", accelerated=False) == 20
    assert training.choose_epochs(3, "efficientnet_lite2", accelerated=False) == 3
    for epochs, model in ((-2, "efficientnet_lite2"), (0, "seed_cnn")):
        with pytest.raises(ValueError, match="give"):
            training.choose_epochs(epochs, model, accelerated=False)


def test_features_are_computed_once(tmp_path, posters, monkeypatch):
    cache, paths, _ = posters
    backbone = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])
    features = training.frozen_features(backbone, cache, paths, tmp_path / "f.npy", batch=7)
    np.testing.assert_allclose(features, cache.pixels(paths).mean(axis=(1, 2)), rtol=1e-5)
    monkeypatch.setattr(backbone, "predict_on_batch", lambda _: pytest.fail("computed again"))
    again = training.frozen_features(backbone, cache, paths, tmp_path / "f.npy")
    np.testing.assert_array_equal(again, features)
