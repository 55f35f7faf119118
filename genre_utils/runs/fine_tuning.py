"""Epochs of fine-tuning that a killed training goes on with as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import keras
import numpy as np
import pandas as pd

from genre_utils.batches import Batches, PosterBatches
from genre_utils.runs import hosts
from genre_utils.runs.folder import Run
from genre_utils.support import replacing
from genre_utils.training import RunError, SeededDropout, ValidationScore

# Two checkpoints are kept: should the newest be damaged, the one before still is a whole epoch.
KEPT_CHECKPOINTS = 2


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
    several = epochs and hosts.process_count() > 1
    with hosts.MultiHostFit(model) if several else nullcontext() as together:
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
