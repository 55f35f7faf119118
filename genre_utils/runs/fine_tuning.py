"""Training that can be resumed: the fit of a head, and the epochs of a whole network.

Both are Keras' `fit`; what stands here are its options. A fit that is done has left its weights,
and is not done again: there are no epochs left, and the network gets these weights.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pandas as pd

from genre_utils import models
from genre_utils.batches import Batches, PosterBatches
from genre_utils.runs import hosts
from genre_utils.runs.folder import HEAD_CSV, Run
from genre_utils.runs.steps import SeededLayers, StopWhenNotFinite
from genre_utils.support import progress, replacing
from genre_utils.training import ValidationScore, even_rows

# Two checkpoints are kept: should the newest be damaged, the one before still is a whole epoch.
KEPT_CHECKPOINTS = 2
HEAD_EPOCHS, HEAD_BATCH, HEAD_PATIENCE = 60, 128, 6


def head_fit(
    run: Run, head: keras.Model, features: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the options of a head's `fit` on frozen features of `"train"`, `(n, features)`.

    Its best epoch is kept, by macro average precision on `"validation"`; when six epochs have not
    raised it, the rest is spared. `run` gets `head.csv`, with a row an epoch.
    """
    rows, batch = even_rows(len(labels["train"]), HEAD_BATCH)
    options = {"x": features["train"][rows], "y": labels["train"][rows].astype("float32")}
    options |= {"batch_size": batch, "epochs": HEAD_EPOCHS, "verbose": 0}
    if run.head_file.exists():
        run.load(head, run.head_file)
        return options | {"initial_epoch": HEAD_EPOCHS}
    patience = keras.callbacks.EarlyStopping(
        "val_macro_map", mode="max", patience=HEAD_PATIENCE, restore_best_weights=True
    )
    bar = progress.bar(total=HEAD_EPOCHS, desc="head", unit=" epochs")
    callbacks = [
        ValidationScore(features["validation"], labels["validation"]),
        patience,
        keras.callbacks.CSVLogger(run.folder / HEAD_CSV),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: bar.update(), on_train_end=lambda _: progress.close(bar)
        ),
        # After what restores the best weights; the head goes on with what was saved.
        keras.callbacks.LambdaCallback(on_train_end=lambda _: run.save(head, run.head_file)),
    ]
    return options | {"callbacks": callbacks}


def epochs(
    run: Run,
    network: keras.Model,
    batches: Callable[[int], Batches],
    count: int,
    validation: tuple[PosterBatches | list, np.ndarray],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    patience: int | None = None,
) -> Iterator[tuple[keras.Model | hosts.MultiHostFit, Batches, dict[str, Any]]]:
    """Go through the epochs of a compiled network that are still to be done.

    Yields for each what is to be fitted, `batches(epoch)`, and the options of `fit`. Epochs end
    early when `validation`, inputs and labels, has not improved for `patience` of them: by default
    two of a pretrained network, and never for one that learns from its first weight. In the end
    the network has the weights of its best epoch.

    Each epoch is a `fit` of its own: order, variations and dropout are drawn from the seed of
    the settings and the epoch alone, so that a killed run goes on as if nothing had happened.
    `fit` raises `ValueError` when the loss is no number any more, and when one of several hosts
    ends.
    """
    if not count:
        return
    if all(hosts.gather(run.network_file.exists())):
        run.load(network, run.network_file)
        return
    patience = patience or (2 if models.is_pretrained(network) else count)
    run.forget_torn()
    done = run.resume(network)
    keep = Checkpoints(run, *validation)
    shown = {"desc": f"fine-tuning {run.folder.name}", "unit": " epochs", "delay": 0}
    bar = progress.bar(total=count, initial=done, **shown)
    several = hosts.processes()[1] > 1
    with hosts.MultiHostFit(network) if several else nullcontext(network) as fitted:
        for epoch in range(done, count):
            scores = run.history()["val_macro_map"]
            stale = len(scores) > 0 and len(scores) - 1 - int(scores.argmax()) >= patience
            if any(hosts.gather(stale)):
                break
            data = batches(epoch)
            own = [SeededLayers(run.settings["seed"]), StopWhenNotFinite(run.best_file, data)]
            when = {"initial_epoch": epoch, "epochs": epoch + 1, "shuffle": False, "verbose": 0}
            yield fitted, data, when | {"callbacks": [*own, keep, *callbacks]}
            bar.set_postfix({"macro mAP": run.history()["val_macro_map"].iloc[-1]}, refresh=False)
            bar.update()
    progress.close(bar)
    network.load_weights(run.best_file)
    run.save(network, run.network_file)


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
