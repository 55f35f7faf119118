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
# # Explore: what is in a folder of posters
#
# At the end of this notebook you know your data: which genres there are and how often, which go
# together, what is wrong with the files, and what a "mean poster" looks like. Nothing is trained
# here.
#
# <!-- badges -->
#
# | | on a CPU of 2 cores | GPU and TPU |
# |---|---|---|
# | the 6,642 public posters, no words | 46 s, 1.3 GB | not used |

# %% [markdown]
# The set-up cell finds the package: installed, in the folder around this notebook, or in a copy
# that you uploaded beside it. If there is none, it clones the repository. It installs only what is
# missing, and prints which backend Keras uses:

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
# options: `papermill notebooks/explore.ipynb outputs/explore.ipynb -p LIMIT 1000`.

# %% tags=["parameters"]
DATA: str = ""  # folder or CSV of posters; empty: found or downloaded; "sample": drawn posters
LIMIT: int = 0  # at most this many posters, drawn at random; 0: all
SEED: int = 0  # seed of every random choice
READ_TEXT: str = "auto"  # read words: "yes"; "no"; "auto": if it takes 10 minutes at most
WORDS: str = "outputs/words.jsonl"  # file of words read before; new ones are added
OUTPUT_DIR: str = "outputs/explore"  # folder for the figures, the audit and the pixels

# %% [markdown]
# papermill does not check names, and passes yes and no as text. This cell understands yes and no,
# replaces `~` by your home folder and refuses a mistyped name before the long work:

# %%
from genre_utils.support import as_choice, check_names, expand_user

check_names(globals())
READ_TEXT = as_choice("READ_TEXT", READ_TEXT)
DATA, WORDS, OUTPUT_DIR = map(expand_user, (DATA, WORDS, OUTPUT_DIR))

# %% [markdown]
# This cell imports the package's modules and checks the parameters. Posters are shown small here,
# which is fast:

# %%
import numpy as np
import pandas as pd

from genre_utils import (
    apps,
    batches,
    dataset,
    evaluation,
    images,
    ocr,
    plots,
    runs,
    sources,
    text,
)
from genre_utils.support import write_csv

folder = Path(OUTPUT_DIR)
figures = folder / "figures"
size = images.poster_size(96, "portrait")
plots.use_style()
runs.check_folders(OUTPUT_DIR, WORDS)
runs.check_numbers(LIMIT=LIMIT, SEED=SEED)
print(f"Every poster at {size[0]} × {size[1]} pixels (height × width), outputs in {folder}/")

# %% [markdown]
# ## Where the posters are
#
# The package finds them: at the path you gave, on this machine, or by a download. Without data and
# internet it draws a sample and says so, here and under the title of every figure:

# %%
source = sources.find_data(DATA)
runs.check_outside(folder, source.images)
subtitle = source.subtitle
print(source.announcement)

# %% [markdown]
# ## What is wrong with them
#
# This cell reads the table and decodes each picture once. What cannot be used is left out, and
# everything odd is counted. The findings are about the whole table, before `LIMIT` draws from it.
# Genres with few posters, and pictures that cannot be read, are counted among the drawn ones only:

# %%
data = dataset.load_dataset(source, LIMIT, SEED)
cache = batches.fill_cache(data.posters["path"].tolist(), size, folder / "cache")
data = data.without(cache.unreadable)
audit = data.audit.table()
write_csv(folder / "audit.csv", audit)
pd.set_option("display.max_colwidth", None)
audit[["finding", "count"]]

# %% [markdown]
# To mend a file you need its name. The first five of each finding:

# %%
data.audit.print_examples(5)
print(f"All names are in {folder / 'audit.csv'}; {len(data.posters)} posters can be used.")

# %% [markdown]
# The posters are split before anyone sees them. Below, labels are counted over all posters, but
# only training posters are shown: whoever looks at the test posters fits the model to them.
# The number of posters in each part:

# %%
data.check_parts(["train"])
train = data.part("train")
pd.Series({split: len(data.part(split)) for split in dataset.SPLITS}, name="posters").to_frame()

# %% [markdown]
# ## How often is each genre?
#
# A network learns a genre from examples, so it predicts genres with few posters worse:

# %%
labels = data.labels(data.posters)
figure = plots.genre_counts(labels, data.genres, subtitle)
plots.save_figure(figure, figures, "genre_counts")

# %% [markdown]
# In words, for these posters:

# %%
counts = data.posters[list(data.genres)].sum().sort_values(ascending=False)
few = counts[counts < dataset.FEW_POSTERS]
print(f"{counts.index[0]} has {counts.iloc[0]} posters, {counts.index[-1]} {counts.iloc[-1]}.")
print(f"{len(few)} of {len(counts)} genres have fewer than {dataset.FEW_POSTERS}.", *few.index)

# %% [markdown]
# ## How many genres has a poster?
#
# If each poster had one genre, a network would choose among them. Posters have several, so each
# genre is a question of its own (multi-label classification):

# %%
figure = plots.labels_per_poster(labels, subtitle)
plots.save_figure(figure, figures, "labels_per_poster")

# %% [markdown]
# What that means for the network's last layer:

# %%
amount = labels.sum(axis=1)
print(
    f"{(amount > 1).mean():.0%} of the posters have two or more genres: a softmax cannot give each "
    f"of these a high score.\nPosters without any, never trained on: {(amount == 0).sum()}."
)

# %% [markdown]
# ## Which genres go together?
#
# Read the table by row: of the posters with this genre, what share has the column's genre too? It
# is not symmetric, since all posters of a rare genre can have a frequent one too:

# %%
figure = plots.co_occurrence(labels, data.genres, subtitle)
plots.save_figure(figure, figures, "co_occurrence")

# %% [markdown]
# Two frequent genres are on many posters together by chance alone. These are the five most frequent
# pairs, beside the number that independent genres would have. Where the two numbers differ, one
# genre tells something about the other:

# %%
counted = labels.astype(int)  # int8 ends at 127
together = np.where(np.tri(len(data.genres)), np.nan, counted.T @ counted)  # each pair once
pairs = pd.DataFrame(together, data.genres, data.genres).stack().dropna().nlargest(5).astype(int)
chance = [counts[one] * counts[other] / len(labels) for one, other in pairs.index]
pd.DataFrame({"posters with both": pairs, "by chance": np.round(chance, 1)})

# %% [markdown]
# In words, for the first of them:

# %%
for (one, other), both in pairs.head(1).items():
    print(f"{one} and {other}: {both} posters have both, and by chance {chance[0]:.0f} would.")

# %% [markdown]
# ## What do they look like?
#
# Three training posters of each genre, drawn at random. Cover the captions and guess:

# %%
rng = np.random.default_rng(SEED)
paths = train["path"].to_numpy()
present = [genre for genre in data.genres if train[genre].any()]
drawn = {genre: rng.permutation(np.flatnonzero(train[genre]))[:3] for genre in present}
title = "Would you have known the genre? Three training posters of each"
posters = {genre: cache.pixels(paths[rows]) for genre, rows in drawn.items()}
figure = plots.genre_posters(posters, title, subtitle)
plots.save_figure(figure, figures, "posters")

# %% [markdown]
# How typical is a row of three? In this draw:

# %%
rows = np.concatenate(list(drawn.values()))
others = data.labels(train)[rows].sum(axis=1) - 1
print(
    f"The figure has {len(rows)} pictures, {len(np.unique(rows))} of them different. Of all, "
    f"{(others > 0).mean():.0%} have other genres beside the one in their caption."
)

# %% [markdown]
# ## The mean poster
#
# The mean of each pixel over all training posters of a genre shows what they share: the tone, where
# the face is, the block of credits. This cell adds up a few hundred posters at a time, so that
# memory does not grow with their number:

# %%
one_hot = train[present].to_numpy(float)
sums, single = np.zeros((len(present), *size, 3)), np.zeros(len(train))
for rows in np.array_split(np.arange(len(train)), len(train) // 256 + 1):
    pixels = cache.pixels(paths[rows]).astype(np.float32)
    sums += np.tensordot(one_hot[rows].T, pixels, axes=1)
    single[rows] = pixels.mean(axis=(1, 2, 3))
means = dict(zip(present, sums / one_hot.sum(axis=0)[:, None, None, None], strict=True))

# %% [markdown]
# The mean posters, sorted from dark to bright, with the number of posters in brackets:

# %%
brightness = pd.Series({genre: mean.mean() for genre, mean in means.items()}).sort_values()
captions = [f"{genre} ({train[genre].sum()})" for genre in brightness.index]
pictures = np.stack([means[genre].round().astype(np.uint8) for genre in brightness.index])

# %% [markdown]
# A mean of few posters is only a blurred poster, so the title is about genres with enough of them:

# %%
least = min(dataset.FEW_POSTERS, *train[present].sum().nlargest(2))
enough = brightness[[train[genre].sum() >= least for genre in brightness.index]]
dark, bright = enough.index[0], enough.index[-1]
title = f"Of genres with {least} or more posters, {dark} is the darkest and {bright} the brightest"
figure = plots.poster_grid(pictures, captions, title, subtitle)
plots.save_figure(figure, figures, "mean_posters")

# %% [markdown]
# Is that difference large? Compare it with how much single posters differ:

# %%
gap = brightness[bright] - brightness[dark]
spread = single.std()
print(
    f"From 0 (black) to 255 (white), {dark} has a mean of {brightness[dark]:.0f} and {bright} of "
    f"{brightness[bright]:.0f}. They differ by {gap:.0f}, or {gap / spread:.1f} times the standard "
    f"deviation of single posters, {spread:.0f}."
)

# %% [markdown]
# ## The words on them
#
# This cell reads the words on the training posters once, into the file that `train.ipynb` uses.
# If that would take too long, nothing is read, and the tables below stay empty:

# %%
word_cache = ocr.WordCache(machine.persistent_path(WORDS))
read_text, why = ocr.decide(READ_TEXT, train["path"].tolist(), word_cache)
print(why)
found = ocr.read_posters(train["path"].tolist(), word_cache).lines if read_text else {}
lines = [found.get(path, []) for path in train["path"]]

# %% [markdown]
# The words that are on a genre's training posters far more often than on the others:

# %%
texts = [text.join_lines(read) for read in lines]
typical = text.typical_words(texts, data.labels(train), data.genres)
listed = {genre: ", ".join(names) for genre, names in typical.items() if names}
pd.Series(listed, name="typical words", dtype=str).rename_axis("genre").to_frame()

# %% [markdown]
# In words, how much there is to read:

# %%
amounts = np.array([len(text.split()) for text in texts])
half, none = np.median(amounts), (amounts == 0).mean()
counted = f"On half of the training posters {half:.0f} or more words were read, on {none:.0%} none."
print(counted if read_text else why)

# %% [markdown]
# ## How large are the pictures?
#
# A network input with more pixels than the files have costs time and adds nothing. The sizes are
# in the files' headers, so no picture is decoded here:

# %%
sizes = dataset.picture_sizes(data.posters["path"])
figure = plots.picture_sizes(sizes, subtitle)
plots.save_figure(figure, figures, "picture_sizes")

# %% [markdown]
# The share of posters that are at least as wide as some values of `IMG_SIZE` in `train.ipynb`:

# %%
print(f"Half of the posters are {np.median(sizes[:, 1]):.0f} or more pixels wide.")
widths = {width: (sizes[:, 1] >= width).mean() for width in (128, 224, 250, 272, 350)}
pd.Series(widths, name="share of posters").rename_axis("pixels wide").round(3).to_frame()

# %% [markdown]
# ## Why accuracy lies here
#
# Element-wise accuracy is the share of right cells in the table of all labels, zeros and ones. Two
# predictions that see no poster are scored with it, a table of zeros and each genre's frequency:

# %%
blind = evaluation.baselines(labels, labels, data.genres, data.has_missing_column)
columns = ["element-wise accuracy", "macro mAP", "macro F1"]
apps.comparison(blind)[columns].round(3)

# %% [markdown]
# In words:

# %%
zeros = blind["all zeros"]
print(
    f"The zeros have {zeros['element_accuracy']:.1%} of the cells right and find not one genre: "
    f"so many cells are zero, as a poster has {amount.mean():.1f} of {len(data.genres)} genres."
)

# %% [markdown]
# Macro mAP measures for each genre whether its posters are ranked above the others, and each genre
# counts the same. Without any ranking it is the mean frequency of the genres: that is the figure in
# both rows above, and what a network has to exceed.

# %% [markdown]
# ## Where everything is
#
# The figures and the audit are saved, and the next notebook trains:

# %%
print(f"The figures are in {figures}/, the audit in {folder / 'audit.csv'}. Next: train.ipynb.")
