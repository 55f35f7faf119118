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
# it can tell from a poster alone. Networks that know ImageNet look at the picture, one that knows
# English reads the words, and the score is a sum of both.
#
# <!-- badges -->
#
# | | on a CPU of 2 cores | GPU and TPU |
# |---|---|---|
# | the 6,642 public posters, 250 wide, heads alone, no words | 9 min, 2.6 GB | not measured |

# %% [markdown]
# The set-up cell finds the package: installed, in the folder around this notebook, or in a copy
# uploaded beside it. When the notebook was opened alone, it fetches the repository. Then it chooses
# what Keras computes with, TensorFlow, JAX or PyTorch, and installs only what is missing:

# %%
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = ""  # address of the repository to clone when this notebook was opened alone
ALONE = "Write an address into REPOSITORY, or upload a copy of the repository beside this notebook."
near = [Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*"), *Path("/kaggle/input").glob("*")]
sys.path[:0] = [str(place) for place in near if (place / "genre_utils").is_dir()]
if not find_spec("genre_utils"):
    command = ["git", "clone", "--depth", "1", REPOSITORY or sys.exit(ALONE), "poster-genres"]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(Path.cwd() / "poster-genres"))
from genre_utils import machine

print(machine.prepare())

# %% [markdown]
# Everything you may want to change stands in the next cell. With papermill the same names are
# options: `papermill notebooks/train.ipynb outputs/train.ipynb -p IMG_SIZE 250`.

# %% tags=["parameters"]
DATA: str = ""  # folder or CSV of posters; empty: found or downloaded; "sample": drawn posters
MODEL: str = "efficientnet_lite2"  # network; genre_utils.models.names() lists all
IMG_SIZE: int = 272  # width of the network's input, pixels, 64 to 1024
IMG_SHAPE: str = "portrait"  # "portrait": 1.47 times as high as wide; "square": squeezed
SECOND_MODEL: str = "efficientnet_lite0"  # its logits are averaged in; empty: none
START: str = "imagenet"  # where networks begin; "posters": at the released model's
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
at_once = machine.posters_at_once()  # in prediction

# %% [markdown]
# What follows from the parameters is checked before any long work begins. Sizes are (height,
# width) everywhere:

# %%
from functools import partial

import keras
import numpy as np
import pandas as pd

from genre_utils import apps, batches, dataset, images, models, ocr, plots, runs, sources, training

size = images.poster_size(IMG_SIZE, IMG_SHAPE)
names = models.choose_networks(MODEL, SECOND_MODEL, size)
runs.check_numbers(BATCH_SIZE, LIMIT, SEED)
runs.check_writable(OUTPUT_DIR)
runs.check_writable(Path(WORDS).parent, "WORDS")
epochs = runs.choose_epochs(EPOCHS, MODEL, machine.accelerated())
word_epochs = runs.choose_word_epochs(WORD_EPOCHS, machine.accelerated())
plots.use_style()

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
# Binary cross-entropy is the loss of as many yes-or-no questions as there are genres. All that
# Keras trains below has this loss; take another one of Keras' here:

# %%
loss = keras.losses.BinaryCrossentropy(from_logits=True)

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
runs.check_start(START, data)
files, note = data.posters["path"].tolist(), source.note
print(source.announcement)

# %% [markdown]
# A run has a folder of its own. The same settings go on where they stopped; other settings in
# the same folder are refused, so that nothing is overwritten by accident. In Colab the folder is on
# your Drive, where it outlives a disconnect; where several hosts train together, each has its own:

# %%
settings = {"model": MODEL, "image_size": list(size), "epochs": epochs, "batch_size": batch}
settings |= {"second_model": SECOND_MODEL, "start": START, "seed": SEED, "limit": LIMIT}
settings |= {"data": dataset.fingerprint(data), "loss": loss.get_config(), "sample": bool(note)}
output = runs.own_folder(machine.persistent_path(OUTPUT_DIR))
choice = runs.choice_of_run(output, settings, READ_TEXT, RESTART)

# %% [markdown]
# A poster is picture *and* words. They are read once, on all cores, and kept in a file under the
# hash of the picture, so that no poster is ever read twice. Is it worth the time here?

# %%
word_cache = ocr.WordCache(machine.persistent_path(WORDS))
read_text, why = ocr.decide(choice, files, word_cache)
print(why)

# %% [markdown]
# With that, all settings are known. Each stage below returns what it saved when it was done before,
# so a training that was stopped goes on, and one that is finished reports again in a minute or two:

# %%
settings |= {"read_text": read_text, "word_epochs": word_epochs * read_text}
settings["last_fit"] = LAST_FIT and (read_text or epochs > 0)
run = runs.open_run(output, settings, RESTART)
print(run.state)

# %% [markdown]
# Each poster is decoded and resized once and kept on this machine as pixels. What cannot be read is
# left out and named, with everything else that is wrong with the data. Which pictures counted
# belongs to the run from here on:

# %%
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
# ## The networks of the picture
#
# Each gives one logit a genre. A second network errs elsewhere, and the mean of both errs less. If
# ImageNet's weights cannot be fetched, this cell says so, and no training has begun:

# %%
keras.utils.set_random_seed(SEED)
pictures = {part: models.build_model(name, size, data.genres) for part, name in names.items()}
runs.start_from(START, pictures, names)
run.begin()

# %% [markdown]
# How long will it take? Measured on this machine, with these networks and this picture size. The
# network of the words says its own time below, and `LAST_FIT` fine-tunes all of them again:

# %%
print(runs.forecast(pictures.values(), len(paths["train"]), len(paths["validation"]), epochs))

# %% [markdown]
# ## First phase: the head on a frozen backbone
#
# A backbone already sees edges, faces, letters. Its features of a poster never change while it is
# frozen, so they are computed once; the head then trains on them in seconds. Validation decides
# when it is done, by macro mAP: the mean over genres of the average precision, which a table of
# zeros cannot win:


# %%
def fit_head(part: str, head: keras.Model, features: dict[str, np.ndarray]) -> None:
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss)
    head.fit(**runs.head_fit(run.part(part), head, features, labels))


# %% [markdown]
# Every pretrained network of the picture has a backbone and a head:

# %%
for part, network in models.with_backbone(pictures).items():
    backbone, name = network.get_layer("backbone"), f"{names[part]}-{START}"
    features = training.frozen_features(backbone, name, cache, paths)
    fit_head(part, network.get_layer("head"), features)

# %% [markdown]
# The curves of the heads; the epoch with the highest macro mAP was kept:

# %%
plots.save_curves(run.curves("head.csv"), "the head alone reaches", run.figures, note)

# %% [markdown]
# ## Second phase: fine-tuning
#
# Now whole networks learn, with a learning rate so small that what they know is not washed out,
# falling along a cosine. What ImageNet knows better stays frozen: batch statistics, and the first
# layers. Each epoch is a `fit` of its own. The state after it is kept, and a killed run goes on
# there; when two epochs have not helped validation, the rest is spared:


# %%
first_weights, board = {}, runs.tensorboard(run, TENSORBOARD)


def fine_tune(networks, batches_of, watched, epochs, batch, splits=("train",), prefix=""):
    validation = watched, labels["validation"]
    for part, network in networks.items():
        network.set_weights(first_weights.setdefault(part, network.get_weights()))
        models.freeze_for_fine_tuning(network)
        steps = epochs * len(batches_of(splits, 0))
        network.compile(training.choose_optimizer(network, steps, batch), loss)
        stage, data_of = run.part(prefix + part), partial(batches_of, splits)
        for model, data, options in runs.epochs(stage, network, data_of, epochs, validation, board):
            model.fit(data, **options)


# %% [markdown]
# Each epoch has its own order, variations and dropout, drawn from the seed and the epoch alone. A
# network that learns from its first weight on sees posters as they are:


# %%
augmented = len(models.with_backbone(pictures)) > 0


def posters_of(splits: tuple[str, ...], epoch: int) -> batches.PosterBatches:
    files, truth = (np.concatenate([of[split] for split in splits]) for of in (paths, labels))
    return batches.PosterBatches(cache, files, truth, batch, SEED, epoch, augmented)


# %% [markdown]
# In training a network sees crops, blown up to the size of its pictures: faces and letters are
# larger than they are on whole posters. Those are shown 1.17 times as large afterwards, and look
# more like what was learned from. The logits of the picture are the mean of its networks':

# %%
watched = batches.PosterBatches(cache, paths["validation"], labels["validation"], at_once)
learn_pictures = partial(fine_tune, pictures, posters_of, watched, epochs, batch)
learn_pictures()
shown_size = training.shown_size(size, augmented, epochs)
picture = models.join_networks(pictures, names, shown_size, data.genres)

# %% [markdown]
# ## The words
#
# Now the posters are read, as far as they were not before. A poster's text is its lines by the
# height of their letters: first the title, then what is smaller:

# %%
from genre_utils import evaluation, fusion, networks, text

found = ocr.read_posters(files, word_cache).lines if read_text else {}
lines = {split: [found.get(path, []) for path in paths[split]] for split in paths}
texts = {split: [text.join_lines(read) for read in lines[split]] for split in lines}
has_text = {split: np.array([bool(text) for text in texts[split]]) for split in texts}
pd.Series({split: marks.mean() for split, marks in has_text.items()}, name="share with words")

# %% [markdown]
# What a sentence *means*, "let us prey", is for a network that has read a billion of them. It gives
# each text a vector; a head like the picture's learns on the frozen vectors first. There is one
# text network, or none where no words are read:

# %%
tokens = {split: networks.tokenize(texts[split]) for split in texts}
text_networks = {}
if read_text:
    keras.utils.set_random_seed(SEED + 1)
    encoder = runs.load_encoder(START)
    text_networks["words"] = models.build_words_model(encoder, data.genres)
    vectors = run.kept("vectors", partial(networks.run_on_splits, encoder, tokens))
    fit_head("words", text_networks["words"].get_layer("head"), vectors)

# %% [markdown]
# Then the whole of it is fine-tuned like the picture's networks. In each epoch a poster has lost
# some of its lines, so that the network cannot learn the few thousand posters by heart. A batch
# holds texts of like length, and little of it is padding:


# %%
def texts_of(splits: tuple[str, ...], epoch: int) -> batches.WordBatches:
    files, truth = (np.concatenate([of[split] for split in splits]) for of in (paths, labels))
    keys = [batches.random_key(path, SEED, epoch) + 1 for path in files]
    kept = [text.drop_lines(found[path], key) for path, key in zip(files, keys, strict=True)]
    tokens = networks.tokenize([text.join_lines(read) for read in kept])
    return batches.WordBatches(tokens, files, truth, word_batch, SEED, epoch)


# %% [markdown]
# Names are learned by heart: a linear model of n-grams knows which actors, studios and festivals
# stand on the posters of which genre. Pieces of words beside whole ones forgive the reader's slips:

# %%
from genre_utils.saved_model import WordsModel, add_metrics, load_model, save_model

watched = tokens["validation"]
learn_words = partial(fine_tune, text_networks, texts_of, watched, word_epochs, word_batch)
learn_words()


def words_of(splits: tuple[str, ...], prefix: str = "") -> list[WordsModel]:
    everyone, truth = (np.concatenate([of[split] for split in splits]) for of in (texts, labels))
    fit = partial(text.NgramModel.fit, everyone, truth)
    ngrams = [run.kept_ngrams(f"{prefix}ngrams", fit) for _ in text_networks]
    return list(map(WordsModel, text_networks.values(), ngrams))


words = words_of(("train",))

# %% [markdown]
# The curves of fine-tuning; epoch 0 is the network before it:

# %%
plots.save_curves(run.curves("history.csv"), "fine-tuning reaches", run.figures, note)

# %% [markdown]
# ## Both together
#
# Each model has its logits; the score is the sigmoid of their weighted sum. The weights, and a bias
# a genre, are a logistic regression on the validation posters, which no model was trained on,
# though they chose its epochs. So the words weigh more where they tell more, and a score of 0.6 is
# right about 6 times in 10. A poster without words gets the picture's own calibrated score:

# %%
whole = batches.fill_cache([*paths["validation"], *paths["test"]], shown_size, cache.file.parent)


def logits_of(split: str, picture: keras.Model, words: list[WordsModel]) -> dict[str, np.ndarray]:
    posters = batches.PosterBatches(whole, paths[split], labels[split], at_once)
    logits = {"picture": training.predict_logits(picture, posters)}
    for model in words:
        logits |= model.logits(texts[split])
    return logits


logits = run.kept("logits", partial(logits_of, "validation", picture, words))
sums = fusion.fit_fusions(logits, labels["validation"], has_text["validation"])

# %% [markdown]
# A score can be read as yes or no with a threshold a genre, the one with the best F1 on validation,
# drawn toward the common one where a genre is rare. With that, all is chosen:

# %%
scores, _ = fusion.fuse(sums, logits, has_text["validation"])
thresholds = evaluation.tune_thresholds(labels["validation"], scores)
chosen_at = evaluation.macro_average_precision(labels["validation"], scores)
print(f"validation macro mAP of the sum, which was fitted on it: {chosen_at:.3f}")

# %% [markdown]
# ## A last fit
#
# What was held back for choosing is a tenth of all posters, and more posters are more faces, names
# and phrases. With `LAST_FIT` all that was fine-tuned learns anew, from the training and the
# validation posters, as it was chosen, and so do the n-grams; the sum, fitted while the validation
# posters were unknown, stays. There is nothing left to validate on:

# %%
fit_splits = ("train",)
if settings["last_fit"]:
    fit_splits = ("train", "validation")
    learn_pictures(fit_splits, "last_")
    learn_words(fit_splits, "last_")
    picture = models.join_networks(pictures, names, shown_size, data.genres)
    words = words_of(fit_splits, "last_")

# %% [markdown]
# ## The saved model
#
# All is saved with what it needs: its genres in order, its picture size, its thresholds, and which
# posters it has learned from:

# %%
how = settings | dataset.describe(data) | {"validation_macro_map": round(chosen_at, 4)}
model = picture, next(iter(words), None), sums, data.genres, thresholds
rows = pd.concat([parts[split] for split in fit_splits])
save_model(run.folder, *model, rows["id"], how, rows["path"], runs.start_card(START))

# %% [markdown]
# ## The report
#
# From here on only the saved model speaks, as it will for anyone who loads it. It scores the
# validation posters, by which this run made its choices (after a last fit there are none left), and
# the test posters, which it has not seen before. Beside the whole stand the picture alone and the
# words alone:

# %%
saved = load_model(run.folder)
name = " + ".join(names.values()) + " and words" * read_text
scored = {}
for split in dataset.SPLITS[len(fit_splits) :]:
    answer = partial(logits_of, split, saved.network, [saved.words] * read_text)
    answers = run.kept(f"{split}_logits", answer)
    systems = fusion.ablations(saved.sums, answers, has_text[split], name)
    scored |= {f"{system}, {split}": (split, scores) for system, scores in systems.items()}

# %% [markdown]
# The metrics, with 95 % intervals from a thousand bootstrap draws of posters. Thresholds were tuned
# for both parts together. Beside them stands what needs no poster: a table of zeros, and each
# genre's frequency. Look at the last column: element-wise accuracy praises the zeros nearly as much
# as the network, because most posters lack most genres. It is not a result; macro mAP is, and there
# zeros are only chance:

# %%
results = apps.evaluate_systems(scored, labels, data, saved.thresholds)
apps.comparison(results).round(3)

# %% [markdown]
# Do the words help, or was it luck? The whole and the picture alone are scored on the same thousand
# draws of test posters:

# %%
paired, worth = apps.worth_of_words(labels["test"], systems[name], systems)
print(worth)

# %% [markdown]
# Genre by genre on the test set; a bar whose interval stays right of the diamond is surely
# better than guessing by frequency:

# %%
report, prior = results[f"{name}, test"], results["genre prior, test"]
figure = plots.genre_precision(report["per_genre"], prior["per_genre"], note)
run.save_figure(figure, "genre_precision")

# %% [markdown]
# Is a score to be believed? Of all pairs of test poster and genre, sorted by score into 15 equal
# parts, the share that came true stands over the mean score; on the line, 0.6 means 6 in 10:

# %%
truth, guess = labels["test"], systems[name]
figure = plots.reliability(evaluation.reliability(truth, guess), report["calibration_error"], note)
run.save_figure(figure, "reliability")

# %% [markdown]
# A genre's precision by recall: how many of the posters that are handed over are right, if so
# large a share of the genre is to be found?

# %%
run.save_figure(plots.precision_recall(truth, guess, data.genres, note), "precision_recall")

# %% [markdown]
# ## What it gets wrong
#
# Figures say how often, posters say why. The answers that the model was most confident of, right
# and wrong, on test posters; these figures are shown here and saved nowhere:

# %%
for kind, answers in evaluation.most_confident(truth, guess, count=8).items():
    rows, genres = zip(*answers, strict=True)
    captions = [f"{data.genres[g]} {guess[row, g]:.2f}" for row, g in answers]
    shown = cache.pixels(paths["test"][list(rows)])
    plots.poster_grid(shown, captions, f"The most confident {kind}, with their scores", note)

# %% [markdown]
# Which genre is predicted in place of which? A poster gets as many guesses as it has genres; where
# one is missed, another stands in its place:

# %%
instead = evaluation.confusion(truth, guess)
run.save_figure(plots.confusion(instead, truth.sum(axis=0), data.genres, note), "confusion")

# %% [markdown]
# Is it the words? Test posters by how many of them were read: the share of a poster's genres among
# its three highest scores, with the 95 % interval of its mean:

# %%
amounts = [len(text.split()) for text in texts["test"]]
recalls = {system: evaluation.recall(truth, scores) for system, scores in systems.items()}
by_words = evaluation.recall_by_word_count(amounts, recalls)
run.save_figure(plots.recall_by_words(by_words, note), "recall_by_words")

# %% [markdown]
# ## Where everything is
#
# What the figures are worth, in words. They go into `metrics.json` and into the model's own card,
# which `MODEL_CARD.md` tells in sentences:

# %%
print(apps.in_words(report, prior))
metrics = {"sample": source.is_sample, "settings": settings, "results": results}
add_metrics(run.folder, {system: apps.headline(r) for system, r in results.items()})
run.finish(metrics | {"both against picture alone": paired})
apps.write_model_card(run.folder)
print(f"The model is in {run.folder}/; its figures in {run.figures}/. Next: predict.ipynb.")
