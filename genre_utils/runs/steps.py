"""What watches a training step by step: repeatable draws, and losses that are no numbers."""

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


class SeededLayers(keras.callbacks.Callback):
    """Makes what an epoch draws, as for dropout, depend on `(seed, epoch)` alone.

    A layer draws from a state of its own, which Keras does not put into a checkpoint; on PyTorch
    it draws from the backend's one state instead. As a callback, because on PyTorch `fit` itself
    draws before its first epoch begins, but only when the model is new.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the states that this epoch draws from."""
        seed = self.seed, epoch
        if keras.backend.backend() == "torch":
            keras.utils.set_random_seed(int(np.random.default_rng(seed).integers(2**31)))
        states = [one for one in self.model.variables if one.name == "seed_generator_state"]
        for place, state in enumerate(states):
            draw = np.random.default_rng((*seed, place)).integers(2**31, size=2)
            state.assign(draw.astype("uint32"))
