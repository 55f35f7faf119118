"""What training needs beside Keras: a resumable output folder, features, scores, checkpoints."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np
import pandas as pd

from genre_utils import environment, files, hosts, models, progress
from genre_utils.evaluation import macro_average_precision
from genre_utils.files import replacing, write_json
from genre_utils.keras_files import ModelError, load_network
from genre_utils.pipeline import Batches, PixelCache, PosterBatches
from genre_utils.tokenizing import run_on_words

# Two checkpoints are kept: should the newest be damaged, the one before still is a whole epoch.
KEPT_CHECKPOINTS = 2

# The trainings beside that of the picture's first network: of its second, of the words' network,
# and of all three once more when everything is chosen.
PARTS = ("second", "words", "last_picture", "last_second", "last_words")

ACCELERATED_EPOCHS = 8
ACCELERATED_WORD_EPOCHS = 4
SEED_CNN_EPOCHS = 20
HEAD_EPOCHS = 60
# Of a head that no validation stops; more would make it surer of its posters than of others.
UNWATCHED_EPOCHS = 25
FOLDS = 5


# Held by the process that trains into a folder, and let go by the system when it is killed.
LOCK_FILE = "in_use.lock"
_held: dict[Path, IO] = {}


class RunError(ValueError):
    """A training that cannot go on, or an output folder that cannot be used as asked."""


@dataclass(frozen=True)
class Run:
    """One training in one folder; everything that it writes is below `folder`."""

    folder: Path
    settings: dict[str, Any]

    @property
    def settings_file(self) -> Path:
        """The settings of the training that this folder belongs to."""
        return self.folder / "settings.json"

    @property
    def history_file(self) -> Path:
        """The CSV with one row an epoch of fine-tuning."""
        return self.folder / "history.csv"

    @property
    def best_file(self) -> Path:
        """The network as it was after its best epoch on validation."""
        return self.folder / "checkpoints" / "best.keras"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"

    @property
    def finished(self) -> bool:
        """Whether this training has run to its end."""
        return (self.folder / "metrics.json").exists()

    def history(self) -> pd.DataFrame:
        """Read the history of fine-tuning; its row 0 is the network before it."""
        if not self.history_file.exists():
            return pd.DataFrame(columns=["epoch", "loss", "val_macro_map", "seconds"])
        return pd.read_csv(self.history_file)

    def patience_is_out(self, patience: int) -> bool:
        """Whether validation has not improved for `patience` epochs of fine-tuning."""
        scores = self.history()["val_macro_map"]
        return len(scores) > 0 and len(scores) - 1 - int(scores.argmax()) >= patience

    def part(self, name: str) -> Run:
        """One of this run's further trainings, `PARTS`, in a folder below; one begins all."""
        return Run(self.folder / name, self.settings)

    @property
    def all_parts(self) -> list[Run]:
        """This run and its further trainings."""
        return [self, *map(self.part, PARTS)]

    def begin(self) -> None:
        """Claim the folder for these settings; until then, a mistake leaves no trace in it."""
        for run in self.all_parts:
            run.best_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.settings_file, self.settings)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`, which marks the run as finished, and drop its checkpoints."""
        write_json(self.folder / "metrics.json", metrics)
        for run in self.all_parts:
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
            with suppress(OSError):  # a training that was has left its history
                run.folder.rmdir()
        _unlock(self.folder)

    def checkpoints(self) -> list[Path]:
        """List the checkpoints, the newest first; the number is that of epochs done."""
        return sorted((self.folder / "checkpoints").glob("epoch-*.keras"), reverse=True)

    def resume(self, model: keras.Model) -> tuple[keras.Model, int]:
        """Give the model to go on with and the number of epochs done: `model` and 0 at first.

        A checkpoint brings the optimizer's state along. One that cannot be loaded is passed
        over for the one before, with a line that says so. Several hosts go on from the last
        epoch that all of them have; raises `RunError` when there is none.
        """
        loaded, done = self._load(self.checkpoints()) or (model, 0)
        agreed = min(hosts.gather(done))
        if agreed < done:
            kept = [file for file in self.checkpoints() if _epochs_of(file) == agreed]
            if agreed and not kept:
                raise RunError(
                    f"{self.folder} has no checkpoint of epoch {agreed}, where another host is: "
                    "give RESTART=True on all hosts."
                )
            loaded, done = self._load(kept) or (model, 0)
        if hosts.place()[1] > 1:
            self._forget_after(done)
        return loaded, done

    def _load(self, files: Sequence[Path]) -> tuple[keras.Model, int] | None:
        for file in files:
            try:
                return load_network(file, compile=True), _epochs_of(file)
            except ModelError as error:
                print(f"{file.name} is damaged ({error}); going on from the epoch before it.")
        return None

    def _forget_after(self, epoch: int) -> None:
        """Drop what hosts may know differently: the history and checkpoints after an epoch."""
        for file in self.checkpoints():
            if _epochs_of(file) > epoch:
                file.unlink()
        if epoch == 0:
            self.history_file.unlink(missing_ok=True)
        elif self.history_file.exists():
            with replacing(self.history_file) as temporary:
                self.history().query("epoch <= @epoch").to_csv(temporary, index=False)


def _epochs_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("epoch-"))


def open_run(folder: str | Path, settings: dict[str, Any], restart: bool = False) -> Run:
    """Open an output folder for a training with these settings.

    A folder in which the same training was begun is gone on with; a new one is only looked at
    until `Run.begin`. Raises `RunError` when the folder holds a training with other settings,
    unless `restart`, which throws that one away, when it cannot be written, and when another
    process trains into it.
    """
    run = Run(Path(folder), settings)
    check_writable(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    _lock(run.folder)
    for part in run.all_parts if restart else ():
        shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
        for name in ("head.csv", "history.csv", "metrics.json", "settings.json"):
            (part.folder / name).unlink(missing_ok=True)
    if run.settings_file.exists():
        _check_same(json.loads(run.settings_file.read_text("utf-8")), settings, run.folder)
    _check_hosts_agree(run)
    return run


def _lock(folder: Path) -> None:
    """Keep other processes from training into a folder until `finish`, or this one's end."""
    file = (folder / LOCK_FILE).resolve()
    if file in _held:
        return
    try:
        import fcntl

        opened = open(file, "a")  # noqa: SIM115 - the lock lasts as long as the file is open
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"Another process is training into {folder}: wait for its end, stop it, or give "
            "another OUTPUT_DIR."
        ) from None
    except (ImportError, OSError) as error:  # Windows, or a disk in a network
        print(f"{folder} cannot be locked ({error}): let only one training at a time write to it.")
        return
    _held[file] = opened
    atexit.register(_unlock, folder)


def _unlock(folder: Path) -> None:
    """Let a folder go; one in which nothing was begun goes, too."""
    file = (folder / LOCK_FILE).resolve()
    if file in _held:
        file.unlink(missing_ok=True)
        _held.pop(file).close()
        with suppress(OSError):  # something stands in it
            file.parent.rmdir()


def check_writable(folder: str | Path) -> None:
    """Raise `RunError` unless files can be created in a folder; creates nothing that stays."""
    try:
        files.check_writable(Path(folder))
    except OSError as error:
        raise RunError(
            f"OUTPUT_DIR {str(folder)!r} cannot be written ({error.strerror or error}); "
            "give a folder in which you may create files."
        ) from None


def check_numbers(batch_size: int, limit: int, seed: int) -> None:
    """Raise `ValueError` for numbers that no training could use."""
    for name, number, least in (
        ("BATCH_SIZE", batch_size, 1),
        ("LIMIT", limit, 0),
        ("SEED", seed, 0),
    ):
        if type(number) is not int or number < least:
            raise ValueError(f"{name} is {number!r}: give a whole number of {least} or more.")


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    differing = [
        f"{name} was {old.get(name)!r} and is now {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise RunError(
            f"{folder} holds a training with other settings: {'; '.join(differing)}. Give another "
            "OUTPUT_DIR, or RESTART=True to throw that training away."
        )


def _check_hosts_agree(run: Run) -> None:
    """Raise `RunError` unless all hosts are to do the same: one that is not would wait forever."""
    settings = hashlib.sha256(json.dumps(run.settings, sort_keys=True).encode()).hexdigest()
    if len(set(hosts.gather(int(settings[:7], 16)))) > 1:
        raise RunError(
            "The hosts of this training have different parameters or posters: start the same "
            "command on each, with the same data."
        )
    finished = hosts.gather(run.finished)
    if 0 < sum(finished) < len(finished):
        raise RunError(
            f"This training is finished on host {finished.index(1)}, whose OUTPUT_DIR has the "
            "model, and not on all: there is nothing left to train together. RESTART=True on all "
            "hosts begins anew."
        )


def choose_epochs(epochs: int, model: str, accelerated: bool) -> int:
    """Turn the parameter EPOCHS into a number of epochs of fine-tuning.

    -1 follows the hardware: on a CPU the head alone, on an accelerator 8; the small published
    network, which has no head to train alone, gets the 20 that its authors gave it. Raises
    `ValueError` for other negative numbers and for that network with 0.
    """
    _check_epochs("EPOCHS", epochs)
    if model == "seed_cnn":
        if epochs == 0:
            raise ValueError("seed_cnn has no head to train alone: give EPOCHS of 1 or more.")
        return SEED_CNN_EPOCHS if epochs == -1 else epochs
    return (ACCELERATED_EPOCHS if accelerated else 0) if epochs == -1 else epochs


def choice_of_run(
    folder: str | Path, settings: Mapping[str, Any], choice: str, restart: bool
) -> str:
    """Keep to what a training begun in this folder decided about reading words.

    `"auto"` would be decided anew at each start, and reading is faster the second time. Raises
    `RunError`, before anything is read, where that training had other `settings` than these.
    """
    file = Path(folder) / "settings.json"
    if restart or not file.exists():
        return choice
    begun = json.loads(file.read_text("utf-8"))
    _check_same({name: begun.get(name) for name in settings}, settings, Path(folder))
    return choice if choice != "auto" else ("yes" if begun.get("read_text") else "no")


def choose_word_epochs(epochs: int, accelerated: bool) -> int:
    """Turn the parameter WORD_EPOCHS into epochs of fine-tuning the sentence encoder.

    -1 follows the hardware: on a CPU its head alone, on an accelerator 4. Raises `ValueError`
    for other negative numbers.
    """
    _check_epochs("WORD_EPOCHS", epochs)
    return (ACCELERATED_WORD_EPOCHS if accelerated else 0) if epochs == -1 else epochs


def _check_epochs(name: str, epochs: int) -> None:
    if type(epochs) is not int or epochs < -1:
        raise ValueError(
            f"{name} is {epochs!r}: give a whole number of 0 or more, or -1 to follow the hardware."
        )


def forecast(network: keras.Model, training: int, validation: int, epochs: int) -> str:
    """Say how long a training will take, from the time that this network takes here and now."""
    second = seconds_a_poster(network)
    seconds = second * (training + validation)
    # Forward and backward cost about three times forward alone.
    seconds += epochs * second * (3 * training + validation)
    return (
        f"The network takes {1000 * second:.0f} ms a poster here: about {seconds / 60:.0f} minutes "
        f"for {training} posters" + (f" and {epochs} epochs of fine-tuning." if epochs else ".")
    )


def seconds_a_poster(network: keras.Model, posters: int = 32) -> float:
    """Measure what one poster costs the network in prediction, on this machine, in seconds."""
    rows, batch = _evenly(posters, posters)
    pixels = np.zeros((len(rows), *network.input_shape[1:]), np.uint8)
    network.predict(pixels, batch_size=batch, verbose=0)  # the first call compiles
    start = time.perf_counter()
    network.predict(pixels, batch_size=batch, verbose=0)
    return (time.perf_counter() - start) / len(rows)


def frozen_features(
    backbone: keras.Model, name: str, cache: PixelCache, paths: Sequence[str], batch: int = 32
) -> np.ndarray:
    """Run a backbone over posters once; float32 `(n, features)`.

    The answer is kept beside the pixels, under the `name` of the backbone and a hash of which
    posters it is of.
    """
    posters = hashlib.sha256(os.fsencode("\n".join(paths))).hexdigest()[:12]
    file = cache.file.with_name(f"features-{name}-{posters}-{cache.file.name}")
    if not file.exists():
        batches = PosterBatches(cache, paths, np.zeros((len(paths), 1)), batch)
        features = predict_logits(backbone, batches, "features")
        with replacing(file) as temporary:
            np.save(temporary, features.astype(np.float32))
    return np.load(file)


def fit_head(
    head: keras.Model,
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    log: Path,
) -> None:
    """Train a head on frozen features `(n, features)` of `"train"`; keep its best epoch.

    Best is the highest macro average precision on `"validation"`; when six epochs have not
    raised it, the rest is spared. `log` becomes a CSV with a row an epoch.
    """
    for split, table in features.items():
        if broken := np.flatnonzero(~np.isfinite(table).all(axis=1)).tolist():
            raise RunError(
                f"The frozen network gives no numbers for {len(broken)} {split} posters, such as "
                f"row {broken[0]}: delete the folder cache in OUTPUT_DIR, which may be damaged, or "
                "take another MODEL."
            )
    rows, batch = _evenly(len(labels["train"]), 128)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss)
    patience = keras.callbacks.EarlyStopping(
        "val_macro_map", mode="max", patience=6, restore_best_weights=True
    )
    head.fit(
        features["train"][rows],
        labels["train"][rows].astype("float32"),
        batch_size=batch,
        epochs=HEAD_EPOCHS,
        callbacks=[
            ValidationScore(features["validation"], labels["validation"]),
            patience,
            keras.callbacks.CSVLogger(log),
            Progress("head", "epochs", HEAD_EPOCHS),
        ],
        verbose=0,
    )


def unwatched_head(features: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Train a head on frozen features `(n, features)` with nothing held back; gives its `predict`.

    It learns for a fixed number of epochs, along a cosine.
    """
    keras.utils.set_random_seed(0)
    head = models.build_head(features.shape[1], labels.shape[1])
    rows, batch = _evenly(len(labels), 128)
    steps = UNWATCHED_EPOCHS * -(-len(rows) // batch)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(rate, weight_decay=1e-3), loss)
    head.fit(features[rows], labels[rows].astype("float32"), batch, UNWATCHED_EPOCHS, verbose=0)
    return lambda unseen: predict_logits(head, unseen)


def out_of_fold(
    fit: Callable[[Any, np.ndarray], Callable[[Any], np.ndarray]],
    inputs: np.ndarray | Sequence[str],
    labels: np.ndarray,
) -> np.ndarray:
    """Judge every poster by a model that has not seen it; logits `(n, genres)`.

    In five rounds `fit(inputs, labels)` learns from four fifths, and what it returns gives the
    logits of the last fifth.
    """
    inputs = np.asarray(inputs)
    logits = np.empty(labels.shape, np.float32)
    for unseen in progress.bar(folds(len(labels)), desc="judging unseen posters", unit=" rounds"):
        logits[unseen] = fit(inputs[~unseen], labels[~unseen])(inputs[unseen])
    return logits


def folds(posters: int) -> list[np.ndarray]:
    """Part posters in five; gives each part as a mask `(posters,)`."""
    # In turn, which cuts a table sorted by genre evenly, too.
    return [np.arange(posters) % FOLDS == fold for fold in range(FOLDS)]


def follow_batch(rate: float, batch: int, tuned_at: int) -> float:
    """Give the learning rate for a batch other than the one that `rate` was tuned at.

    Adam's rate grows with the square root of the batch (Malladi et al., "On the SDEs and Scaling
    Rules for Adaptive Gradient Algorithms", 2022).
    """
    return rate * (batch / tuned_at) ** 0.5


def gentle_adam(steps: int, batch: int, tuned_at: int) -> keras.optimizers.Optimizer:
    """Give the optimizer of fine-tuning for a training of so many steps.

    AdamW (Loshchilov and Hutter, 2019) at 5e-5 for batches of `tuned_at`, falling along a cosine
    after a first tenth of warming up, because Adam's first steps are its wildest.
    """
    steps = max(1, steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=0.9 * steps,
        warmup_target=follow_batch(5e-5, batch, tuned_at),
        warmup_steps=0.1 * steps,
    )
    return keras.optimizers.AdamW(rate, weight_decay=1e-2)


def fine_tune(
    run: Run,
    model: keras.Model,
    batches: Callable[[int], Batches],
    epochs: range,
    patience: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train on `batches(epoch)`, until validation has not improved for `patience` epochs.

    Each epoch is a `fit` of its own: order, variations and dropout are drawn from the seed of
    the settings and the epoch alone, so that a killed run goes on as if nothing had happened.
    Raises `RunError` when the loss is no number any more.
    Several hosts train together; raises `hosts.HostError` when one of them ends.
    """
    seeded = SeededDropout(run.settings["seed"])
    several = epochs and hosts.place()[1] > 1
    with hosts.Together(model) if several else nullcontext() as together:
        for epoch in epochs:
            if any(hosts.gather(run.patience_is_out(patience))):
                break
            when = {"initial_epoch": epoch, "epochs": epoch + 1, "shuffle": False}
            data = batches(epoch)
            own = [seeded, StopWhenNotFinite(run, data)]
            if together:
                together.fit(data, own, callbacks, **when)
            else:
                model.fit(data, **when, callbacks=[*own, *callbacks])


class ValidationScore(keras.callbacks.Callback):
    """Adds `val_macro_map`, macro average precision on validation, to each epoch's logs.

    `inputs` is whatever the model predicts from: features, `PosterBatches`, or a list of
    posters' tokens. Stands before the callbacks that read the figure.
    """

    def __init__(self, inputs: np.ndarray | PosterBatches | list, labels: np.ndarray):
        super().__init__()
        self.inputs = inputs
        self.labels = labels

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score the network as it is after this epoch."""
        logs["val_macro_map"] = self.score()

    def score(self) -> float:
        """Predict the validation posters and give their macro average precision."""
        return macro_average_precision(self.labels, predict_logits(self.model, self.inputs))


class Checkpoints(ValidationScore):
    """Keeps the state after each epoch, the best network so far, and the history as a CSV.

    The network before the first epoch counts as epoch 0, so that fine-tuning that harms is not
    kept. Every file is whole at any moment, and an epoch torn off is simply done again.
    """

    def __init__(self, run: Run, inputs: PosterBatches | list, labels: np.ndarray):
        super().__init__(inputs, labels)
        self.run = run

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Score and keep the network as it is before the first epoch."""
        if not len(self.run.history()):
            self._note([], {"epoch": 0, "loss": None, "val_macro_map": self.score(), "seconds": 0})

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock of the epoch."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score and save the network."""
        super().on_epoch_end(epoch, logs)
        before = self.run.history().query("epoch <= @epoch").to_dict("records")
        row = {"epoch": epoch + 1, "loss": logs["loss"], "val_macro_map": logs["val_macro_map"]}
        row["seconds"] = round(time.perf_counter() - self.start, 1)
        self._note(before, row)
        with replacing(self.run.best_file.with_name(f"epoch-{epoch + 1:03d}.keras")) as temporary:
            self.model.save(temporary)
        for old in self.run.checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink()

    def _note(self, before: list[dict], row: dict) -> None:
        """Add a row to the history, and keep the network if it is the best so far."""
        history = pd.DataFrame([*before, row])
        if int(history["val_macro_map"].argmax()) == len(before):
            with replacing(self.run.best_file) as temporary:
                self.model.save(temporary)
        with replacing(self.run.history_file) as temporary:
            history.to_csv(temporary, index=False)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Raises `RunError`, naming the batch's posters, when the loss is no number any more.

    Training on would only spread it over all weights; the best network so far is on disk.
    """

    def __init__(self, run: Run, batches: Batches):
        super().__init__()
        self.run = run
        self.batches = batches

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss of this batch."""
        if not np.isfinite(float(logs["loss"])):
            raise RunError(
                f"The loss is {float(logs['loss'])} after a batch with the posters "
                f"{', '.join(self.batches.posters(batch))}. The training stops; the best network "
                f"so far is {self.run.best_file}. Look at these posters, or try another SEED or a "
                "larger BATCH_SIZE."
            )


def predict_logits(
    network: keras.Model,
    inputs: np.ndarray | PosterBatches | list,
    what: str = "scoring",
) -> np.ndarray:
    """Give a network's answers to features, pixels, or a list of posters' tokens, in order.

    `what` stands at the bar that long work shows.

    Devices share each batch evenly, so the last one is filled up, and the answers are cut.
    """
    if isinstance(inputs, list):
        return run_on_words(network, inputs)
    if isinstance(inputs, PosterBatches):
        bar = Progress(what, "batches", len(inputs))
        answers = network.predict(inputs, callbacks=[bar], verbose=0)
        return answers[: len(inputs.paths)]
    rows, batch = _evenly(len(inputs), 32)
    return network.predict(inputs[rows], batch_size=batch, verbose=0)[: len(inputs)]


def _evenly(count: int, batch: int) -> tuple[np.ndarray, int]:
    """Fill up rows, with the first ones, and a batch's size to what devices can share evenly."""
    devices = environment.replicas() // hosts.place()[1]
    rows = np.resize(np.arange(count), -(-count // devices) * devices)
    return rows, -(-batch // devices) * devices


class Progress(keras.callbacks.Callback):
    """Shows how far the epochs of a `fit` or the batches of a `predict` are."""

    def __init__(self, what: str, unit: str, total: int):
        super().__init__()
        self.options = {"desc": what, "unit": f" {unit}", "total": total}

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start with nothing done."""
        self.bar = progress.bar(**self.options)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Count an epoch."""
        self.bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leave the line as it is."""
        self.bar.close()

    on_predict_begin = on_train_begin
    on_predict_end = on_train_end

    def on_predict_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count a batch."""
        self.bar.update()


class SeededDropout(keras.callbacks.Callback):
    """Makes an epoch's dropout depend on `(seed, epoch)` alone.

    As a callback, because on PyTorch `fit` itself draws before its first epoch begins, but only
    when the model is new.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the states that this epoch's dropout draws from."""
        seed_dropout(self.model, self.seed, epoch)


def seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Make what dropout draws next depend on `(seed, epoch)` alone.

    A layer draws from a state of its own, which Keras does not put into a checkpoint; on PyTorch
    it draws from the backend's one state instead.
    """
    if keras.backend.backend() == "torch":
        keras.utils.set_random_seed(int(np.random.default_rng((seed, epoch)).integers(2**31)))
    dropouts = [layer for layer in _all_layers(model) if isinstance(layer, keras.layers.Dropout)]
    for place, layer in enumerate(dropouts):
        draw = np.random.default_rng((seed, epoch, place)).integers(2**31, size=2)
        layer.seed_generator.state.assign(draw.astype("uint32"))


def _all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
