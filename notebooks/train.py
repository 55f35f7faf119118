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
# it can tell from a poster alone. It looks at the picture with a network that knows ImageNet, reads
# the words with one that knows English, and lets both speak.
#
# <!-- badges -->
#
# | | on a CPU of 2 cores | GPU and TPU |
# |---|---|---|
# | the 6,642 public posters, 250 wide, heads alone, no words | 9 min, 2.6 GB | not measured |

# %% [markdown]
# The set-up cell finds the package beside this notebook, or fetches it when the notebook was
# opened alone. Then it chooses what Keras computes with, TensorFlow, JAX or PyTorch, from what this
# machine has: once Keras is imported, that cannot change. It installs only what is missing:

# %%
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = ""  # address of the repository to clone when this notebook was opened alone
ALONE = """This notebook was opened alone. Write the address of the repository into REPOSITORY, like
https://github.com/OWNER/NAME, or upload a copy of it: its zip file, by the folder symbol at the
left, then !unzip it in a cell of its own. Then run this cell again."""
places = [Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*"), *Path("/kaggle/input").glob("*")]
if REPOSITORY and not any((place / "genre_utils").is_dir() for place in places):
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "poster-genres"], check=True)
    places = [Path("poster-genres")]
root = next((place.resolve() for place in places if (place / "genre_utils").is_dir()), None)
if root is None:
    raise SystemExit(ALONE)
sys.path.insert(0, str(root))
if Path.cwd() == root / "notebooks":  # as Jupyter starts; data/ and outputs/ are one up
    os.chdir(root)

from genre_utils import machine

print(machine.prepare())

# %% [markdown]
# Everything you may want to change stands in the next cell. With papermill the same names are
# options: `papermill notebooks/train.ipynb outputs/train.ipynb -p IMG_SIZE 250`.

# %% tags=["parameters"]
DATA: str = ""  # folder or CSV of posters; empty: found or downloaded; "sample": drawn posters
MODEL: str = "efficientnet_lite2"  # network; see genre_utils.models.MODELS for all names
IMG_SIZE: int = 272  # width of the network's input, pixels, 64 to 1024
IMG_SHAPE: str = "portrait"  # "portrait": 1.47 times as high as wide; "square": squeezed
SECOND_MODEL: str = "efficientnet_lite0"  # its opinion is averaged in; empty: none
EPOCHS: int = -1  # epochs of fine-tuning the networks; 0: heads alone; -1: 0 on a CPU, else 8
READ_TEXT: str = "auto"  # read words: "yes"; "no"; "auto": if it takes 10 minutes at most
WORDS: str = "outputs/words.jsonl"  # file of words read before; new ones are added
WORD_EPOCHS: int = -1  # epochs of fine-tuning the words' network; -1: 0 on a CPU, else 4
LAST_FIT: bool = False  # True: all that is tuned learns anew at the end, validation posters too
BATCH_SIZE: int = 16  # posters a step and device in fine-tuning, 1 or more
LIMIT: int = 0  # at most this many posters, drawn at random; 0: all
SEED: int = 0  # seed of every random choice
OUTPUT_DIR: str = "outputs/model"  # folder for the model, its figures and caches
RESTART: bool = False  # True: throw away another training in OUTPUT_DIR
TENSORBOARD: bool = False  # True: also write TensorBoard logs to OUTPUT_DIR/tensorboard

# %% [markdown]
# papermill hands over text. "no" means no here, and `~` is your own folder; what is neither yes nor
# no is refused before any work:

# %%
from genre_utils.support import as_bool, as_choice, expand_user

LAST_FIT, RESTART = as_bool("LAST_FIT", LAST_FIT), as_bool("RESTART", RESTART)
TENSORBOARD, READ_TEXT = as_bool("TENSORBOARD", TENSORBOARD), as_choice("READ_TEXT", READ_TEXT)
DATA, WORDS, OUTPUT_DIR = map(expand_user, (DATA, WORDS, OUTPUT_DIR))
machine.check_tensorboard(TENSORBOARD)

# %% [markdown]
# All GPUs or TPU cores of the machine share each step, and compute in the precision they are best
# at. The batch grows with their number, and the learning rate with the batch:

# %%
print(machine.connect())
devices = machine.replicas()
batch, word_batch = BATCH_SIZE * devices, 32 * devices  # posters or texts a step

# %% [markdown]
# What follows from the parameters is checked before any long work begins. Sizes are (height,
# width) everywhere:

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from genre_utils import (
    batches,
    dataset,
    evaluation,
    fusion,
    images,
    models,
    networks,
    ocr,
    plots,
    runs,
    sources,
    text,
    training,
)
from genre_utils.apps import write_model_card
from genre_utils.predictor import Predictor
from genre_utils.saved_model import WordsModel, add_metrics, load_model, save_model
from genre_utils.support import progress

size = images.poster_size(IMG_SIZE, IMG_SHAPE)
models.check_model(MODEL, size)
if SECOND_MODEL:
    models.check_second(SECOND_MODEL, size)
training.check_numbers(BATCH_SIZE, LIMIT, SEED)
runs.check_writable(OUTPUT_DIR)
runs.check_writable(Path(WORDS).parent, "WORDS")
frozen = MODEL != "seed_cnn"  # the small published network has no backbone to freeze
accelerated = machine.accelerated()
epochs = training.choose_epochs(EPOCHS, MODEL, accelerated)
word_epochs = training.choose_word_epochs(WORD_EPOCHS, accelerated)
plots.use_style()
print(f"{MODEL} at {size[0]} × {size[1]} pixels (height × width), {epochs} epochs of fine-tuning")

# %% [markdown]
# ## The posters
#
# First the data: a path you gave, or the place where they were found. No data and no internet
# is no reason to stop, the package draws a sample then:

# %%
source = sources.find_data(DATA)
runs.check_outside(OUTPUT_DIR, source.images)
data = dataset.load_dataset(source, LIMIT, SEED)
data.check_parts()
note = "Drawn sample posters, not real ones" if source.is_sample else ""
print(f"{'#' * 72}\n{note.upper()}\n{'#' * 72}\n{source.how}" if note else source.how)

# %% [markdown]
# A run has a folder of its own. The same settings go on where they stopped; other settings in
# the same folder are refused, so that nothing is overwritten by accident. In Colab the folder is on
# your Drive, where it outlives a disconnect; where several hosts train together, each has its own:

# %%
settings = {"model": MODEL, "image_size": list(size), "epochs": epochs, "batch_size": batch}
settings |= {"second_model": SECOND_MODEL, "seed": SEED, "limit": LIMIT}
settings["data"] = dataset.fingerprint(data)
output = runs.own_folder(machine.persistent_path(OUTPUT_DIR))
choice = runs.choice_of_run(output, settings, READ_TEXT, RESTART)

# %% [markdown]
# A poster is picture *and* words. They are read once, on all cores, and kept in a file under the
# hash of the picture, so that no poster is ever read twice. Is it worth the time here?

# %%
word_cache = ocr.WordCache(machine.persistent_path(WORDS))
read_text, why = ocr.decide(choice, data.posters["path"].tolist(), word_cache)
print(why)

# %% [markdown]
# With that, all settings are known; a training that is finished is only reported again:

# %%
settings |= {"read_text": read_text, "word_epochs": word_epochs if read_text else 0}
settings["last_fit"] = LAST_FIT and (read_text or (frozen and epochs > 0))
run = runs.open_run(output, settings, RESTART)
print("finished before: reporting again" if run.finished else "training")

# %% [markdown]
# Each poster is decoded and resized once and kept on this machine as pixels. What cannot be read is
# left out and named, with everything else that is wrong with the data. Which pictures counted
# belongs to the run from here on:

# %%
files = data.posters["path"].tolist()
cache = batches.fill_cache(files, size, Path(OUTPUT_DIR) / "cache")
run, left_out = runs.settle_pictures(run, files, cache.unreadable)
data = data.without(left_out)
data.check_parts()
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
# It gives one logit a genre. A second one errs elsewhere, and its opinion counts as much. Both are
# built before the run begins: should ImageNet's weights not be had, nothing has begun.

# %%
if SECOND_MODEL:
    keras.utils.set_random_seed(SEED + 1)
    second = models.build_model(SECOND_MODEL, size, data.genres)
keras.utils.set_random_seed(SEED)
model = models.build_model(MODEL, size, data.genres)
run.begin()
pd.DataFrame(
    [(part.name, part.count_params()) for part in model.layers], columns=["layer", "weights"]
)

# %% [markdown]
# Binary cross-entropy is the loss of as many yes-or-no questions as there are genres:

# %%
loss = keras.losses.BinaryCrossentropy(from_logits=True)

# %% [markdown]
# How long will it take? Measured on this machine, with this network and picture size; a second
# network costs about half of that once more, the words' network says its own time below, and
# `LAST_FIT` fine-tunes all of them again:

# %%
if not run.finished:
    print(training.forecast(model, len(paths["train"]), len(paths["validation"]), epochs))

# %% [markdown]
# ## First phase: the head on a frozen backbone
#
# The backbone already sees edges, faces, letters. Its answer to each poster never changes while
# it is frozen, so it is computed once; the head then trains on it in seconds:

# %%
eyes = model.get_layer("backbone") if frozen else None
features = {
    split: training.frozen_features(eyes, MODEL, cache, paths[split], 32 * devices)
    for split in ("train", "validation")
    if frozen and not run.finished
}

# %% [markdown]
# Validation decides when the head is done, by macro mAP: the mean over genres of the average
# precision, which a table of zeros cannot win:

# %%
if frozen and not run.finished:
    training.fit_head(model.get_layer("head"), features, labels, run.folder / "head.csv")
    first_heads = [model.get_layer("head").get_weights()]

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
seen = cache, paths["validation"], labels["validation"]
validation = batches.PosterBatches(*seen, batch_size=32 * devices)
keep = runs.Checkpoints(run, validation, labels["validation"])
board = [keras.callbacks.TensorBoard(run.folder / "tensorboard")] if TENSORBOARD else []

# %% [markdown]
# What ImageNet knows better stays frozen: batch statistics, and the first layers. The published
# network gets what its authors gave it, plain Adam and posters as they are. Where it can, Keras
# has the whole step compiled into one program by XLA:

# %%
steps = epochs * max(1, len(paths["train"]) // batch)
if done == 0 and epochs:
    if frozen:
        models.freeze_for_fine_tuning(model.get_layer("backbone"))
    plain_adam = keras.optimizers.Adam(training.follow_batch(1e-3, batch, tuned_at=32))
    model.compile(training.gentle_adam(steps, batch, 16) if frozen else plain_adam, loss)

# %% [markdown]
# Each epoch has its own order, variations and dropout, drawn from the seed and the epoch alone.
# The state after it is kept; when two epochs have not helped validation, the rest is spared:


# %%
def posters_of(epoch: int, splits: tuple[str, ...] = ("train",)) -> batches.PosterBatches:
    files, truth = (np.concatenate([of[split] for split in splits]) for of in (paths, labels))
    shuffled = {"seed": SEED, "epoch": epoch, "augmented": frozen}
    return batches.PosterBatches(cache, files, truth, batch, **shuffled)


if not run.finished:
    patience = 2 if frozen else epochs
    runs.fine_tune(run, model, posters_of, range(done, epochs), patience, [keep, *board])

# %% [markdown]
# The curve of fine-tuning; epoch 0 is the network before it:

# %%
history = run.history()
if len(history):
    title = f"Fine-tuning reaches a validation macro mAP of {history.val_macro_map.max():.3f}"
    figure = plots.history_curves(history, title, note)
    plots.save_figure(figure, run.figures, "fine_tuning")

# %% [markdown]
# The second network, a smaller one, goes through the same two phases; first its head:

# %%
if SECOND_MODEL and not run.finished:
    keras.utils.set_random_seed(SEED + 1)  # the same head whether or not this run was resumed
    eyes = second.get_layer("backbone")
    features = {
        split: training.frozen_features(eyes, SECOND_MODEL, cache, paths[split], 32 * devices)
        for split in ("train", "validation")
    }
    second_run = run.part("second")
    training.fit_head(second.get_layer("head"), features, labels, second_run.folder / "head.csv")
    first_heads.append(second.get_layer("head").get_weights())

# %% [markdown]
# Then, with `EPOCHS`, the whole of it, on the same posters in the same order:


# %%
def learn_pictures(part: runs.Run, network: keras.Model, batches) -> keras.Model:
    network, done = part.resume(network)
    if done == 0:
        models.freeze_for_fine_tuning(network.get_layer("backbone"))
        network.compile(training.gentle_adam(epochs * len(batches(0)), batch, 16), loss)
    keep = runs.Checkpoints(part, validation, labels["validation"])
    runs.fine_tune(part, network, batches, range(done, epochs), 2, [keep, *board])
    return network


if SECOND_MODEL and epochs and not run.finished:
    learn_pictures(second_run, second, posters_of)

# %% [markdown]
# ## A larger look
#
# In training each network saw crops, blown up to the size of its pictures: faces and letters were
# larger than they are on whole posters. Those are shown 1.17 times as large from now on, and look
# more like what was learned from. A head on a frozen network saw no crops, and nothing changes:

# %%
cropped = frozen and epochs > 0
seen_size, whole = size, cache
if cropped:
    seen_size = images.enlarged(size)
    unlearned = [path for split in ("validation", "test") for path in paths[split]]
    whole = batches.fill_cache(unlearned, seen_size, Path(OUTPUT_DIR) / "cache")
print(f"the finished network sees posters at {seen_size[0]} × {seen_size[1]} pixels")


# %% [markdown]
# Each network as it was after its best epoch, for pictures of that size:


# %%
def best_of(part: runs.Run, name: str) -> keras.Model:
    best = keras.saving.load_model(part.best_file, compile=False)
    return models.resize_model(best, name, seen_size, data.genres) if cropped else best


if epochs and not run.finished:
    model = best_of(run, MODEL)
    second = best_of(second_run, SECOND_MODEL) if SECOND_MODEL else None

# %% [markdown]
# The mean of their logits is the answer of the picture:

# %%
if not run.finished:
    picture = models.average_models(model, second) if SECOND_MODEL else model

# %% [markdown]
# ## The words
#
# Now the posters are read, as far as they were not before. A poster's text is its lines by the
# height of their letters: first the title, then what is smaller:

# %%
readings = ocr.read_posters(data.posters["path"].tolist(), word_cache) if read_text else None
found = readings.lines if read_text else {}
lines = {split: [found.get(path, []) for path in paths[split]] for split in paths}
texts = {split: [text.join_lines(read) for read in lines[split]] for split in lines}
with_words = {split: np.array([bool(text) for text in texts[split]]) for split in texts}
pd.Series({split: marks.mean() for split, marks in with_words.items()}, name="share with words")

# %% [markdown]
# Names are learned by heart: a linear model of n-grams knows which actors, studios and festivals
# stand on the posters of which genre. Pieces of words beside whole ones forgive the reader's slips:

# %%
if read_text and not run.finished:
    ngrams = text.NgramModel.fit(texts["train"], labels["train"])
    print(f"{len(ngrams.weights)} n-grams stand on two or more training posters")

# %% [markdown]
# What a sentence *means*, "let us prey", is for a network that has read a billion of them. It gives
# each text a vector; a head like the picture's learns on the frozen vectors first:

# %%
if read_text and not run.finished:
    sentences, about = networks.load_encoder()
    print(about)
    tokens = {split: networks.tokenize(texts[split]) for split in ("train", "validation")}
    vectors = {split: networks.run_on_words(sentences, tokens[split]) for split in tokens}
    keras.utils.set_random_seed(SEED + 2)
    word_network = models.build_words_model(sentences, data.genres)
    word_head = word_network.get_layer("head")
    training.fit_head(word_head, vectors, labels, run.part("words").folder / "head.csv")
    first_word_head = word_head.get_weights()

# %% [markdown]
# Then the whole of it is fine-tuned like the picture's networks, if `WORD_EPOCHS` says so. In each
# epoch a poster has lost some of its lines, so that the network cannot learn the few thousand
# posters by heart. A batch holds texts of like length, and little of it is padding:


# %%
def texts_of(epoch: int, splits: tuple[str, ...] = ("train",)) -> batches.WordBatches:
    files = np.concatenate([paths[split] for split in splits])
    keys = [batches.random_key(path, SEED, epoch) for path in files]
    kept = [
        text.drop_lines(found.get(path, []), key + 1) for path, key in zip(files, keys, strict=True)
    ]
    tokens = networks.tokenize([text.join_lines(read) for read in kept])
    truth = np.concatenate([labels[split] for split in splits])
    return batches.WordBatches(tokens, files, truth, word_batch, SEED, epoch)


# %% [markdown]
# The vectors of the single tokens stay as they are: a few thousand posters show most of them never.
# As before, every epoch is kept, and a killed run goes on:


# %%
def learn_words(part: runs.Run, network: keras.Model, batches, epochs: int) -> keras.Model:
    keep = runs.Checkpoints(part, tokens["validation"], labels["validation"])
    network, done = part.resume(network)
    if done == 0:
        network.get_layer("encoder").get_layer("word").trainable = False
        steps = epochs * len(batches(0))
        network.compile(training.gentle_adam(steps, word_batch, 32), loss)
    runs.fine_tune(part, network, batches, range(done, epochs), 2, [keep, *board])
    return network


if read_text and word_epochs and not run.finished:
    learn_words(run.part("words"), word_network, texts_of, word_epochs)
    word_network = keras.saving.load_model(run.part("words").best_file, compile=False)

# %% [markdown]
# The curve of the words' network; epoch 0 is its head on frozen vectors:

# %%
word_history = run.part("words").history()
if len(word_history):
    title = f"The words reach a validation macro mAP of {word_history.val_macro_map.max():.3f}"
    figure = plots.history_curves(word_history, title, note)
    plots.save_figure(figure, run.figures, "words_fine_tuning")

# %% [markdown]
# ## Both together
#
# Each tower has its logits; the score is the sigmoid of their weighted sum. Which tower tells more
# of which genre? For rare genres the few posters held back cannot say. All the training posters
# can, judged by cheap towers that have not seen them, heads on frozen networks and n-grams:

# %%
ratios = None
if read_text and frozen and not run.finished:
    judge = training.out_of_fold
    cheap = {
        "picture": judge(training.unwatched_head, features["train"], labels["train"]),
        "sentence": judge(training.unwatched_head, vectors["train"], labels["train"]),
        "ngrams": judge(text.fit_ngrams, texts["train"], labels["train"]),
    }
    ratios = fusion.fit_genre_weights(cheap, labels["train"])

# %% [markdown]
# How much each tower weighs on the whole, and the bias, are fitted on the validation posters, which
# no tower was trained on, though they chose its epochs. So the words weigh more where they tell
# more, and a score of 0.6 is right about 6 times in 10. A poster without words gets the picture's
# own calibrated answer:

# %%
word_model, worded = None, with_words["validation"]
if not run.finished:
    whole_posters = batches.PosterBatches(whole, *seen[1:], batch_size=32 * devices)
    towers = {"picture": training.predict_logits(picture, whole_posters)}
    sums = {"picture": fusion.fit_fusion(towers, labels["validation"])}
if read_text and not run.finished:
    word_model = WordsModel(word_network, ngrams)
    said = word_model.logits(texts["validation"])
    sums["words"] = fusion.fit_fusion(said, labels["validation"])
    towers |= said
    both = {name: logits[worded] for name, logits in towers.items()}
    sums["both"] = fusion.fit_fusion(both, labels["validation"][worded], genre_weights=ratios)

# %% [markdown]
# A score can be read as yes or no with a threshold a genre, the one with the best F1 on validation,
# drawn toward the common one where a genre is rare. With that, all is chosen:

# %%
if not run.finished:
    judged, _ = fusion.fuse(sums, towers, worded)
    thresholds = evaluation.tune_thresholds(labels["validation"], judged)
    chosen_at = evaluation.macro_average_precision(labels["validation"], judged)
    print(f"validation macro mAP of the sum, which was fitted on it: {chosen_at:.3f}")

# %% [markdown]
# ## A last fit
#
# What was held back for choosing is a tenth of all posters, and more posters are more faces, names
# and phrases. With `LAST_FIT` all that was fine-tuned learns anew, from the training and the
# validation posters, as it was chosen, and so do the n-grams; the sum, fitted while the validation
# posters were unknown, stays. There is nothing left to validate on: what is written about
# validation from here on is of posters that are learned from.

# %%
last_fit = settings["last_fit"] and not run.finished
learned = ("train", "validation") if settings["last_fit"] else ("train",)


def all_posters_of(epoch: int) -> batches.PosterBatches:
    return posters_of(epoch, learned)


def all_texts_of(epoch: int) -> batches.WordBatches:
    return texts_of(epoch, learned)


# %% [markdown]
# The picture's networks begin where they began before, with ImageNet and the heads of the first
# phase, and learn for as many epochs at most:

# %%
if last_fit and cropped:
    parts_of_picture = (MODEL, "last_picture"), (SECOND_MODEL, "last_second")
    learned_anew = []
    for (name, part), head in zip(parts_of_picture, first_heads, strict=False):
        network = models.build_model(name, size, data.genres)
        network.get_layer("head").set_weights(head)
        network = learn_pictures(run.part(part), network, all_posters_of)
        learned_anew.append(models.resize_model(network, name, seen_size, data.genres))
    picture = models.average_models(*learned_anew) if SECOND_MODEL else learned_anew[0]

# %% [markdown]
# So does the network of the words; the n-grams are counted and weighed anew:

# %%
if last_fit and read_text:
    everyone = [text for split in learned for text in texts[split]]
    ngrams = text.NgramModel.fit(everyone, np.concatenate([labels[split] for split in learned]))
if last_fit and word_epochs:
    fresh = models.build_words_model(networks.load_encoder()[0], data.genres)
    fresh.get_layer("head").set_weights(first_word_head)
    word_network = learn_words(run.part("last_words"), fresh, all_texts_of, word_epochs)

# %% [markdown]
# ## The saved model
#
# All is saved with what it needs: its genres in order, its picture size, its thresholds, and which
# posters it has learned from:

# %%
if not run.finished:
    word_model = WordsModel(word_network, ngrams) if read_text else None
    how = settings | {"sample": source.is_sample, "epochs_done": max(0, len(history) - 1)}
    how |= dataset.describe(data) | {"validation_macro_map": round(chosen_at, 4)}
    networks = {"network": picture, "words": word_model, "sums": sums}
    save_model(
        run.folder,
        **networks,
        genres=data.genres,
        thresholds=thresholds,
        training_ids=[poster for split in learned for poster in parts[split]["id"]],
        training_pictures=[path for split in learned for path in paths[split]],
        training=how,
    )

# %% [markdown]
# ## The report
#
# From here on only the saved model speaks, as it will for anyone who loads it. It scores the
# validation posters, by which this run made its choices (after a last fit there are none left), and
# the test posters, which it has not looked at before:

# %%
predictor = Predictor(load_model(run.folder))
looked = {}
for split in [split for split in ("validation", "test") if split not in learned]:
    parts_of_32 = np.array_split(paths[split], -(-len(paths[split]) // 32))
    groups = progress.bar(parts_of_32, desc=f"scoring {split}", unit=" batches")
    answers = [predictor.picture_logits(whole.pixels(group)) for group in groups]
    looked[split] = np.concatenate(answers)
scores = {split: predictor.combine(looked[split], lines[split])[0] for split in looked}

# %% [markdown]
# Which part is worth what? On the test posters the picture speaks alone, and the words alone:

# %%
picture_name = f"{MODEL} + {SECOND_MODEL}" if SECOND_MODEL else MODEL
name = f"{picture_name} and words" if read_text else picture_name
judged = {f"{name}, {split}": (labels[split], scores[split]) for split in scores}
if read_text:
    alone = predictor.combine(looked["test"], [[]] * len(looked["test"]))[0]
    said = predictor.model.words.logits(texts["test"])
    judged["picture alone, test"] = labels["test"], alone
    judged["words alone, test"] = labels["test"], predictor.model.sums["words"].scores(said)

# %% [markdown]
# The metrics, with 95 % intervals from a thousand bootstrap draws of posters. Thresholds were tuned
# for both parts together:

# %%
results = {
    system: evaluation.evaluate(
        truth, guess, data.genres, predictor.thresholds, data.has_missing_column
    )
    for system, (truth, guess) in judged.items()
}

# %% [markdown]
# Beside them what needs no poster at all: a table of zeros, and each genre's frequency. Look at
# the last column: element-wise accuracy praises the zeros nearly as much as the network, because
# most posters lack most genres. It is not a result; macro mAP is, and there zeros are only chance:

# %%
guessed = evaluation.baselines(
    labels["train"], labels["test"], data.genres, data.has_missing_column
)
results |= {f"{baseline}, test": result for baseline, result in guessed.items()}
evaluation.comparison(results).round(3)

# %% [markdown]
# Do the words help, or was it luck? Both systems are scored on the same thousand draws of test
# posters:

# %%
paired = {}
if read_text:
    paired = evaluation.paired_bootstrap(labels["test"], scores["test"], alone)
    print(evaluation.paired_in_words(paired, "picture and words", "the picture alone"))

# %% [markdown]
# Genre by genre on the test set; a bar whose interval stays right of the diamond is surely
# better than guessing by frequency:

# %%
report = results[f"{name}, test"]
prior = results["genre prior, test"]["per_genre"]
figure = plots.genre_precision(report["per_genre"], prior, note)
plots.save_figure(figure, run.figures, "genre_precision")

# %% [markdown]
# Is a score to be believed? Of all pairs of test poster and genre, sorted by score into 15 equal
# parts, the share that came true stands over the mean score; on the line, 0.6 means 6 in 10:

# %%
truth, guess = labels["test"], scores["test"]
figure = plots.reliability(evaluation.reliability(truth, guess), report["calibration_error"], note)
plots.save_figure(figure, run.figures, "reliability")

# %% [markdown]
# A genre's precision by recall: how many of the posters that are handed over are right, if so
# large a share of the genre is to be found?

# %%
figure = plots.precision_recall(truth, guess, data.genres, note)
plots.save_figure(figure, run.figures, "precision_recall")

# %% [markdown]
# ## What it gets wrong
#
# Figures say how often, posters say why. The answers that the model was surest of, right and
# wrong, on test posters; these figures are shown here and saved nowhere:

# %%
surest = evaluation.most_confident(truth, guess, count=8)
for kind, answers in surest.items():
    rows, genres = zip(*answers, strict=True)
    shown = cache.pixels(paths["test"][list(rows)])
    captions = [f"{data.genres[g]} {guess[row, g]:.2f}" for row, g in answers]
    plots.poster_grid(shown, captions, f"The surest {kind}, with their scores", note)
    plt.show()

# %% [markdown]
# Which genre is taken for which? A poster gets as many guesses as it has genres; where one is
# missed, another stands in its place:

# %%
instead = evaluation.confusion(truth, guess)
figure = plots.confusion(instead, truth.sum(axis=0), data.genres, note)
plots.save_figure(figure, run.figures, "taken_for")

# %% [markdown]
# Is it the words? Test posters by how many of them were read: the share of a poster's genres among
# its three highest scores, with the 95 % interval of its mean. Without words there is no figure:

# %%
if read_text and with_words["test"].any():
    amounts = [len(text.split()) for text in texts["test"]]
    recalls = {name: evaluation.recall(truth, guess)}
    recalls["picture alone"] = evaluation.recall(truth, alone)
    figure = plots.recall_by_words(evaluation.recall_by_word_count(amounts, recalls), note)
    plots.save_figure(figure, run.figures, "recall_by_words")

# %% [markdown]
# What the figures are worth in one sentence each, in words:

# %%
print(evaluation.in_words(report, results["genre prior, test"]))

# %% [markdown]
# ## Where everything is
#
# The figures go into `metrics.json` and into the model's own card, which `MODEL_CARD.md` tells in
# words:

# %%
metrics = {"sample": source.is_sample, "settings": settings, "results": results}
metrics["both against picture alone"] = paired
add_metrics(run.folder, {system: evaluation.headline(r) for system, r in results.items()})
run.finish(metrics)
write_model_card(run.folder)
print(f"The model is in {run.folder}/; its figures in {run.figures}/. Next: predict.ipynb.")
