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
# # Predict: the genres of your own posters
#
# At the end of this notebook each of your posters stands beside its three likeliest genres, and a
# table of all scores lies on disk. It needs no training and no accelerator: the released model
# comes with the package.

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
# Everything you may want to change stands in the next cell:

# %% tags=["parameters"]
POSTERS: str = ""  # picture or folder of pictures; empty: upload in Colab, else drawn examples
MODEL_DIR: str = ""  # folder of a model you trained; empty: the released model
TOP: int = 3  # genres to show a poster, 1 or more
SHOWN: int = 8  # posters to draw; the table has all of them
OUTPUT_DIR: str = "outputs/predict"  # folder for the table and the figures

# %% [markdown]
# ## The model
#
# A saved model knows its genres, its picture size and how well it did on posters it never saw.
# Read that before you believe a score:

# %%
import matplotlib.pyplot as plt

from genre_utils import evaluation, images, model_folder, plots, sample, training
from genre_utils.predictor import Predictor, list_posters

predictor = Predictor.load(MODEL_DIR or model_folder.RELEASED)
plots.use_style()
if predictor.model.card["training"]["sample"]:
    print("THIS MODEL WAS TRAINED ON THE DRAWN SAMPLE: ITS SCORES MEAN NOTHING FOR REAL POSTERS.")
evaluation.comparison(predictor.model.card["metrics"]).round(3)

# %% [markdown]
# ## The posters
#
# Yours, if you gave a path or upload some; else a few that the package draws itself:

# %%
folder = Path(OUTPUT_DIR)
training.check_writable(folder)
posters = POSTERS or environment.upload(folder / "uploads")
note = "" if posters else "Drawn example posters, not real ones"
posters = posters or sample.draw_sample(folder / "examples", posters=8) / "Images"
print(note or f"Posters from {posters}")

# %% [markdown]
# ## The scores
#
# One row a poster and rank. A file that cannot be read is a row too, with the reason in `error`:

# %%
table = predictor.predict(posters, TOP)
table.to_csv(folder / "top_genres.csv", index=False)
table.round(3).head(3 * TOP)

# %% [markdown]
# The files that could not be read, if there are any:

# %%
bad = table[table["error"].notna()]
print(f"{len(bad)} of {table['poster'].nunique()} files could not be read")
bad[["poster", "error"]]

# %% [markdown]
# ## Each poster beside its genres
#
# A long first bar means the network is sure; three short ones of like length mean that it is
# guessing between them:

# %%
pictures = dict(list_posters(posters))
good = table[table["error"].isna()]
for number, (name, rows) in enumerate(list(good.groupby("poster", sort=False))[:SHOWN], start=1):
    figure = plots.prediction(
        images.read_poster(pictures[name], name), rows["genre"], rows["score"], name, note
    )
    plots.save_figure(figure, folder / "figures", f"{number:03d}-{Path(name).stem}")
    plt.show()

# %% [markdown]
# In words, for the first of them:

# %%
if len(good):
    first = good[good["poster"] == good["poster"].iloc[0]]
    guesses = ", ".join(f"{g} {s:.2f}" for g, s in zip(first["genre"], first["score"], strict=True))
    print(f"{first['poster'].iloc[0]}: {guesses}")

# %% [markdown]
# ## Where everything is
#
# All scores, one row a poster and one column a genre, for those who want to go on with them:

# %%
predictor.predict_all(posters).to_csv(folder / "all_genres.csv", index=False)
print(f"The tables and figures are in {folder}/. To train on your own posters: train.ipynb.")
