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
# At the end of this notebook you have a folder with a trained model, and an honest report of how
# well it predicts genres from a poster alone. Networks pretrained on ImageNet see the picture, a
# network pretrained on English sentences sees the words, and one score comes from both.
#
# <!-- badges -->
#
# | | on a CPU of 2 cores | GPU and TPU |
# |---|---|---|
# | the 6,642 public posters, 250 wide, heads alone, no words | 13 min, 1.8 GB | not measured |

# %% [markdown]
# The set-up cell finds the package: installed, in the folder around this notebook, or in a copy
# that you uploaded beside it. If there is none, it clones the repository. Then it chooses Keras'
# backend, TensorFlow, JAX or PyTorch, and installs only what is missing:

# %%
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = ""  # address of the repository to clone when this notebook was opened alone
ALONE = "Write an address into REPOSITORY, or upload a copy of the repository beside this notebook."
roots = [Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*"), *Path("/kaggle/input").glob("*")]
sys.path[:0] = [str(root) for root in roots if (root / "genre_utils").is_dir()]
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
SECOND_MODEL: str = "efficientnet_lite0"  # second network, averaged with the first; empty: none
START: str = "imagenet"  # weights to start from; "posters": the released model's
EPOCHS: int = -1  # epochs of fine-tuning; 0: heads; -1: 8, on a CPU 0; from random weights 20
READ_TEXT: str = "auto"  # read words: "yes"; "no"; "auto": if it takes 10 minutes at most
WORDS: str = "outputs/words.jsonl"  # file of words read before; new ones are added
WORD_EPOCHS: int = -1  # epochs of fine-tuning the words' network; -1: 0 on a CPU, else 4
LAST_FIT: bool = False  # True: at the end, train anew on training and validation posters together
BATCH_SIZE: int = 16  # posters a step and device in fine-tuning, 1 or more
LIMIT: int = 0  # at most this many posters, drawn at random; 0: all
SEED: int = 0  # seed of every random choice
OUTPUT_DIR: str = "outputs/model"  # folder for the model, its figures and caches
RESTART: bool = False  # True: delete the training in OUTPUT_DIR, this one too, and begin anew
TENSORBOARD: bool = False  # True: also write TensorBoard logs to OUTPUT_DIR/tensorboard

# %% [markdown]
# papermill does not check names, and passes yes and no as text. This cell understands yes and no,
# replaces `~` by your home folder and refuses a mistyped name:

# %%
from genre_utils.support import as_bool, as_choice, check_names, expand_user

check_names(globals())
LAST_FIT, RESTART = as_bool("LAST_FIT", LAST_FIT), as_bool("RESTART", RESTART)
TENSORBOARD, READ_TEXT = as_bool("TENSORBOARD", TENSORBOARD), as_choice("READ_TEXT", READ_TEXT)
DATA, WORDS, OUTPUT_DIR = map(expand_user, (DATA, WORDS, OUTPUT_DIR))
machine.check_tensorboard(TENSORBOARD)

# %% [markdown]
# All GPUs or TPU cores of the machine share each step, and compute in bfloat16 where they can. The
# batch grows with their number, and the learning rate with the batch:

# %%
print(machine.connect())

# %% [markdown]
# This cell imports the package's modules, checks the parameters and derives from them what the
# notebook needs. Sizes are (height, width) everywhere. A network of your own is registered in a
# cell above this one; README has an example:

# %%
from functools import partial

import keras
import numpy as np
import pandas as pd

from genre_utils import apps, batches, dataset, images, models, ocr, plots, runs, sources, training

size = images.poster_size(IMG_SIZE, IMG_SHAPE)
names = models.choose_networks(MODEL, SECOND_MODEL, size)
runs.check_numbers(BATCH_SIZE=BATCH_SIZE, LIMIT=LIMIT, SEED=SEED)
runs.check_folders(OUTPUT_DIR, WORDS)
epochs = runs.choose_epochs(EPOCHS, MODEL, machine.accelerated())
word_epochs = runs.choose_epochs(WORD_EPOCHS, None, machine.accelerated())
batch, word_batch = (n * machine.replicas() for n in (BATCH_SIZE, 32))  # posters, texts a step
plots.use_style()

# %% [markdown]
# ## Why not a softmax?
#
# A softmax divides one unit of probability among the genres: a film that is surely a drama *and*
# surely a romance gets 0.5 for each at most. A sigmoid answers a question for each genre:

# %%
logits = np.array([4.0, 4.0, -4.0])
softmax = np.exp(logits) / np.exp(logits).sum()
sigmoid = 1 / (1 + np.exp(-logits))
pd.DataFrame({"softmax": softmax, "sigmoid": sigmoid}, ["Drama", "Romance", "Horror"]).round(3)

# %% [markdown]
# Binary cross-entropy is the loss of one yes-or-no question for each genre. Keras trains every
# network below with it; change it here to use another binary loss:

# %%
loss = keras.losses.BinaryCrossentropy(from_logits=True)

# %% [markdown]
# ## The posters
#
# The package finds the data: at the path you gave, on this machine, or by a download. Without data
# and internet it draws a sample and says so:

# %%
source = sources.find_data(DATA)
runs.check_outside(OUTPUT_DIR, source.images)
data = dataset.load_dataset(source, LIMIT, SEED)
data.check_parts()
runs.check_start(START, data)
files, subtitle = data.posters["path"].tolist(), source.subtitle
print(source.announcement)

# %% [markdown]
# Each run has a folder. With the same settings it resumes where it stopped. Without `RESTART`,
# other settings in the same folder are refused, so that nothing is overwritten by accident. In
# Colab the folder is on your Drive, which a disconnect does not delete. If several hosts train
# together, each has its own:

# %%
settings = {"model": MODEL, "image_size": list(size), "epochs": epochs, "batch_size": batch}
settings |= {"second_model": names.get("second", ""), "start": START, "seed": SEED, "limit": LIMIT}
settings |= {"data": dataset.fingerprint(data), "sample": bool(subtitle)}
settings |= {"loss": runs.loss_settings(loss)}
output = runs.own_folder(machine.persistent_path(OUTPUT_DIR))
choice = runs.choice_of_run(output, settings, READ_TEXT, RESTART)

# %% [markdown]
# A poster is a picture *and* words. Should this run use the words? `READ_TEXT` decides; "auto"
# measures how long it would take to read those that are not yet in the file `WORDS`:

# %%
word_cache = ocr.WordCache(machine.persistent_path(WORDS))
read_text, why = ocr.decide(choice, files, word_cache)
print(why)

# %% [markdown]
# Now all settings are known. Each stage below saves its result and returns the saved one if it is
# there. So a training that was stopped resumes, and one that is finished reports again in minutes:

# %%
settings |= {"read_text": read_text, "word_epochs": word_epochs * read_text}
settings["encoder"] = runs.choose_encoder(START, read_text, output, RESTART)
settings["last_fit"] = LAST_FIT and (read_text or epochs > 0)
run = runs.open_run(output, settings, RESTART)
print(run.state)

# %% [markdown]
# Each poster is decoded once for each size, and kept on this machine as pixels. The table counts
# the pictures that cannot be read, which are left out, and everything else that is wrong with the
# data. The run remembers which pictures it uses:

# %%
cache = batches.fill_cache(files, size, runs.own_folder(OUTPUT_DIR) / "cache")
run, left_out = runs.settle_pictures(run, files, cache.unreadable)
data = data.without(left_out)
data.check_parts()
data.audit.table().query("count > 0")

# %% [markdown]
# The split is by poster, not by row: a picture that is in the table twice is in one part only. The
# network trains on the first part, choices are made on the second, and the test posters are scored
# at the end, when nothing is left to choose:

# %%
parts = {split: data.part(split) for split in dataset.SPLITS}
paths = {split: rows["path"].to_numpy() for split, rows in parts.items()}
labels = {split: data.labels(rows) for split, rows in parts.items()}
pd.Series({split: len(rows) for split, rows in parts.items()}, name="posters").to_frame()

# %% [markdown]
# ## The networks of the picture
#
# Each network returns one logit for each genre. A second network makes other mistakes than the
# first, and the mean of both makes fewer. If ImageNet's weights cannot be downloaded, this cell
# stops with a message:

# %%
keras.utils.set_random_seed(SEED)
pictures = {part: models.build_model(name, size, data.genres) for part, name in names.items()}
first_weights = {}  # of each network, before it is fine-tuned
runs.start_from(START, pictures, names)
run.begin(pictures.values())

# %% [markdown]
# How long will it take? This cell measures how fast these networks are on this machine. The time
# for the text network is not counted, and `LAST_FIT` fine-tunes all networks again:

# %%
print(runs.forecast(pictures.values(), len(paths["train"]), len(paths["validation"]), epochs))

# %% [markdown]
# ## First phase: the head on a frozen backbone
#
# A backbone already sees edges, faces, letters. While it is frozen, its features of a poster do not
# change: they are computed once, and the head trains on them in seconds. It stops when macro mAP on
# validation no longer rises. Macro mAP is the mean over genres of the average precision; a table of
# zeros gets no more than chance. Features are `(n, features)` by split, labels `(n, genres)`:


# %%
def fit_head(part: str, head: keras.Model, features: dict[str, np.ndarray]) -> None:
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss)
    head.fit(**runs.head_fit(run.part(part), head, features, labels))
    plots.save_curves(run.curves("head.csv", [part]), "head", run.figures, subtitle)


# %% [markdown]
# Each pretrained network of the picture has a backbone and a head, and `fit_head` trains the head.
# Its curves follow; the weights of the marked epoch, with the highest macro mAP, are kept:

# %%
for part, network in models.with_backbone(pictures).items():
    compute = partial(training.frozen_features, network.get_layer("backbone"), cache, paths)
    fit_head(part, network.get_layer("head"), run.kept(f"{part}_features", compute))

# %% [markdown]
# ## Second phase: fine-tuning
#
# Now whole networks are trained. The learning rate is small and falls along a cosine, so that they
# keep what they know. Batch statistics and the first layers stay frozen, because ImageNet has more
# pictures for them. Each epoch is one `fit`, and its state is saved: a killed run resumes there.
# Training stops when two epochs have not improved validation. On a CPU `EPOCHS` is 0 unless you set
# it, and this phase changes nothing. If you do set it there, set `IMG_SIZE` to 192, too: a CPU
# trains on twice as many such posters a second (`python benchmarks/fine_tuning.py`). A network that
# starts from random weights has nothing to keep: all its layers learn, at a constant rate, in all
# epochs (20 unless you set them). The phase:


# %%
def fine_tune(networks, batches_of, validated, epochs, batch, splits=("train",), prefix=""):
    validation = validated, labels["validation"]
    for part, network in networks.items():
        network.set_weights(first_weights.setdefault(part, network.get_weights()))
        models.freeze_for_fine_tuning(network)
        steps = epochs * len(batches_of(splits, 0))
        network.compile(training.choose_optimizer(network, steps, batch), loss)
        stage, data_of = run.part(prefix + part), partial(batches_of, splits)
        logs = [keras.callbacks.TensorBoard(f"{output}/tensorboard/{prefix}{part}")] * TENSORBOARD
        for model, data, options in runs.epochs(stage, network, data_of, epochs, validation, logs):
            model.fit(data, **options)


# %% [markdown]
# Each epoch has its own order, crops and dropout, which depend on the seed and the epoch alone.
# Only pretrained networks see crops; one that starts from random weights sees posters as they are:


# %%
augmented = MODEL in models.PRETRAINED


def posters_of(splits: tuple[str, ...], epoch: int) -> batches.PosterBatches:
    files, truth = (np.concatenate([of[split] for split in splits]) for of in (paths, labels))
    return batches.PosterBatches(cache, files, truth, batch, SEED, epoch, augmented)


# %% [markdown]
# A crop is enlarged to the network's input, so faces and letters are larger on it than on a whole
# poster. After fine-tuning, whole posters are shown 1.17 times as large to make up for that. The
# logits of the picture are the mean of its networks':

# %%
validated = batches.PosterBatches(cache, paths["validation"], labels["validation"])
train_pictures = partial(fine_tune, pictures, posters_of, validated, epochs, batch)
train_pictures()
shown_size = training.shown_size(size, augmented, epochs)
picture = models.join_networks(pictures, names, shown_size, data.genres)

# %% [markdown]
# ## The words
#
# The reader takes the words from the posters that it has not read before. The text of a poster is
# its lines, the highest letters first: the title, then what is smaller:

# %%
from genre_utils import evaluation, fusion, networks, text

lines_of = ocr.read_posters(files, word_cache).lines if read_text else {}
lines = {split: [lines_of.get(path, []) for path in paths[split]] for split in paths}
texts = {split: [text.join_lines(read) for read in lines[split]] for split in lines}
has_text = {split: np.array([bool(text) for text in texts[split]]) for split in texts}
pd.Series({split: marks.mean() for split, marks in has_text.items()}, name="share with words")

# %% [markdown]
# MiniLM, a sentence encoder, was trained on a billion pairs of sentences: it maps a text to a
# vector by what the text means. A head like the picture's is first trained on these vectors, while
# the encoder is frozen. If no words are read, `text_networks` stays empty:

# %%
tokens = {split: networks.tokenize(texts[split]) for split in texts}
text_networks = {}
if read_text:
    keras.utils.set_random_seed(SEED + 1)
    encoder = networks.load_encoder(settings["encoder"])
    text_networks["words"] = models.build_words_model(encoder, data.genres)
    vectors = run.kept("vectors", partial(networks.run_on_splits, encoder, tokens))
    fit_head("words", text_networks["words"].get_layer("head"), vectors)

# %% [markdown]
# Then the whole text network is fine-tuned like those of the picture. In each epoch a fifth of the
# lines is left out at random, so that the network cannot learn a few thousand posters by heart:


# %%
def texts_of(splits: tuple[str, ...], epoch: int) -> batches.WordBatches:
    files, truth = (np.concatenate([of[split] for split in splits]) for of in (paths, labels))
    key_of = {path: batches.random_key(path, SEED, epoch) + 1 for path in files}
    kept = [text.drop_lines(lines_of.get(path, []), key_of[path]) for path in files]
    tokens = networks.tokenize([text.join_lines(read) for read in kept])
    return batches.WordBatches(tokens, files, truth, word_batch, SEED, epoch)


# %% [markdown]
# A sentence encoder knows few names. A linear model on n-grams learns which actors, studios and
# festivals are on the posters of which genre. N-grams of characters beside those of words make it
# robust to misread letters:

# %%
from genre_utils.saved_model import WordsModel, add_metrics, load_model, save_model

validated = tokens["validation"]
train_text = partial(fine_tune, text_networks, texts_of, validated, word_epochs, word_batch)
train_text()


def words_of(splits: tuple[str, ...], prefix: str = "") -> list[WordsModel]:
    everyone, truth = (np.concatenate([of[split] for split in splits]) for of in (texts, labels))
    fit = partial(text.NgramModel.fit, everyone, truth)
    ngrams = [run.kept_ngrams(f"{prefix}ngrams", fit) for _ in text_networks]
    return list(map(WordsModel, text_networks.values(), ngrams))


words = words_of(("train",))

# %% [markdown]
# The curves of fine-tuning; epoch 0 is the network before it:

# %%
plots.save_curves(run.curves("history.csv"), "fine_tuning", run.figures, subtitle)

# %% [markdown]
# ## Both together
#
# The score is the sigmoid of a weighted sum of all models' logits. A logistic regression on the
# validation posters fits a weight for each model and a bias for each genre. No model was trained on
# these posters, though they chose its epochs. So the better model weighs more, and of the scores of
# 0.6 about 6 in 10 come true. A poster without words gets the calibrated score of its picture:

# %%
shown_cache = cache.at(shown_size, [*paths["validation"], *paths["test"]])


def logits_of(split: str, picture: keras.Model, words: list[WordsModel]) -> dict[str, np.ndarray]:
    posters = batches.PosterBatches(shown_cache, paths[split], labels[split])
    logits = {"picture": training.predict_logits(picture, posters)}
    for model in words:
        logits |= model.logits(texts[split])
    return logits


logits = run.kept("logits", partial(logits_of, "validation", picture, words))
fusions = fusion.fit_fusions(logits, labels["validation"], has_text["validation"])

# %% [markdown]
# A threshold for each genre turns a score into yes or no. It is a weighted mean of two, each with
# the best F1 on validation: of this genre alone, and of all genres. The fewer posters a genre has,
# the more the second weighs. This is the last choice that is made on the validation posters:

# %%
scores, _ = fusion.fuse(fusions, logits, has_text["validation"])
thresholds = evaluation.tune_thresholds(labels["validation"], scores)
chosen_at = evaluation.macro_average_precision(labels["validation"], scores)
print(f"Macro mAP on {len(scores)} validation posters, which fitted the sum too: {chosen_at:.3f}")

# %% [markdown]
# ## A last fit
#
# The validation posters are a tenth of all, and more posters teach more faces, names and phrases.
# With `LAST_FIT` the networks that were fine-tuned, and the n-grams, are trained anew on training
# *and* validation posters, with the settings chosen above. The weights of the sum stay as they
# were fitted. After that no posters are left to validate on:

# %%
fit_splits = dataset.SPLITS[: 1 + settings["last_fit"]]
if settings["last_fit"]:
    train_pictures(fit_splits, "last_")
    train_text(fit_splits, "last_")
    picture = models.join_networks(pictures, names, shown_size, data.genres)
    words = words_of(fit_splits, "last_")

# %% [markdown]
# ## The saved model
#
# The folder gets the networks and what they need: the genres in order, the picture size, the
# thresholds, and which posters the model was trained on:

# %%
description = settings | dataset.describe(data) | {"validation_macro_map": round(chosen_at, 4)}
model = picture, next(iter(words), None), fusions, data.genres, thresholds
rows = pd.concat([parts[split] for split in fit_splits])
save_model(run.folder, *model, rows["id"], description, rows["path"], runs.start_card(settings))

# %% [markdown]
# ## The report
#
# From here on the notebook uses the saved model, as anyone who loads it will. It scores the
# validation posters, on which this run made its choices (unless `LAST_FIT` trained on them), and
# the test posters, which no part has seen. Each is also scored by the picture alone and by the
# words alone:

# %%
saved = load_model(run.folder)
name = " + ".join(names.values()) + " and words" * read_text
scored = {}
for split in dataset.SPLITS[len(fit_splits) :]:
    predict = partial(logits_of, split, saved.network, [saved.words] * read_text)
    logits = run.kept(f"{split}_logits", predict)
    systems = apps.ablations(saved.fusions, logits, has_text[split], name)
    scored |= {f"{system}, {split}": (split, scores) for system, scores in systems.items()}

# %% [markdown]
# The metrics, beside two baselines that see no poster: a table of zeros, and each genre's
# frequency. Look at element-wise accuracy: it is nearly as high for the zeros as for the network,
# because most posters lack most genres. So it is not a result. Macro mAP is: there the
# zeros get no more than chance. It is over the genres with five posters or more, and missing where
# none has as many. The thresholds of the tuned F1 are those of picture and words together:

# %%
results = apps.evaluate_systems(scored, labels, data, saved.thresholds)
apps.comparison(results).round(3)

# %% [markdown]
# Do the words help, or was it luck? Both systems are scored on the same thousand bootstrap draws of
# test posters:

# %%
paired, worth = apps.worth_of_words(labels["test"], systems[name], systems)
print(worth)

# %% [markdown]
# Genre by genre on the test set, with 95 % intervals from a thousand bootstrap draws of posters. A
# genre whose whole interval is right of the diamond is predicted better than by its frequency:

# %%
report, prior = results[f"{name}, test"], results["genre prior, test"]
figure = plots.genre_precision(report["per_genre"], prior["per_genre"], subtitle)
run.save_figure(figure, "genre_precision")

# %% [markdown]
# In words, over all genres:

# %%
print(apps.in_words(report, prior))

# %% [markdown]
# Can a score be believed? All pairs of test poster and genre are sorted by score into 15 bins of
# equal size. A point is a bin: its mean score, and the share that came true. On the line, 6 in 10
# of the scores of 0.6 come true:

# %%
truth, scores = labels["test"], systems[name]
bins = evaluation.reliability(truth, scores)
run.save_figure(plots.reliability(bins, report["calibration_error"], subtitle), "reliability")

# %% [markdown]
# Most scores are low and easy to get right, so look at each poster's three highest, too:

# %%
print(f"The three highest scores are off by {report['calibration_error_top3']:.3f} on average.")

# %% [markdown]
# The lower the threshold, the more posters of a genre are found (recall), and the more of the
# posters found are of other genres (precision falls). The curves of all genres:

# %%
run.save_figure(plots.precision_recall(truth, scores, data.genres, subtitle), "precision_recall")

# %% [markdown]
# ## What it gets wrong
#
# Metrics count mistakes; the posters show what they are. These are the test posters on which the
# model was most confident, rightly and wrongly. The figures are not saved, because the posters are
# not ours:

# %%
for kind, pairs in evaluation.most_confident(truth, scores, count=8).items():
    rows, genres = zip(*pairs, strict=True)
    captions = [f"{data.genres[g]} {scores[row, g]:.2f}" for row, g in pairs]
    pixels = cache.pixels(paths["test"][list(rows)])
    plots.poster_grid(pixels, captions, f"The most confident {kind}, with their scores", subtitle)

# %% [markdown]
# Which genre is predicted instead of which? Each poster gets as many predictions as it has genres,
# so for each genre that is missed another one is predicted:

# %%
instead = evaluation.confusion(truth, scores)
run.save_figure(plots.confusion(instead, truth.sum(axis=0), data.genres, subtitle), "confusion")

# %% [markdown]
# Does it depend on the words? The test posters are grouped by how many words were read on them. A
# point is the mean top-3 recall of a group, the share of a poster's genres among its three highest
# scores, with a 95 % interval:

# %%
amounts = [len(text.split()) for text in texts["test"]]
recalls = {system: evaluation.recall(truth, scores) for system, scores in systems.items()}
by_words = evaluation.recall_by_word_count(amounts, recalls)
run.save_figure(plots.recall_by_words(by_words, subtitle), "recall_by_words")

# %% [markdown]
# ## Where everything is
#
# The metrics go into `metrics.json` and into the model's `model.json`. `MODEL_CARD.md` says in
# sentences what the model is and how good it is:

# %%
metrics = {"sample": source.is_sample, "settings": settings, "results": results}
add_metrics(run.folder, results)
run.finish(metrics | {"both against picture alone": paired})
apps.write_model_card(run.folder)
print(f"The model is in {run.folder}/; its figures in {run.figures}/. Next: predict.ipynb.")
