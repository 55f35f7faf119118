"""Train a small network on flat pictures, as the train notebook does: run by tests, on any backend.

    python tests/train_small.py FOLDER EPOCHS BATCH_SIZE

Writes FOLDER/history.csv, of the first host.
"""

import os
import sys
from pathlib import Path

from genre_utils import machine

folder, epochs, batch_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
machine.choose_backend()
print(machine.connect(), flush=True)

import keras  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from genre_utils import batches, models, runs  # noqa: E402

POSTERS, SIDE = 32, 80

keras.utils.set_random_seed(0)
own = runs.own_folder(folder)
pictures = own / "pictures"
pictures.mkdir(parents=True, exist_ok=True)
shades = np.random.default_rng(0).integers(0, 100, POSTERS) + 120 * (np.arange(POSTERS) % 2)
for i, shade in enumerate(shades):
    Image.fromarray(np.full((SIDE, SIDE, 3), shade, np.uint8)).save(pictures / f"{i}.png")
paths = [str(pictures / f"{i}.png") for i in range(POSTERS)]
labels = np.eye(2)[np.arange(POSTERS) % 2]

batch = batch_size * machine.replicas()
run = runs.open_run(own, {"seed": 0, "batch": batch})
cache = batches.fill_cache(paths, (SIDE, SIDE), run.folder / "cache")
run.begin()
model = models.build_model("seed_cnn", SIDE, ("dark", "bright"))
model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
validation = batches.PosterBatches(cache, paths, labels, batch)


def batches_of(epoch: int) -> batches.PosterBatches:
    return batches.PosterBatches(cache, paths, labels, batch, 0, epoch, augmented=True)


try:
    for fitted, data, options in runs.epochs(run, model, batches_of, epochs, (validation, labels)):
        print(f"going on after {options['initial_epoch']} epochs", flush=True)
        fitted.fit(data, **options)
except ValueError as error:
    print(f"ended: {error}", flush=True)
    # Not sys.exit: JAX would wait for the host that has gone.
    os._exit(3)
