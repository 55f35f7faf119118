"""What training needs beside Keras: features, optimizers, scores, repeatable dropout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from genre_utils import images, machine, models, networks
from genre_utils.batches import PixelCache, PosterBatches
from genre_utils.evaluation import macro_average_precision
from genre_utils.support import progress, replacing


def shown_size(size: tuple[int, int], augmented: bool, epochs: int) -> tuple[int, int]:
    """Return the size at which whole posters are shown, for networks trained at `size`.

    Those that were fine-tuned on crops see posters enlarged (Touvron et al., "Fixing the
    train-test resolution discrepancy", 2019).
    """
    return images.enlarged(size) if augmented and epochs else size


def frozen_features(
    backbone: keras.Model,
    name: str,
    cache: PixelCache,
    paths: Mapping[str, Sequence[str]],
    batch: int = 32,
    splits: Sequence[str] = ("train", "validation"),
) -> dict[str, np.ndarray]:
    """Run a backbone over the posters of some splits once; float32 `(n, features)` by split.

    The features are kept beside the pixels, under the `name` of the backbone and a hash of which
    posters they are of. Raises `ValueError` where they are no finite numbers.
    """
    features = {}
    for split in splits:
        posters = hashlib.sha256(os.fsencode("\n".join(paths[split]))).hexdigest()[:12]
        file = cache.file.with_name(f"features-{name}-{posters}-{cache.file.name}")
        if not file.exists():
            whole = PosterBatches(cache, paths[split], np.zeros((len(paths[split]), 1)), batch)
            table = predict_logits(backbone, whole, f"features of {split}")
            with replacing(file) as temporary:
                np.save(temporary, table.astype(np.float32))
        features[split] = np.load(file)
        if broken := np.flatnonzero(~np.isfinite(features[split]).all(axis=1)).tolist():
            raise ValueError(
                f"The frozen network gives no numbers for {len(broken)} {split} posters, such as "
                f"{os.path.basename(paths[split][broken[0]])}: delete the folder cache in "
                "OUTPUT_DIR, which may be damaged, or take another MODEL."
            )
    return features


def choose_optimizer(network: keras.Model, steps: int, batch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a network's epochs, for so many steps of batches of this size.

    What is pretrained gets `finetune_optimizer`. A network that learns from its first weight gets
    plain Adam, as the authors of the published one trained it.
    """
    if models.is_pretrained(network):
        return finetune_optimizer(steps, batch, 16 if models.has_backbone(network) else 32)
    return keras.optimizers.Adam(scale_learning_rate(1e-3, batch, tuned_at=32))


def scale_learning_rate(rate: float, batch: int, tuned_at: int) -> float:
    """Return the learning rate for a batch other than the one that `rate` was tuned at.

    Adam's rate grows with the square root of the batch (Malladi et al., "On the SDEs and Scaling
    Rules for Adaptive Gradient Algorithms", 2022).
    """
    return rate * (batch / tuned_at) ** 0.5


def finetune_optimizer(steps: int, batch: int, tuned_at: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of fine-tuning for a training of so many steps.

    AdamW (Loshchilov and Hutter, 2019) at 5e-5 for batches of `tuned_at`, falling along a cosine
    after a first tenth of warming up, because Adam's first steps are its wildest.
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
        """Predict the validation posters and return their macro average precision."""
        return macro_average_precision(self.labels, predict_logits(self.model, self.inputs))


def predict_logits(
    network: keras.Model,
    inputs: np.ndarray | PosterBatches | list,
    what: str = "scoring",
) -> np.ndarray:
    """Return a network's outputs `(n, outputs)`, float32, in the order of `inputs`.

    These are features `(n, features)`, batches of pixels, or a list of posters' tokens. `what`
    stands at the bar that long work shows. Devices share each batch evenly, so the last one is
    filled up, and the outputs are cut.
    """
    if isinstance(inputs, list):
        return networks.run_on_words(network, inputs)
    if isinstance(inputs, PosterBatches):
        bar = Progress(what, "batches", len(inputs))
        answers = network.predict(inputs, callbacks=[bar], verbose=0)
        return answers[: len(inputs.paths)]
    rows, batch = even_rows(len(inputs), 32)
    return network.predict(inputs[rows], batch_size=batch, verbose=0)[: len(inputs)]


def even_rows(count: int, batch: int) -> tuple[np.ndarray, int]:
    """Return row numbers and a batch's size that this host's devices can share evenly.

    The rows are `range(count)`, filled up with the first ones.
    """
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
