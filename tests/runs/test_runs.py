import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from genre_utils import models, runs
from genre_utils.batches import PosterBatches
from genre_utils.evaluation import macro_average_precision
from genre_utils.runs import lock
from genre_utils.runs.steps import SeededLayers
from genre_utils.support import progress
from genre_utils.training import ValidationScore

GENRES = ("dark", "bright")


EPOCHS = 4


def fit(folder, posters, callbacks=(), rate=1e-3, patience=EPOCHS, epochs=EPOCHS) -> pd.DataFrame:
    """What the train notebook does, in small."""
    cache, paths, labels = posters
    keras.utils.set_random_seed(0)
    run = runs.open_run(folder, {"seed": 0})
    run.begin()
    model = models.build_model("seed_cnn", 80, GENRES)
    model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))

    def batches(epoch: int) -> PosterBatches:
        return PosterBatches(cache, paths, labels, 8, 0, epoch, augmented=True)

    validation = PosterBatches(cache, paths, labels, 8), labels
    some = runs.epochs(run, model, batches, epochs, validation, callbacks, patience)
    for fitted, data, options in some:
        fitted.fit(data, **options)
    return run.history().drop(columns="seconds")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, posters):
    """The folder of a training that nothing interrupted, for copies to be made of."""
    folder = tmp_path_factory.mktemp("whole")
    fit(folder, posters)
    return folder


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
def test_interrupted_training_ends_as_the_uninterrupted_one(tmp_path, posters, whole, moment):
    whole = runs.Run(whole, {}).history()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", posters, [Kill(moment)])
    resumed = fit(tmp_path / "cut", posters)
    assert whole["epoch"].tolist() == resumed["epoch"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(whole["loss"], resumed["loss"], atol=1e-6)
    np.testing.assert_allclose(whole["val_macro_map"], resumed["val_macro_map"], atol=1e-6)


def test_going_on_with_a_network_whose_head_was_fitted_first_warns_of_nothing(tmp_path):
    run = runs.open_run(tmp_path / "run", {"seed": 0})
    run.begin()
    rng = np.random.default_rng(0)

    def compiled(epochs: int) -> keras.Model:
        network = models.build_model("efficientnet_lite0", 64, GENRES)
        head = network.get_layer("head")
        head.compile("adam", "mse")
        head.fit(rng.random((8, head.input_shape[1])), rng.random((8, 2)), epochs=epochs, verbose=0)
        network.compile("adam", "mse")
        return network

    first = compiled(epochs=1)
    first.optimizer.build(first.trainable_variables)
    first.save(run.best_file.with_name("epoch-001.keras"))
    again = compiled(epochs=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping variable")
        assert run.resume(again) == 1
    for old, new in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, posters, whole, capsys):
    shutil.copytree(whole, tmp_path / "run")
    run = runs.Run(tmp_path / "run", {})
    run.network_file.unlink()  # as if killed before the end
    (run.best_file.parent / "epoch-003 copy.keras").touch()
    newest, before = run.checkpoints()
    newest.write_bytes(newest.read_bytes()[:1000])
    model = models.build_model("seed_cnn", 80, GENRES)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    assert run.resume(model) == int(before.stem[-3:]) == EPOCHS - 1
    assert newest.name in capsys.readouterr().out
    newest.unlink()
    again = fit(tmp_path / "run", posters)
    np.testing.assert_allclose(again["loss"], runs.Run(whole, {}).history()["loss"], atol=1e-6)


@pytest.mark.parametrize("torn", ["history.csv", "checkpoints/best.keras"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_epochs_without_their_history_or_best_network_are_done_anew(
    tmp_path, posters, whole, capsys, torn, damage
):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", posters, [Kill("epoch")])
    file = tmp_path / "run" / torn
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    again = fit(tmp_path / "run", posters)
    assert "is missing or damaged: this network is trained anew" in capsys.readouterr().out
    whole = runs.Run(whole, {}).history()
    assert again["epoch"].tolist() == whole["epoch"].tolist()
    np.testing.assert_allclose(again["val_macro_map"], whole["val_macro_map"], atol=1e-6)


def test_a_finished_network_that_is_deleted_is_trained_anew(tmp_path, posters, capsys):
    history = fit(tmp_path / "run", posters, rate=0.0, patience=2)
    run = runs.Run(tmp_path / "run", {"seed": 0})
    run.finish({})
    run.network_file.unlink()
    pd.testing.assert_frame_equal(fit(tmp_path / "run", posters, rate=0.0, patience=2), history)
    assert run.network_file.exists() and "is trained anew" in capsys.readouterr().out
    for content in ("no history", "epoch,loss,val_macro_map\n"):
        run.history_file.write_text(content)
        with pytest.raises(ValueError, match=r"history\.csv is damaged: delete it"):
            run.history()


def test_a_disk_that_does_not_answer_costs_no_epoch(tmp_path, posters, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", posters, [Kill("epoch")])
    run = runs.Run(tmp_path / "run", {"seed": 0})
    kept = run.checkpoints()

    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("zipfile.ZipFile", failing)
    with pytest.raises(OSError, match="Input/output error"):
        run.forget_torn()
    assert kept and run.checkpoints() == kept and len(run.history())


def test_what_an_epoch_left_is_used_only_with_its_whole_history_and_best_network(tmp_path, capsys):
    run = runs.Run(tmp_path, {"seed": 0})
    best, last = run.best_file, run.best_file.with_name("epoch-002.keras")
    best.parent.mkdir()

    def is_kept(epochs: list[int], damage: bool = False) -> bool:
        scores = {"epoch": epochs, "val_macro_map": [0.5] * len(epochs)}
        pd.DataFrame(scores).to_csv(run.history_file, index=False)
        with zipfile.ZipFile(best, "w") as file:
            file.writestr("weights", bytes(1000))
        content = bytearray(best.read_bytes())
        content[500] ^= damage
        best.write_bytes(content)
        last.touch()
        run.forget_torn()
        is_kept = last.exists()
        assert is_kept == run.history_file.exists() == (capsys.readouterr().out == "")
        return is_kept

    assert is_kept([0, 1, 2])
    assert not is_kept([0, 1, 2], damage=True)
    assert not is_kept([0, 1]) and not is_kept([0, 2])


def test_checkpoints_that_are_all_damaged_leave_the_network_as_it_was(tmp_path, posters):
    fit(tmp_path / "run", posters, epochs=1)
    run = runs.Run(tmp_path / "run", {})
    for file in run.checkpoints():
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        file.write_bytes(content)
    model = models.build_model("seed_cnn", 80, GENRES)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    before = model.get_weights()
    assert run.resume(model) == 0 and not int(model.optimizer.iterations)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_finished_training_leaves_no_empty_folders(tmp_path):
    run = runs.open_run(tmp_path, {"seed": 0})
    run.begin()
    run.finish({})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "settings.json"]


def test_a_training_that_goes_on_says_after_which_epoch(tmp_path):
    run = runs.open_run(tmp_path / "run", {"seed": 0})
    assert run.state == "training"
    run.begin()
    assert run.state == "going on with this training"
    (run.part("picture").folder / "network.safetensors").touch()
    for part, epochs in {"picture": 8, "second": 3}.items():
        for epoch in (epochs - 1, epochs):
            (run.part(part).folder / "checkpoints" / f"epoch-{epoch:03d}.keras").touch()
    assert run.state == "going on with this training: second after epoch 3"
    run.kept("logits", lambda: {"a": np.zeros(1)})
    run.finish({})
    assert run.state == "finished before: reporting again"
    run.metrics_file.unlink()
    assert run.state == "going on with this training"


@pytest.mark.parametrize(
    "layer",
    (
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(1.0),
        keras.layers.RandomTranslation(0.4, 0.4),
        keras.layers.TimeDistributed(keras.layers.SpatialDropout1D(0.5)),
    ),
)
def test_what_any_layer_draws_depends_on_seed_and_epoch_alone(layer):
    network = keras.Sequential([keras.Input((16, 12, 3)), keras.Sequential([layer])])
    pixels = np.random.default_rng(0).random((4, 16, 12, 3), np.float32)
    seeded = SeededLayers(3)
    seeded.set_model(network)

    def drawn(epoch: int) -> np.ndarray:
        seeded.on_epoch_begin(epoch)
        return keras.ops.convert_to_numpy(network(pixels, training=True))

    first, second = drawn(1), drawn(2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(drawn(1), first)


def test_a_fit_that_is_done_is_not_done_again(tmp_path, posters, monkeypatch):
    fit(tmp_path / "run", posters, epochs=1)
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("fitted again"))
    fit(tmp_path / "run", posters, epochs=1)


class Bar(SimpleNamespace):
    """What a bar was told."""

    n, closed = 0, False

    def update(self):
        self.n += 1

    def set_postfix(self, figures, refresh):
        self.figures = figures

    def close(self):
        self.closed = True


def test_fine_tuning_shows_how_far_it_is(tmp_path, posters, monkeypatch):
    bars = []
    monkeypatch.setattr(progress, "bar", lambda **how: bars.append(Bar(**how)) or bars[-1])
    history = fit(tmp_path / "run", posters, rate=0.0, patience=2)
    (bar,) = (bar for bar in bars if bar.desc.startswith("fine-tuning"))
    assert bar.initial == 0 and bar.n == bar.total == 2 and bar.closed
    assert bar.figures == {"macro mAP": history["val_macro_map"].iloc[-1]}


def test_a_head_keeps_its_best_epoch_and_is_not_fitted_again(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    features = {s: rng.normal(size=(200, 20)).astype("float32") for s in ("train", "validation")}
    labels = {s: np.stack([f[:, 0] > 0, f[:, 1] > 0], axis=1) for s, f in features.items()}
    run = runs.Run(tmp_path, {"seed": 0})

    def fit_head() -> keras.Model:
        keras.utils.set_random_seed(3)  # early stopping ends it before the last epoch
        head = models.build_head(20, 2)
        head.compile("adam", keras.losses.BinaryFocalCrossentropy(from_logits=True))
        head.fit(**runs.head_fit(run, head, features, labels))
        return head

    bars = []
    monkeypatch.setattr(progress, "bar", lambda **_: bars.append(Bar()) or bars[-1])
    first = fit_head()
    assert bars[0].n == bars[0].total < 60 and bars[0].closed  # it does not look torn off
    curve = pd.read_csv(tmp_path / "head.csv")
    logits = np.asarray(first.predict(features["validation"], verbose=0))
    reached = macro_average_precision(labels["validation"], logits)
    assert reached > 0.9 and reached == pytest.approx(curve.val_macro_map.max(), abs=0.01)
    again = fit_head()
    assert pd.read_csv(tmp_path / "head.csv").equals(curve)
    for old, new in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_head_waits_six_epochs_for_a_better_one_and_ends_as_the_best(tmp_path, monkeypatch):
    weights = []

    def score(self) -> float:
        weights.append(self.model.get_weights())
        return 0.9 if len(weights) == 2 else 0.5

    monkeypatch.setattr(ValidationScore, "score", score)
    rng = np.random.default_rng(0)
    features = {split: rng.normal(size=(8, 4)) for split in ("train", "validation")}
    labels = dict.fromkeys(features, np.eye(2)[np.arange(8) % 2])
    head = models.build_head(4, 2)
    head.compile(keras.optimizers.Adam(0.1), "mse")
    head.fit(**runs.head_fit(runs.Run(tmp_path, {}), head, features, labels))
    assert len(weights) == 2 + 6
    for own, best, last in zip(head.get_weights(), weights[1], weights[-1], strict=True):
        np.testing.assert_allclose(own, best, atol=1e-3)
        assert np.abs(last - best).max() > 1e-2


def test_a_fit_of_another_network_in_the_folder_is_one_sentence(tmp_path):
    run = runs.Run(tmp_path, {})
    run.save(models.build_head(20, 2), run.head_file)
    advice = r"Delete this file, and it is trained again\. RESTART=True throws the whole training"
    refused = pytest.raises(
        ValueError, match=rf"head\.safetensors [^.]*(\(.*\))?\. {advice} away\.$"
    )
    with refused:
        run.load(models.build_head(30, 2), run.head_file)
    run.head_file.write_bytes(run.head_file.read_bytes()[:-1])
    with refused:
        run.load(models.build_head(20, 2), run.head_file)


def test_the_curve_of_a_head_that_was_killed_is_not_read(tmp_path):
    run = runs.Run(tmp_path, {})
    for part in ("picture", "words"):
        (tmp_path / part).mkdir()
    curve = "epoch,loss,val_macro_map\n0,1.0,0.5\n"
    (tmp_path / "picture" / "head.csv").write_text(curve)
    run.part("picture").head_file.write_bytes(b"weights")
    (tmp_path / "words" / "head.csv").write_text("")
    assert list(run.curves("head.csv")) == ["picture"]


def test_what_a_run_keeps_is_computed_once(tmp_path):
    run = runs.Run(tmp_path, {})
    first = run.kept("logits", lambda: {"picture": np.arange(3.0)})
    again = run.kept("logits", lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(first["picture"], again["picture"])


def test_a_loss_that_is_no_number_stops_with_the_posters_and_keeps_the_best(tmp_path, posters):
    cache, paths, labels = posters
    bad = labels.copy()
    bad[7] = np.nan  # poster 7.png
    fit(tmp_path / "run", posters, epochs=1)
    runs.Run(tmp_path / "run", {}).network_file.unlink()  # more epochs are to come
    best = (tmp_path / "run" / "checkpoints" / "best.keras").read_bytes()
    with pytest.raises(ValueError, match=r"loss is nan.*7\.png.*best network.*best\.keras"):
        fit(tmp_path / "run", (cache, paths, bad))
    assert (tmp_path / "run" / "checkpoints" / "best.keras").read_bytes() == best
    history = runs.Run(tmp_path / "run", {}).history()
    assert history["epoch"].tolist() == [0, 1] and np.isfinite(history["loss"][1])


LOCKED = """
import sys
from genre_utils import runs
try:
    runs.open_run(sys.argv[1], {"seed": 0}).begin()
except ValueError as error:
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
    _, printed = start().communicate()
    assert "Another process is training into" in printed and "Traceback" not in printed
    first.kill()  # the system lets go of the lock
    first.communicate()
    run = runs.open_run(tmp_path, {"seed": 0})
    runs.open_run(tmp_path, {"seed": 0})  # a cell run twice is the same training
    run.finish({})
    assert not (tmp_path / runs.LOCK_FILE).exists()


def test_without_locks_a_line_says_so(tmp_path, monkeypatch, capsys):
    def no_locks(self):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(lock.FileLock, "acquire", no_locks)
    runs.open_run(tmp_path, {"seed": 0})
    assert "cannot be locked" in capsys.readouterr().out


FULL_DISK = """
import hashlib, json, resource, sys
from pathlib import Path
import keras, numpy as np
from genre_utils import fusion, models, saved_model
network = models.build_model("seed_cnn", 80, ("a", "b"))
fusions = {"picture": fusion.LogisticFusion({"picture": np.ones(2)}, np.zeros(2))}
folder = Path(sys.argv[1])
for limit in map(int, sys.argv[2:]):
    printed = ""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        saved_model.save_model(
            folder, network, None, fusions, ("a", "b"), (0.5, 0.5), [], {"sample": True}
        )
    except OSError as error:
        printed = str(error)
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    print(json.dumps([printed, files]))
"""


def test_a_disk_that_fills_while_saving_leaves_the_model_before(tmp_path):
    limits = (str(1 << 30), "1000", "100000")  # bytes a file
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), *limits]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    (printed, before), *later = map(json.loads, done.stdout.splitlines())
    assert not printed and set(before) == {"picture.json", "picture.safetensors", "model.json"}
    for printed, files in later:
        assert "cannot be written: the disk is full" in printed and files == before


def test_patience_stops_and_the_network_before_the_first_epoch_counts(tmp_path, posters):
    # A rate of zero: no epoch is better than the network before the first.
    history = fit(tmp_path / "run", posters, rate=0.0, patience=2)
    assert history["epoch"].tolist() == [0, 1, 2]
    again = fit(tmp_path / "run", posters, rate=0.0, patience=2)
    pd.testing.assert_frame_equal(history, again)


def test_a_network_ends_as_after_its_best_epoch(tmp_path, monkeypatch):
    scores = [0.1, 0.3, 0.9, 0.5]
    coming = iter(scores)
    monkeypatch.setattr(ValidationScore, "score", lambda _: next(coming))
    run = runs.open_run(tmp_path / "run", {"seed": 0})
    run.begin()
    network = models.build_head(4, 2)
    network.compile("adam", "mse")
    fits = runs.epochs(run, network, lambda epoch: [], 3, ([], np.zeros((0, 2))))
    for epoch, (_, _, options) in enumerate(fits):  # as `fit` does, with weights that tell
        (keep,) = (one for one in options["callbacks"] if isinstance(one, runs.Checkpoints))
        keep.set_model(network)
        keep.on_train_begin()
        keep.on_epoch_begin(epoch)
        network.set_weights([np.full_like(w, epoch + 1) for w in network.get_weights()])
        keep.on_epoch_end(epoch, {"loss": 1.0})
    assert run.history()["val_macro_map"].tolist() == scores
    again = models.build_head(4, 2)
    run.load(again, run.network_file)
    for kept in (network, again):
        assert all((weights == 2).all() for weights in kept.get_weights())


def test_by_default_only_a_pretrained_network_stops_early(tmp_path, monkeypatch):
    done = []
    for pretrained in (True, False):
        monkeypatch.setattr(models, "is_pretrained", lambda _, answer=pretrained: answer)
        run = runs.open_run(tmp_path / str(pretrained), {"seed": 0})
        run.begin()
        network = models.build_head(4, 2)
        network.compile("adam", "mse")
        network.save(run.best_file)
        history = pd.DataFrame({"epoch": range(6), "val_macro_map": 0.5})
        history[:1].to_csv(run.history_file, index=False)
        fits = runs.epochs(run, network, lambda epoch: [], 5, ([], np.zeros((0, 2))))
        for number, _ in enumerate(fits, start=1):  # as if each had been done, for nothing
            history[: number + 1].to_csv(run.history_file, index=False)
        done.append(number)
    assert done == [2, 5]


def test_the_best_network_is_kept(posters, whole):
    cache, paths, labels = posters
    run = runs.Run(whole, {})
    kept = models.build_model("seed_cnn", 80, GENRES)
    run.load(kept, run.network_file)
    for best in (keras.saving.load_model(run.best_file), kept):
        score = macro_average_precision(labels, best.predict(cache.pixels(paths), verbose=0))
        assert score == pytest.approx(run.history()["val_macro_map"].max(), abs=1e-3)


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    runs.open_run(tmp_path, {"model": "b"})
    runs.open_run(tmp_path, {"model": "a", "seed": 0}).begin()
    runs.open_run(tmp_path, {"model": "a", "seed": 0}).begin()
    with pytest.raises(ValueError, match="seed was 0 and is now 1.*RESTART=True"):
        runs.open_run(tmp_path, {"model": "a", "seed": 1})
    runs.open_run(tmp_path, {"model": "a", "seed": 1}, restart=True).begin()
    assert json.loads((tmp_path / "settings.json").read_text()) == {"model": "a", "seed": 1}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "name", ["checkpoints/mine.bin", "kept/mine.txt", "model.json", "metrics.json", "words/a.txt"]
)
def test_what_no_training_put_into_a_folder_stays(tmp_path, name, restart):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(ValueError, match=f"holds '{name.split('/')[0]}'.*another OUTPUT_DIR"):
        runs.open_run(tmp_path, {"model": "a"}, restart)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "content", ["", '{"model": ', "[1]", '{"model": "llama", "seed": 1}', '{"fontSize": 12}', None]
)
def test_settings_of_something_else_are_not_taken_for_a_training_s(tmp_path, content, restart):
    file = tmp_path / "settings.json"
    file.mkdir() if content is None else file.write_text(content)
    with pytest.raises(ValueError, match=r"settings\.json is of no training here, or damaged"):
        runs.open_run(tmp_path, {"model": "a", "data": "b"}, restart)
    with pytest.raises(ValueError, match="is of no training here"):
        runs.choice_of_run(tmp_path, {"model": "a", "data": "b"}, "auto", restart)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_training_that_is_thrown_away_and_killed_leaves_a_folder_of_its_own(tmp_path):
    run = runs.open_run(tmp_path, {"model": "a"})
    run.begin()
    for name in ("model.json", "picture.json"):
        (tmp_path / name).write_text("{}")
    for restart in (True, True, False):
        again = runs.open_run(tmp_path, {"model": "b"}, restart)
        assert again.state == "training" and not run.checkpoints()
    with pytest.raises(ValueError, match="model was 'b' and is now 'a'"):
        runs.open_run(tmp_path, {"model": "a"})


def test_a_training_killed_as_it_begins_goes_on(tmp_path, monkeypatch):
    run = runs.open_run(tmp_path, {"model": "a"})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        run.begin()
    runs.open_run(tmp_path, {"model": "a"}).begin()


@pytest.mark.parametrize("folder", ["", ".", "/"])
def test_outputs_are_not_strewn_over_the_working_folder(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"OUTPUT_DIR is '{folder}': give a folder"):
        runs.check_folders(folder)
    for words in ("", str(tmp_path)):
        with pytest.raises(ValueError, match=f"WORDS is '{words}': give a file's name"):
            runs.check_folders("outputs", words)
    runs.check_folders("outputs", "outputs/words.jsonl")
    Path("file").touch()
    with pytest.raises(OSError, match=r"WORDS 'file/words\.jsonl' cannot be written .*: give"):
        runs.check_folders("outputs", "file/words.jsonl")
    (tmp_path / "settings.json").write_text('{"model": "a"}')
    runs.check_folders(".")  # in which a training was begun


def test_numbers_that_no_training_could_use_are_named():
    runs.check_numbers(BATCH_SIZE=1, LIMIT=0, SEED=2**32 - 2, TOP=1, SHOWN=0)
    wrong = {"BATCH_SIZE": (0, None, 10**12, 2.0), "SEED": (-1, 2**32 - 1), "SHOWN": (-1, "a")}
    wrong |= {"LIMIT": (-1,), "TOP": (0,)}
    for name, numbers in wrong.items():
        for number in numbers:
            with pytest.raises(ValueError, match=f"{name} is {number!r}: give a whole number"):
                runs.check_numbers(**{name: number})


def test_a_network_with_other_layers_does_not_go_on_with_anothers_weights(tmp_path):
    def network(activation: str) -> keras.Model:
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, activation=activation)])

    run = runs.open_run(tmp_path, {"model": "mine"})
    run.begin([network("relu")])
    again = runs.open_run(tmp_path, {"model": "mine"})
    again.begin([network("relu")])  # whose layers Keras has numbered anew
    with pytest.raises(ValueError, match="a network with other layers.*RESTART=True"):
        again.begin([network("tanh")])
    runs.open_run(tmp_path, {"model": "mine"}, restart=True).begin([network("tanh")])


def test_a_loss_takes_logits():
    focal = keras.losses.BinaryFocalCrossentropy
    assert runs.loss_settings(focal(from_logits=True))["from_logits"]
    assert runs.loss_settings(keras.losses.SquaredHinge())["name"] == "squared_hinge"
    losses = keras.losses
    others = losses.MeanSquaredError(), losses.Poisson(), losses.Dice()
    softmax = losses.CategoricalCrossentropy(from_logits=True)
    for loss in (focal(), "binary_crossentropy", lambda y, x: x, *others, softmax):
        with pytest.raises(ValueError, match="take a binary loss of keras.losses, such as"):
            runs.loss_settings(loss)


def test_a_loss_of_one_s_own_is_the_same_in_each_instance():
    class OwnLoss(keras.losses.Loss):
        def call(self, truth, logits):
            return logits - truth

        def get_config(self):
            return super().get_config() | {"weights": self.weights}

    def settings(name: str | None, weights=(1, 2)) -> dict:
        loss = OwnLoss(name=name)
        loss.weights = weights
        return runs.loss_settings(loss)

    first, second = settings(None), settings(None)
    assert first == second and first["name"] == "own_loss" and first["weights"] == [1, 2]
    assert settings("gamma_2") != settings("gamma_3")
    with pytest.raises(ValueError, match="settings of OwnLoss cannot be kept"):
        settings(None, np.ones(2))


def test_a_changed_number_of_a_loss_of_one_s_own_changes_the_settings():
    class Focal(keras.losses.Loss):
        def __init__(self, gamma):
            super().__init__()
            self._gamma, self.scorer = gamma, print
            # Whose layers Keras numbers anew.
            self.teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])

        def call(self, truth, logits):
            return self._gamma * (logits - truth)

    assert runs.loss_settings(Focal(2.0)) == runs.loss_settings(Focal(2.0))
    assert runs.loss_settings(Focal(2.0))["_gamma"] == 2.0
    summed = Focal(2.0)
    summed.reduction, summed.get_config = "sum", dict
    assert runs.loss_settings(summed)["reduction"] == "sum"
    inner = [keras.losses.BinaryFocalCrossentropy(gamma=gamma) for gamma in (2, 2, 5)]
    tensors = [keras.ops.convert_to_tensor([1.0, gamma]) for gamma in (2, 2, 5)]
    variables = [keras.Variable([1.0, gamma]) for gamma in (2, 2, 5)]
    sets = {"War", "Drama"}, {"Drama", "War"}, {"Drama"}
    arrays = np.ones(2), np.ones(2), np.zeros(2)
    for one, same, other in ((2.0, 2.0, 5.0), arrays, tensors, variables, sets, inner):
        assert runs.loss_settings(Focal(one)) == runs.loss_settings(Focal(same))
        assert runs.loss_settings(Focal(one)) != runs.loss_settings(Focal(other))


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        runs.open_run(tmp_path / "file" / "model", {})


def pictures_in(folder, *names):
    """Write files, each with its name as its content; returns their paths."""
    paths = [folder / "data" / f"{name}.jpg" for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return [*map(str, paths)]


def settle(folder, *unreadable):
    """Open a run on three posters, of which some cannot be read; returns what it goes without."""
    files = pictures_in(folder.parent, *"abc")
    run = runs.open_run(folder, {"seed": 0})
    bad = {path: "damaged" for path in files if path[-5] in unreadable}
    run, left_out = runs.settle_pictures(run, files, bad)
    return run, sorted(path[-5] for path in left_out)


def test_other_pictures_under_the_names_of_a_training_s_are_refused(tmp_path):
    files = pictures_in(tmp_path, *"abc")

    def settled(bad: str = "") -> runs.Run:
        run = runs.open_run(tmp_path / "run", {"seed": 0})
        return runs.settle_pictures(run, files, {f: "bad" for f in files if f[-5] in bad})[0]

    settled("a").begin()
    Path(files[0]).write_text("damaged in another way")
    settled("a")
    os.utime(files[1])
    run = settled("a")
    for _ in range(2):
        Path(files[1]).write_text("another")
        with pytest.raises(ValueError, match="other pictures: files have other contents now"):
            settled("a")
        Path(files[1]).unlink()
        with pytest.raises(ValueError, match="other pictures: files have other contents now"):
            settled("a")
        Path(files[1]).write_text("b.jpg")
        run.finish({})


def test_another_sentence_encoder_is_another_training(tmp_path):
    runs.open_run(tmp_path, {"seed": 0}).begin()
    run = runs.open_run(tmp_path, {"seed": 0, "encoder": "one"})  # older ones did not note it
    run.begin()
    with pytest.raises(ValueError, match="encoder was 'one' and is now 'another'"):
        runs.open_run(tmp_path, {"seed": 0, "encoder": "another"})


def test_only_a_folder_that_was_made_for_it_goes_with_a_training_that_never_began(tmp_path):
    (tmp_path / "own").mkdir()
    for name in ("own", "made"):
        runs.open_run(tmp_path / name, {"seed": 0})
        lock.unlock(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_which_pictures_counted_belongs_to_a_training_that_is_begun(tmp_path):
    run, left_out = settle(tmp_path, "a")
    assert left_out == ["a"]
    run.begin()
    assert settle(tmp_path, "a")[1] == ["a"]
    with pytest.raises(ValueError, match=r"a\.jpg can be read now.*RESTART=True"):
        settle(tmp_path)
    with pytest.raises(ValueError, match=r"b\.jpg cannot be read now"):
        settle(tmp_path, "a", "b")


def test_a_training_finished_on_damaged_pictures_says_so_and_keeps_to_its_posters(tmp_path, capsys):
    run, _ = settle(tmp_path, "a")
    run.begin()
    run.finish({})
    capsys.readouterr()
    for mended in (False, True):
        assert settle(tmp_path, *([] if mended else "a"))[1] == ["a"]
        printed = capsys.readouterr().out
        assert "finished on damaged pictures: a.jpg could not be read" in printed
    with pytest.raises(ValueError, match=r"b\.jpg cannot be read now"):
        settle(tmp_path, "a", "b")


def test_of_two_pictures_of_one_name_in_two_folders_only_the_damaged_one_is_left_out(tmp_path):
    files = pictures_in(tmp_path.parent, "a/1", "b/1", "c")
    bad = {files[0]: "damaged"}
    for _ in range(2):  # begun, then finished
        run = runs.open_run(tmp_path, {"seed": 0})
        run, left_out = runs.settle_pictures(run, files, bad)
        assert left_out == bad and run.settings["unreadable"] == ["a/1.jpg"]
        run.begin()
        assert runs.settle_pictures(run, files, bad)[1] == bad
        run.finish({})
    with pytest.raises(ValueError, match=r"b/1\.jpg cannot be read now"):
        runs.settle_pictures(run, files, dict.fromkeys(files[:2], "damaged"))


def test_a_finished_training_that_noted_no_pictures_is_reported_as_before(tmp_path, capsys):
    run = runs.open_run(tmp_path, {"seed": 0})
    run.begin()
    run.finish({})
    capsys.readouterr()
    assert settle(tmp_path, "a")[1] == ["a"] and settle(tmp_path)[1] == []
    assert capsys.readouterr().out == ""


def test_an_output_folder_inside_the_posters_is_refused(tmp_path):
    posters = tmp_path / "Images"
    posters.mkdir()
    with pytest.raises(ValueError, match="Images' is an empty folder"):
        runs.check_outside(tmp_path / "model", posters)
    (posters / "poster.jpg").touch()
    (tmp_path / "link").symlink_to(posters)
    for place in (posters, posters / "out" / "model", tmp_path / "link" / "model"):
        with pytest.raises(ValueError, match="OUTPUT_DIR .* inside the posters' folder"):
            runs.check_outside(place, posters)
    runs.check_outside(tmp_path / "Images-out", posters)
    with pytest.raises(ValueError, match="poster.jpg': there is no such poster"):
        runs.check_outside(tmp_path / "model", tmp_path / "poster.jpg")
    (tmp_path / "poster.jpg").touch()
    runs.check_outside(tmp_path / "model", tmp_path / "poster.jpg")


def test_a_process_that_ends_lets_go_of_its_folder(tmp_path, monkeypatch):
    at_the_end = []
    monkeypatch.setattr(lock.atexit, "register", lambda *call: at_the_end.append(call))
    runs.open_run(tmp_path / "model", {"seed": 0})
    for function, *arguments in at_the_end:
        function(*arguments)
    assert len(at_the_end) == 1 and not (tmp_path / "model").exists()


def test_a_folder_in_which_nothing_began_is_left_as_it_was(tmp_path):
    runs.check_folders(tmp_path / "new" / "model")
    assert not (tmp_path / "new").exists()
    runs.open_run(tmp_path / "new", {"seed": 0})
    lock.unlock(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_a_training_began_with_is_kept_and_compared_before_anything_is_read(tmp_path):
    assert runs.choice_of_run(tmp_path, {"seed": 0}, "auto", restart=False) == "auto"
    runs.open_run(tmp_path, {"seed": 0, "read_text": True}).begin()
    assert runs.choice_of_run(tmp_path, {"seed": 0}, "auto", restart=False) == "yes"
    assert runs.choice_of_run(tmp_path, {"seed": 0}, "no", restart=False) == "no"
    assert runs.choice_of_run(tmp_path, {"seed": 1}, "auto", restart=True) == "auto"
    with pytest.raises(ValueError, match="seed was 0 and is now 1"):
        runs.choice_of_run(tmp_path, {"seed": 1}, "auto", restart=False)


def test_a_network_that_is_trained_anew_is_not_reported_by_older_logits(tmp_path):
    run = runs.open_run(tmp_path / "run", {"model": "a"})
    network = models.build_model("seed_cnn", 80, GENRES)
    run.begin([network])

    def saved(part: str) -> list[str]:
        for name in ("picture_features", "logits", "test_logits"):
            run.kept(name, lambda: {"picture": np.ones(3)})
        one = run.part(part)
        one.save(network, one.network_file)
        return sorted(file.stem for file in (run.folder / "kept").iterdir())

    assert saved("second") == ["picture_features"]
    assert saved("last_picture") == ["logits", "picture_features"]
    runs.open_run(run.folder, {"model": "b"}, restart=True)
    assert not list((run.folder / "second").iterdir())


def test_weights_that_are_others_than_those_saved_are_refused(tmp_path):
    run = runs.Run(tmp_path, {})
    network = models.build_model("seed_cnn", 80, GENRES)
    run.save(network, run.head_file)
    run.save(network, run.network_file)
    content = run.head_file.read_bytes()
    run.head_file.write_bytes(content[:-1000] + bytes(1000))  # safetensors all the same
    with pytest.raises(ValueError, match="head.safetensors is damaged. Delete this file"):
        run.load(network, run.head_file)
    run.load(network, run.network_file)
    run.sums_file.write_text("no JSON")
    run.save(network, run.head_file)
    run.load(network, run.head_file)


def test_weights_killed_before_they_are_in_place_are_trained_again(tmp_path, monkeypatch):
    head = models.build_head(20, 2)
    run = runs.Run(tmp_path, {})
    run.save(head, run.head_file)
    replace = os.replace

    def killed(source, target):
        if Path(target).name == run.head_file.name:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        run.save(models.build_head(20, 2), run.head_file)
    assert not run.head_file.exists(), "its checksum is that of the newer one"


def test_the_newest_of_more_than_999_checkpoints_comes_first(tmp_path):
    run = runs.Run(tmp_path, {})
    run.best_file.parent.mkdir()
    for epoch in (998, 1000, 999):
        run.best_file.with_name(f"epoch-{epoch:03d}.keras").touch()
    found = [file.stem for file in run.checkpoints()]
    assert found == ["epoch-1000", "epoch-999", "epoch-998"]


def test_restart_deletes_the_figures_and_logs_of_the_training_before(tmp_path):
    before = runs.open_run(tmp_path, {"model": "a"})
    before.begin()
    left = [tmp_path / "tensorboard" / "picture" / "events", before.figures / "words.png"]
    for file in left:
        file.parent.mkdir(parents=True)
        file.touch()
    runs.open_run(tmp_path, {"model": "a"})
    assert all(file.exists() for file in left)
    runs.open_run(tmp_path, {"model": "a"}, restart=True)
    assert not any(file.exists() for file in left)


def test_restart_deletes_all_that_a_training_would_go_on_with(tmp_path):
    before = runs.open_run(tmp_path, {"model": "a"})
    before.begin()
    for run in before.all_parts:
        files = run.head_file, run.network_file, run.history_file, run.metrics_file, run.sums_file
        more = run.folder / "head.csv", run.best_file, run.folder / "kept" / "logits.npz"
        for file in (*files, *more):
            file.parent.mkdir(exist_ok=True)
            file.touch()
    again = runs.open_run(tmp_path, {"model": "a"}, restart=True)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == [runs.LOCK_FILE, "settings.json"] and again.state == "training"


def test_restart_deletes_nothing_where_no_training_was_begun(tmp_path):
    own = [tmp_path / name for name in ("history.csv", "head.csv", "network.safetensors")]
    for file in own:
        file.write_text("mine")
    runs.open_run(tmp_path, {"model": "a"}, restart=True)
    assert [file.read_text() for file in own] == ["mine"] * len(own)


def test_a_damaged_array_is_named_and_may_be_deleted(tmp_path):
    run = runs.Run(tmp_path, {})
    for content in (b"", b"PK\x03\x04 half", b"no archive"):
        run.kept("logits", lambda: {"picture": np.ones(3)})
        (tmp_path / "kept" / "logits.npz").write_bytes(content)
        (tmp_path / "kept" / "ngrams.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"logits\.npz is damaged: delete it"):
            run.kept("logits", dict)
        with pytest.raises(ValueError, match=r"ngrams\.npz is damaged: delete it"):
            run.kept_ngrams("ngrams", None)
        (tmp_path / "kept" / "logits.npz").unlink()
