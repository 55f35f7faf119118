# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train: teach a network to tell genres from posters
#
# At the end of this notebook you have a folder with a trained model, and an honest report of what
# it can tell from a poster alone. It reads a folder of posters, trains a small head on a network
# that knows pictures from ImageNet, and, where the hardware allows, fine-tunes the whole.

# %% [markdown]
# The set-up cell finds the package beside this notebook, or fetches it when the notebook was
# opened alone; it installs only what is missing and says what will compute:

# %%
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = ""  # address of the repository to clone when this notebook was opened alone
places = [Path.cwd(), *Path.cwd().parents, Path("poster-genres")]
if not any((place / "genre_utils").is_dir() for place in places):
    if not REPOSITORY:
        raise SystemExit("Write the repository's address into REPOSITORY, or upload genre_utils/.")
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "poster-genres"], check=True)
root = next(place for place in places if (place / "genre_utils").is_dir()).resolve()
sys.path.insert(0, str(root))
if Path.cwd() == root / "notebooks":  # as Jupyter starts; data/ and outputs/ are one up
    os.chdir(root)

from genre_utils import environment

print(environment.prepare())

# %% [markdown]
# Everything you may want to change stands in the next cell. With papermill the same names are
# options: `papermill notebooks/train.ipynb outputs/train.ipynb -p IMG_SIZE 250`.

# %% tags=["parameters"]
DATA: str = ""  # folder or CSV of posters; empty: found or downloaded; "sample": drawn posters
MODEL: str = "efficientnet_lite2"  # network; see genre_utils.models.MODELS for all names
IMG_SIZE: int = 272  # width of the network's input, pixels, 64 to 1024
IMG_SHAPE: str = "portrait"  # "portrait": 1.47 times as high as wide; "square": squeezed
EPOCHS: int = -1  # epochs of fine-tuning; 0: the head alone; -1: 0 on a CPU, else 8
BATCH_SIZE: int = 16  # posters a step in fine-tuning, 1 or more
LIMIT: int = 0  # at most this many posters, drawn at random; 0: all
SEED: int = 0  # seed of every random choice
OUTPUT_DIR: str = "outputs/model"  # folder for the model, its figures and caches
RESTART: bool = False  # True: throw away another training in OUTPUT_DIR
TENSORBOARD: bool = False  # True: also write TensorBoard logs to OUTPUT_DIR/tensorboard

# %% [markdown]
# What follows from the parameters is checked before any long work begins. Sizes are (height,
# width) everywhere:

# %%
import keras
import numpy as np
import pandas as pd
from scipy.special import expit

from genre_utils import dataset, evaluation, images, models, pipeline, plots, sources, training
from genre_utils.model_folder import add_metrics, save_model
from genre_utils.predictor import Predictor

size = images.poster_size(IMG_SIZE, IMG_SHAPE)
models.check_model(MODEL, size)
training.check_numbers(BATCH_SIZE, LIMIT, SEED)
epochs = training.choose_epochs(EPOCHS, MODEL, bool(environment.accelerators()))
keras.utils.set_random_seed(SEED)
plots.use_style()
print(f"{MODEL} at {size[0]} × {size[1]} pixels (height × width), {epochs} epochs of fine-tuning")

# %% [markdown]
# ## The posters
#
# First the data: a path you gave, or the place where they were found. No data and no internet
# is no reason to stop, the package draws a sample then:

# %%
source = sources.find_data(DATA)
data = dataset.load_dataset(source, LIMIT, SEED)
note = "Drawn sample posters, not real ones" if source.is_sample else ""
print(f"{'#' * 72}\n{note.upper()}\n{'#' * 72}\n{source.how}" if note else source.how)

# %% [markdown]
# A run has a folder of its own. The same settings go on where they stopped; other settings in
# the same folder are refused, so that nothing is overwritten by accident:

# %%
settings = {"model": MODEL, "image_size": list(size), "epochs": epochs, "batch_size": BATCH_SIZE}
settings |= {"seed": SEED, "limit": LIMIT, "data": dataset.fingerprint(data)}
run = training.open_run(OUTPUT_DIR, settings, RESTART)
print("finished before: reporting again" if run.finished else "training")

# %% [markdown]
# Each poster is decoded and resized once and kept on disk as pixels. What cannot be read is
# left out and named, with everything else that is wrong with the data:

# %%
cache = pipeline.fill_cache(data.posters["path"].tolist(), size, run.cache)
data = data.without(cache.unreadable)
data.check_parts()
run.begin()
data.audit.table()

# %% [markdown]
# The split follows the poster, not the row: a picture that stands twice is on one side only. The
# test posters are touched once, at the very end:

# %%
parts = {split: data.part(split) for split in dataset.SPLITS}
paths = {split: rows["path"].to_numpy() for split, rows in parts.items()}
labels = {split: data.labels(rows) for split, rows in parts.items()}
pd.Series({split: len(rows) for split, rows in parts.items()}, name="posters").to_frame()

# %% [markdown]
# ## Why not a softmax?
#
# A softmax shares one unit of belief among the genres, so a film that is surely a drama *and*
# surely a romance can give each of them a half at most. A sigmoid asks a question a genre:

# %%
logits = np.array([4.0, 4.0, -4.0])
softmax = np.exp(logits) / np.exp(logits).sum()
sigmoid = 1 / (1 + np.exp(-logits))
pd.DataFrame({"softmax": softmax, "sigmoid": sigmoid}, ["Drama", "Romance", "Horror"]).round(3)

# %% [markdown]
# ## The network
#
# It gives one logit a genre. Binary cross-entropy is the loss of as many yes-or-no questions:

# %%
model = models.build_model(MODEL, size, data.genres)
loss = keras.losses.BinaryCrossentropy(from_logits=True)
pd.DataFrame(
    [(part.name, part.count_params()) for part in model.layers], columns=["layer", "weights"]
)

# %% [markdown]
# How long will it take? Measured on this machine, with this network and picture size:

# %%
if not run.finished:
    print(training.forecast(model, len(paths["train"]), len(paths["validation"]), epochs))

# %% [markdown]
# ## First phase: the head on a frozen backbone
#
# The backbone already sees edges, faces, letters. Its answer to each poster never changes while
# it is frozen, so it is computed once; the head then trains on it in seconds:

# %%
frozen = MODEL != "seed_cnn"  # the small published network has no backbone to freeze
features = {
    split: training.frozen_features(model.get_layer("backbone"), MODEL, cache, paths[split])
    for split in ("train", "validation")
    if frozen and not run.finished
}

# %% [markdown]
# Validation decides when the head is done, by macro mAP: the mean over genres of the average
# precision, which a table of zeros cannot win:

# %%
if frozen and not run.finished:
    head = model.get_layer("head")
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss)
    watch = training.ValidationScore(features["validation"], labels["validation"])
    patience = keras.callbacks.EarlyStopping(
        "val_macro_map", mode="max", patience=6, restore_best_weights=True
    )
    log = keras.callbacks.CSVLogger(run.folder / "head.csv")
    batch = {"x": features["train"], "y": labels["train"].astype("float32"), "batch_size": 128}
    head.fit(**batch, epochs=60, callbacks=[watch, patience, log], verbose=0)

# %% [markdown]
# The curve of the head, with the epoch that was kept:

# %%
if frozen:
    curve = pd.read_csv(run.folder / "head.csv")
    title = f"The head alone reaches a validation macro mAP of {curve.val_macro_map.max():.3f}"
    figure = plots.history_curves(curve, title, note)
    plots.save_figure(figure, run.figures, "head")

# %% [markdown]
# ## Second phase: fine-tuning
#
# Now the whole network learns, with a learning rate so small that what it knows is not washed
# out, falling along a cosine. A killed run goes on here after its last finished epoch:

# %%
model, done = run.resume(model)
validation = pipeline.PosterBatches(cache, paths["validation"], labels["validation"], 32)
keep = training.Checkpoints(run, validation, labels["validation"])
board = [keras.callbacks.TensorBoard(run.folder / "tensorboard")] if TENSORBOARD else []

# %% [markdown]
# What ImageNet knows better stays frozen: batch statistics, and the first layers. The rate warms
# up over the first tenth of the steps, because Adam's first steps are its wildest. The published
# network gets what its authors gave it, plain Adam and posters as they are:

# %%
steps = max(1, epochs * -(-len(paths["train"]) // BATCH_SIZE))
rate = keras.optimizers.schedules.CosineDecay(
    0.0, decay_steps=0.9 * steps, warmup_target=5e-5, warmup_steps=0.1 * steps
)
optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-2) if frozen else keras.optimizers.Adam()
if done == 0 and epochs:
    if frozen:
        models.freeze_for_fine_tuning(model.get_layer("backbone"))
    model.compile(optimizer, loss)

# %% [markdown]
# Each epoch has its own order, variations and dropout, drawn from the seed and the epoch alone.
# The state after it is kept; when two epochs have not helped validation, the rest is spared:

# %%
for epoch in range(done, epochs):
    if run.finished or run.patience_is_out(2 if frozen else epochs):
        break
    training.seed_dropout(model, SEED, epoch)
    batches = pipeline.PosterBatches(
        cache, paths["train"], labels["train"], BATCH_SIZE, SEED, epoch, augmented=frozen
    )
    when = {"initial_epoch": epoch, "epochs": epoch + 1, "shuffle": False}
    model.fit(batches, **when, callbacks=[keep, *board])

# %% [markdown]
# The curve of fine-tuning; epoch 0 is the network before it:

# %%
history = run.history()
if len(history):
    title = f"Fine-tuning reaches a validation macro mAP of {history.val_macro_map.max():.3f}"
    figure = plots.history_curves(history, title, note)
    plots.save_figure(figure, run.figures, "fine_tuning")

# %% [markdown]
# ## The saved model
#
# The best epoch is saved with all that it needs: its genres in order, its picture size, and a
# threshold a genre, the one with the best F1 on validation:

# %%
if not run.finished:
    best = keras.saving.load_model(run.best_file, compile=False) if epochs else model
    thresholds = evaluation.tune_thresholds(
        labels["validation"], expit(best.predict(validation, verbose=0))
    )
    how = settings | {"sample": source.is_sample, "epochs_done": max(0, len(history) - 1)}
    save_model(run.folder, best, data.genres, thresholds, parts["train"]["id"], training=how)

# %% [markdown]
# ## The report
#
# From here on only the saved model speaks, as it will for anyone who loads it. It scores the
# validation posters, by which this run made its choices, and the test posters, which it has not
# looked at before:

# %%
predictor = Predictor.load(run.folder)
scores = {
    split: np.concatenate(
        [
            predictor.score_pixels(pixels)
            for pixels, _ in pipeline.PosterBatches(cache, paths[split], labels[split], 32)
        ]
    )
    for split in ("validation", "test")
}

# %% [markdown]
# The metrics, with 95 % intervals from a thousand bootstrap draws of posters:

# %%
results = {
    f"{MODEL}, {split}": evaluation.evaluate(
        labels[split],
        scores[split],
        data.genres,
        predictor.thresholds,
        data.has_missing_column,
    )
    for split in scores
}

# %% [markdown]
# Beside them what needs no poster at all: a table of zeros, and each genre's frequency. Look at
# the last column: element-wise accuracy praises the zeros nearly as much as the network, because
# most posters lack most genres. It is not a result; macro mAP is, and there zeros are only chance:

# %%
guessed = evaluation.baselines(
    labels["train"], labels["test"], data.genres, data.has_missing_column
)
results |= {f"{name}, test": result for name, result in guessed.items()}
evaluation.comparison(results).round(3)

# %% [markdown]
# Genre by genre on the test set; a bar whose interval stays right of the diamond is surely
# better than guessing by frequency:

# %%
report = results[f"{MODEL}, test"]
prior = results["genre prior, test"]["per_genre"]
figure = plots.genre_precision(report["per_genre"], prior, note)
plots.save_figure(figure, run.figures, "genre_precision")

# %% [markdown]
# What the figures are worth in one sentence each, in words:

# %%
print(evaluation.in_words(report, results["genre prior, test"]))

# %% [markdown]
# ## Where everything is
#
# The figures go into `metrics.json` and into the model's own card:

# %%
metrics = {"sample": source.is_sample, "settings": settings, "results": results}
add_metrics(run.folder, {name: evaluation.headline(r) for name, r in results.items()})
run.finish(metrics)
print(f"The model is in {run.folder}/; its figures in {run.figures}/. Next: predict.ipynb.")
