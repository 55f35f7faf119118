import json
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from sklearn.metrics import average_precision_score

from genre_utils import models, training
from genre_utils.evaluation import macro_average_precision
from genre_utils.pipeline import PosterBatches, WordBatches, fill_cache

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


def fit(folder, posters, callbacks=(), rate=1e-3, patience=EPOCHS, epochs=EPOCHS) -> pd.DataFrame:
    """What the train notebook does, in small."""
    cache, paths, labels = posters
    keras.utils.set_random_seed(0)
    run = training.open_run(folder, {"seed": 0})
    run.begin()
    model = models.build_model("seed_cnn", 80, GENRES)
    model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    model, done = run.resume(model)
    keep = training.Checkpoints(run, PosterBatches(cache, paths, labels, 8), labels)

    def batches(epoch: int) -> PosterBatches:
        return PosterBatches(cache, paths, labels, 8, 0, epoch, augmented=True)

    training.fine_tune(run, model, batches, range(done, epochs), patience, [keep, *callbacks])
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


def test_a_loss_that_is_no_number_stops_with_the_posters_and_keeps_the_best(tmp_path, posters):
    cache, paths, labels = posters
    bad = labels.copy()
    bad[7] = np.nan  # poster 7.png
    fit(tmp_path / "run", posters, epochs=1)
    best = (tmp_path / "run" / "checkpoints" / "best.keras").read_bytes()
    with pytest.raises(training.RunError, match=r"loss is nan.*7\.png.*best network.*best\.keras"):
        fit(tmp_path / "run", (cache, paths, bad))
    assert (tmp_path / "run" / "checkpoints" / "best.keras").read_bytes() == best
    history = training.Run(tmp_path / "run", {}).history()
    assert history["epoch"].tolist() == [0, 1] and np.isfinite(history["loss"][1])


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


LOCKED = """
import sys
from genre_utils import training
try:
    training.open_run(sys.argv[1], {"seed": 0}).begin()
except training.RunError as error:
    sys.exit(str(error))
print("trains", flush=True)
sys.stdin.read()
"""


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", LOCKED, str(tmp_path)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, text=True, cwd=ROOT, **pipes)

    first = start()
    assert first.stdout.readline() == "trains\n"
    _, said = start().communicate()
    assert "Another process is training into" in said and "Traceback" not in said
    first.kill()  # the system lets go of the lock
    first.communicate()
    run = training.open_run(tmp_path, {"seed": 0})
    training.open_run(tmp_path, {"seed": 0})  # a cell run twice is the same training
    run.finish({})
    assert not (tmp_path / training.LOCK_FILE).exists()


def test_without_locks_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    training.open_run(tmp_path, {"seed": 0})
    assert "cannot be locked" in capsys.readouterr().out


FULL_DISK = """
import resource, sys
from pathlib import Path
import keras, numpy as np
from genre_utils import fusion, model_folder, models
network = models.build_model("seed_cnn", 80, ("a", "b"))
sums = {"picture": fusion.LogitSum({"picture": np.ones(2)}, np.zeros(2))}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    model_folder.save_model(
        Path(sys.argv[1]), network, None, sums, ("a", "b"), (0.5, 0.5), [], {"sample": True}
    )
except OSError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_while_saving_leaves_the_model_before(tmp_path):
    def save(limit: int) -> str:
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stderr

    save(1 << 30)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(before) == {"model.keras", "model.json"}
    for limit in (1000, 100_000):
        said = save(limit)
        assert "cannot be written: the disk is full" in said and "Traceback" not in said
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_patience_stops_and_the_network_before_the_first_epoch_counts(tmp_path, posters):
    # A rate of zero: no epoch is better than the network before the first.
    history = fit(tmp_path / "run", posters, rate=0.0, patience=2)
    assert history["epoch"].tolist() == [0, 1, 2]
    again = fit(tmp_path / "run", posters, rate=0.0, patience=2)
    pd.testing.assert_frame_equal(history, again)


def test_the_best_network_is_kept(tmp_path, posters):
    cache, paths, labels = posters
    history = fit(tmp_path / "run", posters)
    best = keras.saving.load_model(training.Run(tmp_path / "run", {}).best_file)
    score = macro_average_precision(labels, best.predict(cache.pixels(paths), verbose=0))
    assert score == pytest.approx(history["val_macro_map"].max())


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    training.open_run(tmp_path, {"model": "b"})
    training.open_run(tmp_path, {"model": "a", "seed": 0}).begin()
    training.open_run(tmp_path, {"model": "a", "seed": 0}).begin()
    with pytest.raises(training.RunError, match="seed was 0 and is now 1.*RESTART=True"):
        training.open_run(tmp_path, {"model": "a", "seed": 1})
    training.open_run(tmp_path, {"model": "a", "seed": 1}, restart=True).begin()
    assert json.loads((tmp_path / "settings.json").read_text()) == {"model": "a", "seed": 1}


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(training.RunError, match="cannot be written"):
        training.open_run(tmp_path / "file" / "model", {})


def test_a_folder_in_which_nothing_began_is_left_as_it_was(tmp_path):
    training.check_writable(tmp_path / "new" / "model")
    assert not (tmp_path / "new").exists()
    training.open_run(tmp_path / "new", {"seed": 0})
    training._unlock(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_a_training_began_with_is_kept_and_compared_before_anything_is_read(tmp_path):
    assert training.choice_of_run(tmp_path, {"seed": 0}, "auto", restart=False) == "auto"
    training.open_run(tmp_path, {"seed": 0, "read_text": True}).begin()
    assert training.choice_of_run(tmp_path, {"seed": 0}, "auto", restart=False) == "yes"
    assert training.choice_of_run(tmp_path, {"seed": 1}, "auto", restart=True) == "auto"
    with pytest.raises(training.RunError, match="seed was 0 and is now 1"):
        training.choice_of_run(tmp_path, {"seed": 1}, "auto", restart=False)


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
