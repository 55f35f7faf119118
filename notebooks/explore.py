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
# At the end of this notebook you know what a network would be shown: which genres there are and
# how often, which go together, what is wrong with the files, and what a "mean poster" looks like.
# Nothing is trained here. It is the hour before training that saves the day after it.
#
# <!-- badges -->
#
# | | on a CPU | GPU and TPU |
# |---|---|---|
# | the 6,642 public posters | 41 s of processor time, 1.0 GB of memory | not used |

# %% [markdown]
# The set-up cell finds the package: installed, in the folder around this notebook, or in a copy
# uploaded beside it. When the notebook was opened alone, it fetches the repository. It installs
# only what is missing, and says what Keras computes with:

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
# options: `papermill notebooks/explore.ipynb outputs/explore.ipynb -p LIMIT 1000`.

# %% tags=["parameters"]
DATA: str = ""  # folder or CSV of posters; empty: found or downloaded; "sample": drawn posters
LIMIT: int = 0  # at most this many posters, drawn at random; 0: all
SEED: int = 0  # seed of every random choice
READ_TEXT: str = "auto"  # read words: "yes"; "no"; "auto": if it takes 10 minutes at most
WORDS: str = "outputs/words.jsonl"  # file of words read before; new ones are added
OUTPUT_DIR: str = "outputs/explore"  # folder for the figures, the audit and the pixels

# %% [markdown]
# papermill hands over text. "no" means no here, and `~` is your own folder; what is neither yes nor
# no is refused before any work:

# %%
from genre_utils.support import as_choice, expand_user

READ_TEXT = as_choice("READ_TEXT", READ_TEXT)
DATA, WORDS, OUTPUT_DIR = map(expand_user, (DATA, WORDS, OUTPUT_DIR))

# %% [markdown]
# Posters are looked at in a small size here, which is quick and enough for the eye:

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
runs.check_writable(folder)
runs.check_numbers(1, LIMIT, SEED)
runs.check_writable(Path(WORDS).parent, "WORDS")
print(f"Every poster at {size[0]} × {size[1]} pixels (height × width), outputs in {folder}/")

# %% [markdown]
# ## Where the posters are
#
# A path you gave, or the place where they were found. No data and no internet is no reason to
# stop, the package draws a sample then and says so, here and under the title of every figure:

# %%
source = sources.find_data(DATA)
runs.check_outside(folder, source.images)
note = source.note
print(source.announcement)

# %% [markdown]
# ## What is wrong with them
#
# Something always is. The table is read and each picture decoded once; what cannot be used is
# left out, and everything odd is counted. The table is checked as a whole, before `LIMIT` draws:

# %%
data = dataset.load_dataset(source, LIMIT, SEED)
cache = batches.fill_cache(data.posters["path"].tolist(), size, folder / "cache")
data = data.without(cache.unreadable)
audit = data.audit.table()
write_csv(folder / "audit.csv", audit)
pd.set_option("display.max_colwidth", None)
audit[["finding", "count"]]

# %% [markdown]
# A count helps nobody to mend a file; a name does. The first five of each finding:

# %%
data.audit.print_examples(5)
print(f"All names are in {folder / 'audit.csv'}; {len(data.posters)} posters can be used.")

# %% [markdown]
# The split is made before anyone looks. Labels are counted over all posters below, but pictures
# are shown from the training posters only: whoever has studied the test set designs for it.

# %%
train = data.require_part("train")
pd.Series({split: len(data.part(split)) for split in dataset.SPLITS}, name="posters").to_frame()

# %% [markdown]
# ## How often is each genre?
#
# A network learns a genre from its examples, so the length of a bar says how well it can do:

# %%
labels = data.labels(data.posters)
figure = plots.genre_counts(labels, data.genres, note)
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
# If each had one, this would be a task of choosing; it is a task of ticking boxes:

# %%
figure = plots.labels_per_poster(labels, note)
plots.save_figure(figure, figures, "labels_per_poster")

# %% [markdown]
# What that means for the network's last layer:

# %%
amount = labels.sum(axis=1)
print(
    f"{(amount > 1).mean():.0%} of the posters have two or more genres, which a softmax could "
    f"never all be sure of.\nPosters without any, never trained on: {(amount == 0).sum()}."
)

# %% [markdown]
# ## Which genres go together?
#
# Read it along a row: of the posters with this genre, how many have that one too? It is not
# symmetric, since a rare genre can lie wholly inside a frequent one:

# %%
figure = plots.co_occurrence(labels, data.genres, note)
plots.save_figure(figure, figures, "co_occurrence")

# %% [markdown]
# Frequent genres meet by chance already. The commonest pairs, beside what chance would give if
# genres knew nothing of each other; where the two differ, one genre is a hint at the other:

# %%
marks = labels.astype(int)
pairs = pd.DataFrame(np.triu(marks.T @ marks, 1), data.genres, data.genres).stack().nlargest(5)
chance = [counts[one] * counts[other] / len(labels) for one, other in pairs.index]
pd.DataFrame({"posters with both": pairs, "by chance": np.round(chance, 1)})

# %% [markdown]
# In words, for the first of them:

# %%
(one, other), both = pairs.index[0], pairs.iloc[0]
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
figure = plots.genre_posters(posters, title, note)
plots.save_figure(figure, figures, "posters")

# %% [markdown]
# How far one may trust a row of three, in this draw:

# %%
rows = np.concatenate(list(drawn.values()))
others = data.labels(train)[rows].sum(axis=1) - 1
print(
    f"{len(rows)} places show {len(np.unique(rows))} different posters; {(others > 0).mean():.0%} "
    "of the places show a poster with further genres than the one in its caption."
)

# %% [markdown]
# ## The mean poster
#
# Lay all training posters of a genre over each other and take the mean of each pixel. What is
# left is what they share: the tone, the place of the face, the block of credits. The posters are
# added up a few hundred at a time, so that more of them do not need more memory:

# %%
marks = train[present].to_numpy(float)
sums, single = np.zeros((len(present), *size, 3)), np.zeros(len(train))
for rows in np.array_split(np.arange(len(train)), len(train) // 256 + 1):
    pixels = cache.pixels(paths[rows]).astype(np.float32)
    sums += np.tensordot(marks[rows].T, pixels, axes=1)
    single[rows] = pixels.mean(axis=(1, 2, 3))
means = dict(zip(present, sums / marks.sum(axis=0)[:, None, None, None], strict=True))

# %% [markdown]
# They stand from dark to bright, with the number of posters in brackets:

# %%
brightness = pd.Series({genre: mean.mean() for genre, mean in means.items()}).sort_values()
captions = [f"{genre} ({train[genre].sum()})" for genre in brightness.index]
pictures = np.stack([means[genre].round().astype(np.uint8) for genre in brightness.index])

# %% [markdown]
# A mean of few posters is only a blurred poster, so the title speaks of the genres with enough:

# %%
least = min(dataset.FEW_POSTERS, train[present].sum().max())
enough = brightness[[train[genre].sum() >= least for genre in brightness.index]]
dark, bright = enough.index[0], enough.index[-1]
title = f"Of genres with {least} or more posters, {dark} is the darkest and {bright} the brightest"
figure = plots.poster_grid(pictures, captions, title, note)
plots.save_figure(figure, figures, "mean_posters")

# %% [markdown]
# Is that difference large? Beside how much single posters differ:

# %%
gap = brightness[bright] - brightness[dark]
spread = single.std()
print(
    f"From 0 (black) to 255 (white), {dark} has a mean of {brightness[dark]:.0f} and {bright} of "
    f"{brightness[bright]:.0f}: {gap:.0f} apart. Single posters have a standard deviation of "
    f"{spread:.0f}, a gap of {gap / spread:.1f} of these."
)

# %% [markdown]
# ## What do they say?
#
# A poster is words, too. They are read as `train.ipynb` reads them, once, into the same file. Where
# that takes too long, the table below stays empty:

# %%
word_cache = ocr.WordCache(machine.persistent_path(WORDS))
read_text, why = ocr.decide(READ_TEXT, train["path"].tolist(), word_cache)
print(why)
found = ocr.read_posters(train["path"].tolist(), word_cache).lines if read_text else {}
lines = [found.get(path, []) for path in train["path"]]

# %% [markdown]
# The words that stand on a genre's training posters far more often than on the others:

# %%
texts = [text.join_lines(read) for read in lines]
typical = text.typical_words(texts, data.labels(train), data.genres)
listed = {genre: ", ".join(names) for genre, names in typical.items() if names}
pd.Series(listed, name="typical words", dtype=str).rename_axis("genre").to_frame()

# %% [markdown]
# How much there is to read:

# %%
amounts = np.array([len(text.split()) for text in texts])
print(
    f"Half of the training posters have {np.median(amounts):.0f} or more words that were read; "
    f"{(amounts == 0).mean():.0%} have none."
)

# %% [markdown]
# ## How large are the pictures?
#
# Asking a network for more pixels than the files have costs time and brings nothing. The sizes
# stand in the files' headers, so no picture is decoded for this:

# %%
sizes = dataset.picture_sizes(data.posters["path"])
figure = plots.picture_sizes(sizes, note)
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
# A tempting figure: lay all labels out as a table of zeros and ones, and count the cells that are
# right. Now let something answer that has seen no poster at all: a table of zeros, and each
# genre's frequency:

# %%
guessed = evaluation.baselines(labels, labels, data.genres, data.has_missing_column)
columns = ["element-wise accuracy", "macro mAP", "macro F1"]
apps.comparison(guessed)[columns].astype(float).round(3)

# %% [markdown]
# In words:

# %%
zeros = guessed["all zeros"]
print(
    f"The zeros have {zeros['element_accuracy']:.1%} of the cells right and find not one genre; "
    f"most cells are zero because a poster has {amount.mean():.1f} of {len(data.genres)} genres."
)

# %% [markdown]
# Macro mAP asks instead whether the posters of a genre are ranked above the others, genre by
# genre, and each genre counts the same. One who ranks nothing gets the genres' mean frequency,
# which is the figure in both rows above. That is the floor a network has to leave.

# %% [markdown]
# ## Where everything is

# %%
print(f"The figures are in {figures}/, the audit in {folder / 'audit.csv'}. Next: train.ipynb.")
