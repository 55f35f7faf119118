"""What training needs beside Keras: features of a backbone, optimizers, the validation score."""

import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from genre_utils import images, machine, models, networks
from genre_utils.batches import PixelCache, PosterBatches
from genre_utils.evaluation import macro_average_precision
from genre_utils.support import progress


def shown_size(size: tuple[int, int], augmented: bool, epochs: int) -> tuple[int, int]:
    """Return (height, width) of whole posters for networks trained at `size`.

    They are larger for networks that were fine-tuned on crops; see `images.enlarged`.
    """
    return images.enlarged(size) if augmented and epochs else size


def frozen_features(
    backbone: keras.Model,
    cache: PixelCache,
    paths: Mapping[str, Sequence[str]],
    splits: Sequence[str] = ("train", "validation"),
) -> dict[str, np.ndarray]:
    """Return the features that a backbone computes of posters, float32 `(n, features)` by split.

    `paths` are those of each split. Raises `ValueError` where features are not finite.
    """
    features = {}
    for split in splits:
        posters = PosterBatches(cache, paths[split], np.zeros((len(paths[split]), 1)))
        features[split] = predict_logits(backbone, posters, f"features of {split}")
        if broken := np.flatnonzero(~np.isfinite(features[split]).all(axis=1)).tolist():
            raise ValueError(
                f"The frozen network gives no numbers for {len(broken)} {split} posters, such as "
                f"{os.path.basename(paths[split][broken[0]])}: take another MODEL."
            )
    return features


def choose_optimizer(network: keras.Model, steps: int, batch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer for a network's training of `steps` steps with `batch` rows each.

    A pretrained network gets `finetune_optimizer`. One with random weights gets plain Adam, as the
    authors of the published network trained theirs.
    """
    if models.is_pretrained(network):
        return finetune_optimizer(steps, batch, 16 if models.has_backbone(network) else 32)
    return keras.optimizers.Adam(scale_learning_rate(1e-3, batch, tuned_at=32))


def scale_learning_rate(rate: float, batch: int, tuned_at: int) -> float:
    """Return the learning rate for batches of `batch` rows; `rate` is that for `tuned_at` rows.

    Adam's rate grows with the square root of the batch (Malladi et al., "On the SDEs and Scaling
    Rules for Adaptive Gradient Algorithms", 2022).
    """
    return rate * (batch / tuned_at) ** 0.5


def finetune_optimizer(steps: int, batch: int, tuned_at: int) -> keras.optimizers.Optimizer:
    """Return the optimizer that fine-tunes a network in `steps` steps with `batch` rows each.

    It is AdamW (Loshchilov and Hutter, 2019) at a rate of 5e-5 for batches of `tuned_at` rows. The
    rate rises over the first tenth of the steps, because Adam's first steps are too large, then
    falls along a cosine.
    """
    steps = max(1, steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=0.9 * steps,
        warmup_target=scale_learning_rate(5e-5, batch, tuned_at),
        warmup_steps=0.1 * steps,
    )
    return keras.optimizers.AdamW(rate, weight_decay=1e-2)


class ValidationScore(keras.callbacks.Callback):
    """Adds `val_macro_map`, macro average precision on validation, to each epoch's logs.

    `inputs` are those of `predict_logits`, `labels` multi-hot `(n, genres)`. Put it before the
    callbacks that read the figure.
    """

    def __init__(self, inputs: np.ndarray | PosterBatches | list, labels: np.ndarray):
        super().__init__()
        self.inputs = inputs
        self.labels = labels

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score the network as it is after this epoch."""
        logs["val_macro_map"] = self.score()

    def score(self) -> float:
        """Predict the validation posters and return their macro average precision."""
        return macro_average_precision(self.labels, predict_logits(self.model, self.inputs))


def predict_logits(
    network: keras.Model,
    inputs: np.ndarray | PosterBatches | list,
    what: str = "scoring",
) -> np.ndarray:
    """Return a network's outputs, float32 `(n, outputs)`, in the order of `inputs`.

    `inputs` are features `(n, features)`, batches of pixels, or a list of int arrays, the tokens of
    each poster. `what` is the name of the progress bar.
    """
    if isinstance(inputs, list):
        return networks.run_on_words(network, inputs)
    if isinstance(inputs, PosterBatches):
        bar = progress.bar(total=len(inputs), desc=what, unit=" batches")
        count = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda *_, **__: bar.update())
        outputs = network.predict(inputs, callbacks=[count], verbose=0)
        progress.close(bar)
        outputs = outputs[: len(inputs.paths)]  # the last batch is filled up
    else:
        rows, batch = even_rows(len(inputs), 32)
        outputs = network.predict(inputs[rows], batch_size=batch, verbose=0)[: len(inputs)]
    return outputs.astype(np.float32)  # an accelerator may give bfloat16


def even_rows(count: int, batch: int) -> tuple[np.ndarray, int]:
    """Return rows, int `(k,)`, and a batch's size that this host's devices can share evenly.

    The rows are `range(count)`, then as many of the first ones as are missing.
    """
    devices = machine.replicas() // machine.processes()[1]
    rows = np.resize(np.arange(count), -(-count // devices) * devices)
    return rows, -(-batch // devices) * devices
