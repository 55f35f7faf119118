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
#
# <!-- badges -->
#
# | | on a CPU of 2 cores | GPU and TPU |
# |---|---|---|
# | a poster, its words and where it looked | not measured | not measured |

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
# Everything you may want to change stands in the next cell:

# %% tags=["parameters"]
POSTERS: str = ""  # picture or folder of pictures; empty: upload in Colab, else drawn examples
MODEL_DIR: str = ""  # folder of a model you trained; empty: the released model
TOP: int = 3  # genres to show a poster, 1 or more
READ_TEXT: bool = True  # False: judge the picture alone, several times faster
SHOWN: int = 8  # posters to draw; the table has all of them
OUTPUT_DIR: str = "outputs/predict"  # folder for the table and the figures
PAGE: bool = False  # True: open the web page in the last cell
SHARE: bool = False  # True: the page gets a public link, for whoever has it

# %% [markdown]
# papermill hands over text. "no" means no here, and `~` is your own folder; what is neither yes nor
# no is refused before any work:

# %%
from genre_utils.support import as_bool, expand_user

READ_TEXT, PAGE = as_bool("READ_TEXT", READ_TEXT), as_bool("PAGE", PAGE)
SHARE = as_bool("SHARE", SHARE)
POSTERS, MODEL_DIR, OUTPUT_DIR = map(expand_user, (POSTERS, MODEL_DIR, OUTPUT_DIR))

# %% [markdown]
# ## The model
#
# A saved model knows its genres, its picture size and how well it did on posters it never saw.
# Read that before you believe a score:

# %%
import matplotlib.pyplot as plt
import pandas as pd

from genre_utils import apps, images, plots, runs, saved_model
from genre_utils.apps import grad_cam
from genre_utils.predictor import Predictor, check_top, highest, list_posters, prediction_table
from genre_utils.sources import draw_sample
from genre_utils.support import write_csv
from genre_utils.text import join_lines

check_top(TOP)
runs.check_writable(OUTPUT_DIR)
if POSTERS:
    runs.check_outside(OUTPUT_DIR, POSTERS)
predictor = Predictor.load(MODEL_DIR or saved_model.RELEASED, READ_TEXT, runtime=False)
plots.use_style()
if predictor.model.card["training"]["sample"]:
    print("THIS MODEL WAS TRAINED ON THE DRAWN SAMPLE: ITS SCORES MEAN NOTHING FOR REAL POSTERS.")
apps.comparison(predictor.model.card["metrics"]).round(3)

# %% [markdown]
# ## The posters
#
# Yours, if you gave a path or upload some; else a few that the package draws itself:

# %%
folder = Path(OUTPUT_DIR)
folder.mkdir(parents=True, exist_ok=True)
posters = POSTERS or machine.upload(folder / "uploads")
note = "" if posters else "Drawn example posters, not real ones"
posters = posters or draw_sample(folder / "examples", posters=8) / "Images"
print(note or f"Posters from {posters}")

# %% [markdown]
# ## The scores
#
# The model looks at each poster and reads its words. A file that cannot be read stops nothing:

# %%
found = list(predictor.stream(posters))
good = [one for one in found if not one.error]
bad = [(one.poster, one.error) for one in found if one.error]
print(f"{len(bad)} of {len(found)} files could not be read")
pd.DataFrame(bad, columns=["poster", "error"])

# %% [markdown]
# The likeliest genres, one row a poster and rank; `by words` is how much of the score the words
# on the poster added or took. A file that could not be read is a row too, with the reason:

# %%
table = prediction_table(found, predictor.genres, TOP)
write_csv(folder / "top_genres.csv", table)
table.round(3).head(3 * TOP)

# %% [markdown]
# ## Each poster beside its genres
#
# A long first bar means the network is sure; three short ones of like length mean that it is
# guessing between them. Under the title stand the words that were read:

# %%
pictures = dict(list_posters(posters))
for number, one in enumerate(good[:SHOWN], start=1):
    rgb = images.read_poster(pictures[one.poster], one.poster)
    best = highest(one.scores, TOP)
    names = [predictor.genres[g] for g in best]
    read = {"text_effect": one.text_effect[best], "words": join_lines(one.lines)}
    figure = plots.prediction(rgb, names, one.scores[best], one.poster, note, **read)
    plots.save_figure(figure, folder / "figures", f"{number:03d}-{Path(one.poster).stem}")
    plt.show()

# %% [markdown]
# ## Where it looked
#
# Grad-CAM asks where in the picture a genre's score grows: it glows there. Only the picture is
# explained; what the words did stands beside the bars above. It needs the network in Keras:

# %%
cam = grad_cam.GradCam(predictor.model.network)
for number, one in enumerate(good[:SHOWN], start=1):
    rgb = images.read_poster(pictures[one.poster], one.poster)
    best = highest(one.scores, min(TOP, 3))
    heat = cam.heat(images.resize_poster(rgb, predictor.model.image_size), best)
    names = [predictor.genres[g] for g in best]
    figure = plots.grad_cam(rgb, heat, names, f"Where the network looked in {one.poster}", note)
    plots.save_figure(figure, folder / "figures", f"{number:03d}-{Path(one.poster).stem}-looked")
    plt.show()

# %% [markdown]
# In words, for the first of them; the last figure is how much its words changed the first score:

# %%
for one in good[:1]:
    best = highest(one.scores, TOP)
    guesses = [f"{predictor.genres[g]} {one.scores[g]:.2f}" for g in best]
    print(f"{one.poster}: {', '.join(guesses)}. By its words: {one.text_effect[best[0]]:+.2f}.")

# %% [markdown]
# ## Where everything is
#
# All scores, one row a poster and one column a genre, for those who want to go on with them:

# %%
every = pd.DataFrame([one.scores for one in good], columns=list(predictor.genres))
every.insert(0, "poster", [one.poster for one in good])
write_csv(folder / "all_genres.csv", every)
print(f"The tables and figures are in {folder}/. To train on your own posters: train.ipynb.")

# %% [markdown]
# ## A page to drop posters on
#
# With `PAGE = True` the page opens below, for you alone, and goes on until the notebook is closed.
# It needs Gradio (`pip install gradio`). `SHARE = True` makes a public link: whoever has it can use
# the page, and the posters that they drop travel through Gradio's servers:

# %%
if PAGE:
    from genre_utils.apps import page

    page.launch(predictor, share=SHARE)
else:
    print("The page from a terminal: python -m genre_utils app")
