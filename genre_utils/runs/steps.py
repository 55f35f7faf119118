"""What watches a training step by step: repeatable dropout, and losses that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from genre_utils.batches import Batches


class StopWhenNotFinite(keras.callbacks.Callback):
    """Raises `ValueError`, naming the batch's posters, when the loss is no number any more.

    Training on would only spread it over all weights; the best network so far is on disk.
    """

    def __init__(self, best_file: Path, batches: Batches):
        super().__init__()
        self.best_file = best_file
        self.batches = batches

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss of this batch."""
        if not np.isfinite(float(logs["loss"])):
            raise ValueError(
                f"The loss is {float(logs['loss'])} after a batch with the posters "
                f"{', '.join(self.batches.posters(batch))}. The training stops; the best network "
                f"so far is {self.best_file}. Look at these posters, or try another SEED or a "
                "larger BATCH_SIZE."
            )


class SeededDropout(keras.callbacks.Callback):
    """Makes an epoch's dropout depend on `(seed, epoch)` alone.

    A layer draws from a state of its own, which Keras does not put into a checkpoint; on PyTorch
    it draws from the backend's one state instead. As a callback, because on PyTorch `fit` itself
    draws before its first epoch begins, but only when the model is new.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the states that this epoch's dropout draws from."""
        seed = self.seed, epoch
        if keras.backend.backend() == "torch":
            keras.utils.set_random_seed(int(np.random.default_rng(seed).integers(2**31)))
        layers = _all_layers(self.model)
        dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
        for place, layer in enumerate(dropouts):
            draw = np.random.default_rng((*seed, place)).integers(2**31, size=2)
            layer.seed_generator.state.assign(draw.astype("uint32"))


def _all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
