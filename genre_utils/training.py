"""What training needs beside Keras: a resumable output folder, features, scores, checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from genre_utils.evaluation import macro_average_precision
from genre_utils.files import make_writable, replacing, write_json
from genre_utils.pipeline import PixelCache, PosterBatches
from genre_utils.tokenizing import run_on_words

# Two checkpoints are kept: should the newest be damaged, the one before still is a whole epoch.
KEPT_CHECKPOINTS = 2

ACCELERATED_EPOCHS = 8
ACCELERATED_WORD_EPOCHS = 4
SEED_CNN_EPOCHS = 20


class RunError(ValueError):
    """An output folder that cannot be used as asked."""


@dataclass(frozen=True)
class Run:
    """One training in one folder; everything that it writes is below `folder`."""

    folder: Path
    settings: dict[str, Any]

    @property
    def cache(self) -> Path:
        """The folder of decoded posters and features; it may be deleted at any time."""
        return self.folder / "cache"

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

    @property
    def words(self) -> Run:
        """The part of this run that trains on words, in a folder below; one begins both."""
        return Run(self.folder / "words", self.settings)

    def begin(self) -> None:
        """Claim the folder for these settings; until then, a mistake leaves no trace in it."""
        for run in (self, self.words):
            run.best_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.settings_file, self.settings)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`, which marks the run as finished, and drop its checkpoints."""
        write_json(self.folder / "metrics.json", metrics)
        for run in (self, self.words):
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)

    def checkpoints(self) -> list[Path]:
        """List the checkpoints, the newest first; the number is that of epochs done."""
        return sorted((self.folder / "checkpoints").glob("epoch-*.keras"), reverse=True)

    def resume(self, model: keras.Model) -> tuple[keras.Model, int]:
        """Give the model to go on with and the number of epochs done: `model` and 0 at first.

        A checkpoint brings the optimizer's state along. One that cannot be loaded is passed
        over for the one before, with a line that says so.
        """
        for file in self.checkpoints():
            try:
                return keras.saving.load_model(file), int(file.stem.removeprefix("epoch-"))
            except Exception as error:  # a torn file fails anywhere in the reader
                print(f"{file.name} is damaged ({error}); going on from the epoch before it.")
        return model, 0


def open_run(folder: str | Path, settings: dict[str, Any], restart: bool = False) -> Run:
    """Open an output folder for a training with these settings.

    A folder in which the same training was begun is gone on with; a new one is only looked at
    until `Run.begin`. Raises `RunError` when the folder holds a training with other settings,
    unless `restart`, which throws that one away, and when it cannot be written.
    """
    run = Run(Path(folder), settings)
    check_writable(run.folder)
    for part in (run, run.words) if restart else ():
        shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
        for name in ("head.csv", "second_head.csv", "history.csv", "metrics.json", "settings.json"):
            (part.folder / name).unlink(missing_ok=True)
    if run.settings_file.exists():
        _check_same(json.loads(run.settings_file.read_text("utf-8")), settings, run.folder)
    return run


def check_writable(folder: str | Path) -> None:
    """Create a folder and raise `RunError` unless files can be created in it."""
    try:
        make_writable(Path(folder))
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
        if not isinstance(number, int) or number < least:
            raise ValueError(f"{name} is {number!r}: give a whole number of {least} or more.")


def _check_same(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
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


def choose_epochs(epochs: int, model: str, accelerated: bool) -> int:
    """Turn the parameter EPOCHS into a number of epochs of fine-tuning.

    -1 follows the hardware: on a CPU the head alone, on an accelerator 8; the small published
    network, which has no head to train alone, gets the 20 that its authors gave it. Raises
    `ValueError` for other negative numbers and for that network with 0.
    """
    if epochs < -1:
        raise ValueError(f"EPOCHS is {epochs}: give 0 or more, or -1 to follow the hardware.")
    if model == "seed_cnn":
        if epochs == 0:
            raise ValueError("seed_cnn has no head to train alone: give EPOCHS of 1 or more.")
        return SEED_CNN_EPOCHS if epochs == -1 else epochs
    return (ACCELERATED_EPOCHS if accelerated else 0) if epochs == -1 else epochs


def choice_of_run(folder: str | Path, choice: str, restart: bool) -> str:
    """Keep to what a training begun in this folder decided about reading words.

    `"auto"` would be decided anew at each start, and reading is faster the second time.
    """
    settings = Path(folder) / "settings.json"
    if choice != "auto" or restart or not settings.exists():
        return choice
    return "yes" if json.loads(settings.read_text("utf-8")).get("read_text") else "no"


def choose_word_epochs(epochs: int, accelerated: bool) -> int:
    """Turn the parameter WORD_EPOCHS into epochs of fine-tuning the sentence encoder.

    -1 follows the hardware: on a CPU its head alone, on an accelerator 4. Raises `ValueError`
    for other negative numbers.
    """
    if epochs < -1:
        raise ValueError(f"WORD_EPOCHS is {epochs}: give 0 or more, or -1 to follow the hardware.")
    return (ACCELERATED_WORD_EPOCHS if accelerated else 0) if epochs == -1 else epochs


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
    pixels = np.zeros((posters, *network.input_shape[1:]), np.uint8)
    network.predict_on_batch(pixels)  # the first call compiles
    start = time.perf_counter()
    network.predict_on_batch(pixels)
    return (time.perf_counter() - start) / posters


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
        features = np.empty((len(paths), backbone.output_shape[-1]), np.float32)
        starts = range(0, len(paths), batch)
        for start in tqdm(starts, desc="features", unit=" batches", delay=3, mininterval=1):
            rows = slice(start, start + batch)
            features[rows] = backbone.predict_on_batch(cache.pixels(paths[rows]))
        with replacing(file) as temporary:
            np.save(temporary, features)
    return np.load(file)


def fit_head(
    head: keras.Model,
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    log: Path,
) -> None:
    """Train a head on frozen features `(n, features)` of `"train"`; keep its best epoch.

    Best is the highest macro average precision on `"validation"`; when six epochs have not
    raised it, the rest of 60 is spared. `log` becomes a CSV with a row an epoch.
    """
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss)
    patience = keras.callbacks.EarlyStopping(
        "val_macro_map", mode="max", patience=6, restore_best_weights=True
    )
    head.fit(
        features["train"],
        labels["train"].astype("float32"),
        batch_size=128,
        epochs=60,
        callbacks=[
            ValidationScore(features["validation"], labels["validation"]),
            patience,
            keras.callbacks.CSVLogger(log),
        ],
        verbose=0,
    )


def gentle_adam(steps: int) -> keras.optimizers.Optimizer:
    """Give the optimizer of fine-tuning for a training of so many steps.

    AdamW (Loshchilov and Hutter, 2019) at 5e-5, falling along a cosine after a first tenth of
    warming up, because Adam's first steps are its wildest.
    """
    steps = max(1, steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=0.9 * steps, warmup_target=5e-5, warmup_steps=0.1 * steps
    )
    return keras.optimizers.AdamW(rate, weight_decay=1e-2)


def fine_tune(
    run: Run,
    model: keras.Model,
    batches: Callable[[int], keras.utils.PyDataset],
    epochs: range,
    patience: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train on `batches(epoch)`, until validation has not improved for `patience` epochs.

    Each epoch is a `fit` of its own: order, variations and dropout are drawn from the seed of
    the settings and the epoch alone, so that a killed run goes on as if nothing had happened.
    """
    for epoch in epochs:
        if run.patience_is_out(patience):
            break
        when = {"initial_epoch": epoch, "epochs": epoch + 1, "shuffle": False}
        seeded = SeededDropout(run.settings["seed"])
        model.fit(batches(epoch), **when, callbacks=[seeded, *callbacks])


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


def predict_logits(network: keras.Model, inputs: np.ndarray | PosterBatches | list) -> np.ndarray:
    """Give a network's logits for features, pixels, or a list of posters' tokens, in order."""
    if isinstance(inputs, list):
        return run_on_words(network, inputs)
    return network.predict(inputs, verbose=0)


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
