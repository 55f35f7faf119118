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
# At the end of this notebook you see each of your posters beside its three likeliest genres, and
# have a table of all scores. It needs no training and no accelerator: the released model comes with
# the package.
#
# <!-- badges -->
#
# | | on a CPU of 2 cores | GPU and TPU |
# |---|---|---|
# | 8 drawn posters, their words and Grad-CAM | 44 s, 1.9 GB | not measured |

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
# Everything you may want to change stands in the next cell:

# %% tags=["parameters"]
POSTERS: str = ""  # picture or folder of pictures; empty: upload in Colab, else drawn examples
MODEL_DIR: str = ""  # folder of a model you trained; empty: the released model
TOP: int = 3  # genres to show a poster, 1 or more
READ_TEXT: bool = True  # False: predict from the picture alone, several times faster
SHOWN: int = 8  # posters to draw; the table has all of them
OUTPUT_DIR: str = "outputs/predict"  # folder for the table and the figures
PAGE: bool = False  # True: open the web page in the last cell
SHARE: bool = False  # True: the page gets a public link, for whoever has it

# %% [markdown]
# papermill does not check names, and passes yes and no as text. This cell understands yes and no,
# replaces `~` by your home folder and refuses a mistyped name before the long work:

# %%
from genre_utils.support import as_bool, check_names, expand_user

check_names(globals())
READ_TEXT, PAGE = as_bool("READ_TEXT", READ_TEXT), as_bool("PAGE", PAGE)
SHARE = as_bool("SHARE", SHARE)
POSTERS, MODEL_DIR, OUTPUT_DIR = map(expand_user, (POSTERS, MODEL_DIR, OUTPUT_DIR))

# %% [markdown]
# ## The model
#
# This cell imports the package's modules, checks the parameters and loads the model. Its card has
# the metrics on posters that it was not trained on. Read them before you believe a score:

# %%
import matplotlib.pyplot as plt
import pandas as pd

from genre_utils import apps, images, plots, runs, saved_model
from genre_utils.apps import grad_cam
from genre_utils.predictor import Predictor, highest, list_posters, prediction_table
from genre_utils.sources import draw_sample
from genre_utils.support import write_csv
from genre_utils.text import join_lines

runs.check_numbers(TOP=TOP, SHOWN=SHOWN)
runs.check_folders(OUTPUT_DIR)
if POSTERS:
    runs.check_outside(OUTPUT_DIR, POSTERS)
predictor = Predictor.load(MODEL_DIR or saved_model.RELEASED, READ_TEXT)
plots.use_style()
if predictor.model.card["training"].get("sample"):
    print("THIS MODEL WAS TRAINED ON THE DRAWN SAMPLE: ITS SCORES MEAN NOTHING FOR REAL POSTERS.")
apps.comparison(predictor.model.card["metrics"]).round(3)

# %% [markdown]
# ## The posters
#
# These are yours, if you gave a path or upload some; else a few that the package draws:

# %%
folder = Path(OUTPUT_DIR)
folder.mkdir(parents=True, exist_ok=True)
posters = POSTERS or machine.upload(folder / "uploads")
subtitle = "" if posters else "Drawn example posters, not real ones"
posters = posters or draw_sample(folder / "examples", posters=8) / "Images"
print(subtitle or f"Posters from {posters}")

# %% [markdown]
# ## The scores
#
# The predictor reads the words on each poster and scores its genres. A file that cannot be read
# does not stop it, and the table names each with the reason:

# %%
found = list(predictor.stream(posters))
good = [one for one in found if not one.error]
bad = [(one.poster, one.error) for one in found if one.error]
print(f"{len(bad)} of {len(found)} files could not be read")
pd.DataFrame(bad, columns=["poster", "error"])

# %% [markdown]
# The likeliest genres of the first posters, with a row for each rank. `by words` is by how much the
# words changed the score. The file that is written has all posters; one that could not be read has
# a row, too:

# %%
table = prediction_table(found, predictor.genres, TOP)
write_csv(folder / "top_genres.csv", table)
table.round(3).head(3 * TOP)

# %% [markdown]
# ## Each poster beside its genres
#
# A long first bar means that the model is confident; three short bars of similar length mean that
# it is not. The words that were read are under the title:

# %%
pictures = dict(list_posters(posters))
for number, one in enumerate(good[:SHOWN], start=1):
    rgb = images.read_poster(pictures[one.poster], one.poster)
    best = highest(one.scores, TOP)
    names = [predictor.genres[g] for g in best]
    read = {"text_effect": one.text_effect[best], "words": join_lines(one.lines)}
    figure = plots.prediction(rgb, names, one.scores[best], one.poster, subtitle, **read)
    plots.save_figure(figure, folder / "figures", f"{number:03d}-{Path(one.poster).stem}")
    plt.show()

# %% [markdown]
# ## Grad-CAM: where the network looked
#
# Grad-CAM shows which parts of the picture raise a genre's score: they glow. It explains the
# picture only; the effect of the words is beside the bars above. Gradients need the network in
# Keras. The scores came from ONNX Runtime where it has all layers, which is faster:

# %%
network = saved_model.load_model(MODEL_DIR or saved_model.RELEASED, has_text=False).network
cam = grad_cam.GradCam(network)
for number, one in enumerate(good[:SHOWN], start=1):
    rgb = images.read_poster(pictures[one.poster], one.poster)
    best = highest(one.scores, min(TOP, 3))
    heat = cam.heat(images.resize_poster(rgb, predictor.model.image_size), best)
    names = [predictor.genres[g] for g in best]
    figure = plots.grad_cam(rgb, heat, names, f"Where the network looked in {one.poster}", subtitle)
    plots.save_figure(figure, folder / "figures", f"{number:03d}-{Path(one.poster).stem}-grad_cam")
    plt.show()

# %% [markdown]
# In words, for the first poster. The last sentence says how much its words, if any were read,
# changed the first score:

# %%
for one in good[:1]:
    best = highest(one.scores, TOP)
    likeliest = [f"{predictor.genres[g]} {one.scores[g]:.2f}" for g in best]
    effect = f"Its words changed the first score by {one.text_effect[best[0]]:+.2f}."
    print(f"{one.poster}: {', '.join(likeliest)}. {effect if one.lines else 'No words were read.'}")

# %% [markdown]
# ## Where everything is
#
# This cell saves all scores, one row a poster and one column a genre:

# %%
every = pd.DataFrame([one.scores for one in good], columns=list(predictor.genres))
every.insert(0, "poster", [one.poster for one in good])
write_csv(folder / "all_genres.csv", every)
print(f"The tables and figures are in {folder}/. To train on your own posters: train.ipynb.")

# %% [markdown]
# ## A page to drop posters on
#
# With `PAGE = True` the page opens below, for you alone, until you close the notebook. It needs
# Gradio (`pip install gradio`). `SHARE = True` makes a public link: whoever has it can use the
# page, and the posters that they drop travel through Gradio's servers:

# %%
if PAGE or SHARE:
    from genre_utils.apps import page

    page.launch(predictor, share=SHARE, network=network)
else:
    print("The page from a terminal: python -m genre_utils app")
