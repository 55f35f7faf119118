"""Several hosts train one network: each runs the same notebook, and they meet in each step.

Each host keeps a whole run in a folder of its own, so that no disk need be shared, and only the
steps of fine-tuning are common work. On one host nothing of this is felt. Keras does it on JAX.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from genre_utils.batches import Batches
from genre_utils.machine import processes
from genre_utils.runs.steps import SeededLayers, StopWhenNotFinite

# What is said when a host has gone; each host knows how many epochs it has finished.
GONE = (
    "This training has lost one of its hosts, and ends. Start the same command on all hosts: it "
    "goes on after its last finished epoch."
)

# How XLA's errors begin. This host's own (out of memory, invalid argument) are left out.
LOST = re.compile("(?!RESOURCE_EXHAUSTED|INVALID_ARGUMENT)[A-Z_]+: ")

# When the first host has gone, JAX ends the others at once, from outside of Python. A process
# that outlives this one then says why: it waits for the end, and is told of an orderly one.
WATCHER = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"


def own_folder(folder: str | os.PathLike) -> Path:
    """Return this host's part of an output folder: the folder itself on the first host."""
    number, _ = processes()
    return Path(folder) / f"host-{number}" if number else Path(folder)


def gather(value: int) -> list[int]:
    """Ask all hosts for a whole number and return the answers in the hosts' order.

    Each host waits here for the others; raises `ValueError` when one has ended.
    """
    if processes()[1] == 1:
        return [value]
    from jax.experimental import multihost_utils

    with _ends_in_a_sentence():
        return np.ravel(multihost_utils.process_allgather(np.asarray(value))).tolist()


class MultiHostFit:
    """A compiled network that all hosts train, beside the copy that each host keeps to itself.

    Predictions, checkpoints and their files are the business of `local_model`, the copy; it has the
    weights and the optimizer's state of `model` after each call of `fit`. Use it in `with`.
    """

    def __init__(self, local_model: keras.Model):
        self.local_model = local_model
        self.data_parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
        # Through a file, as from a checkpoint: it holds the optimizer's state as well.
        local_model.optimizer.build(local_model.trainable_variables)
        with tempfile.TemporaryDirectory() as folder, self.data_parallel.scope():
            local_model.save(Path(folder) / "network.keras")
            self.model = keras.saving.load_model(Path(folder) / "network.keras")

    def __enter__(self) -> MultiHostFit:
        command = [sys.executable, "-c", WATCHER, GONE]
        self.watcher = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.watcher.poll() is None:
            self.watcher.communicate("an orderly end")

    def fit(
        self, batches: Batches, callbacks: Sequence[keras.callbacks.Callback], **options: int
    ) -> None:
        """Train one epoch on this host's share of each batch; `options` are those of Keras' `fit`.

        Callbacks that look at each step act on the network that all train; the others, which save
        and score, on `local_model`.
        """
        batches.share = processes()
        each_step = SeededLayers, StopWhenNotFinite
        common = [callback for callback in callbacks if isinstance(callback, each_step)]
        own = [callback for callback in callbacks if callback not in common]
        own = keras.callbacks.CallbackList(own, model=self.local_model)
        own.on_train_begin()
        own.on_epoch_begin(options["initial_epoch"])
        try:
            with self.data_parallel.scope(), _ends_in_a_sentence():
                history = self.model.fit(batches, callbacks=common, **options).history
                # JAX only promises results: a host that has gone is felt when they are fetched.
                weights = self.model.get_weights()
                state = [np.asarray(variable) for variable in self.model.optimizer.variables]
        except ValueError:
            self.__exit__()  # said here, not by the watcher once more
            raise
        self.local_model.set_weights(weights)
        for variable, value in zip(self.local_model.optimizer.variables, state, strict=True):
            variable.assign(value)
        logs = {name: values[-1] for name, values in history.items()}
        own.on_epoch_end(options["initial_epoch"], logs)
        own.on_train_end()


@contextmanager
def _ends_in_a_sentence() -> Iterator[None]:
    """Turn what JAX says when a host has gone, pages of its inside, into what to do."""
    from jax.errors import JaxRuntimeError

    try:
        yield
    # While a step is being handed out, JAX turns the same words into a ValueError.
    except (JaxRuntimeError, ValueError) as error:
        if not LOST.match(str(error)):
            raise
        raise ValueError(GONE) from None
