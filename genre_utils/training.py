"""What training needs beside Keras: features, heads, optimizers and scores."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from genre_utils import machine, models
from genre_utils.batches import PixelCache, PosterBatches
from genre_utils.evaluation import macro_average_precision
from genre_utils.networks import run_on_words
from genre_utils.support import progress, replacing

ACCELERATED_EPOCHS = 8
ACCELERATED_WORD_EPOCHS = 4
SEED_CNN_EPOCHS = 20
HEAD_EPOCHS = 60
# Of a head that no validation stops; more would make it surer of its posters than of others.
UNWATCHED_EPOCHS = 25
FOLDS = 5


class RunError(ValueError):
    """A training that cannot go on, or an output folder that cannot be used as asked."""


def check_numbers(batch_size: int, limit: int, seed: int) -> None:
    """Raise `ValueError` for numbers that no training could use."""
    for name, number, least in (
        ("BATCH_SIZE", batch_size, 1),
        ("LIMIT", limit, 0),
        ("SEED", seed, 0),
    ):
        if type(number) is not int or number < least:
            raise ValueError(f"{name} is {number!r}: give a whole number of {least} or more.")


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
    devices = machine.replicas() // machine.process_count()
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
