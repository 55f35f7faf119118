"""The figures: one style for all, a title that says the finding, a note on what the data were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's blue and orange: told apart by every kind of colour blindness, and in grey.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
SEQUENTIAL = "cividis"


def use_style() -> None:
    """Set the look of all figures of a notebook; call it once, at the start."""
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update({"figure.dpi": 100, "savefig.dpi": 150, "axes.titlelocation": "left"})


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Save a figure as `<name>.png` and `<name>.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"{name}.{suffix}", bbox_inches="tight")


def genre_counts(labels: np.ndarray, genres: Sequence[str], note: str = "") -> Figure:
    """Show how many posters carry each genre; `labels` is multi-hot `(n, genres)`."""
    counts = pd.Series(labels.sum(axis=0), index=genres).sort_values()
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(genres) + 1.5), layout="constrained")
    bars = axes.barh(counts.index, counts, color=BLUE)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.set(xlabel="posters", xlim=(0, counts.max() * 1.1))
    axes.grid(axis="y", visible=False)
    share = counts.iloc[-1] / max(1, len(labels))
    return _titled(figure, f"{counts.index[-1]} is on {share:.0%} of the posters", note)


def labels_per_poster(labels: np.ndarray, note: str = "") -> Figure:
    """Show how many genres a poster has."""
    counts = pd.Series(labels.sum(axis=1)).value_counts().sort_index()
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    bars = axes.bar(counts.index.astype(str), counts, color=BLUE)
    axes.bar_label(bars, padding=2, fontsize=9)
    axes.set(xlabel="genres of a poster", ylabel="posters", ylim=(0, counts.max() * 1.12))
    axes.grid(axis="x", visible=False)
    mean = labels.sum(axis=1).mean()
    return _titled(figure, f"A poster has {mean:.2f} genres on average", note)


def co_occurrence(labels: np.ndarray, genres: Sequence[str], note: str = "") -> Figure:
    """Show, of the posters with the row's genre, the share that also has the column's."""
    present = labels.sum(axis=0) > 0
    names, marks = np.asarray(genres)[present], labels[:, present].astype(float)
    share = marks.T @ marks / marks.sum(axis=0)[:, None]
    np.fill_diagonal(share, np.nan)
    side = 0.36 * len(names) + 2
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    sns.heatmap(
        pd.DataFrame(share, names, names),
        cmap=SEQUENTIAL,
        vmin=0,
        vmax=1,
        square=True,
        ax=axes,
        cbar_kws={"label": "share of the row's posters", "shrink": 0.7},
    )
    axes.set(xlabel="… that also have this genre", ylabel="of the posters with this genre …")
    row, column = np.unravel_index(np.nanargmax(share), share.shape)
    title = f"{share[row, column]:.0%} of {names[row]} posters are also {names[column]}"
    return _titled(figure, title, note)


def poster_grid(posters: np.ndarray, captions: Sequence[str], title: str, note: str = "") -> Figure:
    """Show posters `(n, height, width, 3)` in rows of eight, a caption over each."""
    columns = min(8, len(posters))
    rows = -(-len(posters) // columns)
    height = 1.35 * posters.shape[1] / posters.shape[2] + 0.35
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.35 * columns, height * rows + 0.6), layout="constrained"
    )
    for ax in np.ravel(axes):
        ax.axis("off")
    for ax, poster, caption in zip(np.ravel(axes), posters, captions, strict=False):
        ax.imshow(poster)
        ax.set_title(caption, fontsize=9, loc="center")
    return _titled(figure, title, note)


def picture_sizes(sizes: np.ndarray, note: str = "") -> Figure:
    """Show the pictures' own sizes; `sizes` is `(n, 2)`: height and width in pixels."""
    aspect = np.median(sizes[:, 0] / sizes[:, 1])
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.scatter(sizes[:, 1], sizes[:, 0], s=8, alpha=0.3, color=BLUE, linewidths=0)
    width = np.array([0, sizes[:, 1].max()])
    axes.plot(width, aspect * width, color=ORANGE, label=f"height = {aspect:.2f} × width")
    axes.set(xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, None), ylim=(0, None))
    axes.legend(loc="lower right")
    return _titled(figure, f"Half of the posters are over {aspect:.2f} times as high as wide", note)


def history_curves(history: pd.DataFrame, title: str, note: str = "") -> Figure:
    """Show loss and validation macro mAP by epoch; columns `epoch, loss, val_macro_map`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(history["epoch"], history["loss"], color=BLUE, marker="o", markersize=4)
    left.set(xlabel="epoch", ylabel="training loss (nats a genre)")
    right.plot(history["epoch"], history["val_macro_map"], color=BLUE, marker="o", markersize=4)
    best = history.loc[history["val_macro_map"].idxmax()]
    right.scatter(best["epoch"], best["val_macro_map"], s=90, color=ORANGE, zorder=3, label="best")
    right.set(xlabel="epoch", ylabel="validation macro mAP")
    right.legend(loc="lower right")
    return _titled(figure, title, note)


def genre_precision(per_genre: dict[str, dict], prior: dict[str, dict], note: str = "") -> Figure:
    """Show each genre's average precision with its 95 % interval, beside the prior's.

    Both arguments are the `per_genre` parts of what `evaluation.evaluate` returns.
    """
    known = {g: f for g, f in per_genre.items() if f["average_precision"] is not None}
    order = sorted(known, key=lambda genre: known[genre]["average_precision"])
    values = np.array([known[genre]["average_precision"] for genre in order])
    chance = np.array([prior[genre]["average_precision"] for genre in order])
    low, high = np.array([known[genre]["interval"] for genre in order]).T
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(order) + 1.6), layout="constrained")
    names = [f"{genre} ({known[genre]['support']})" for genre in order]
    errors = np.clip([values - low, high - values], 0, None)
    axes.barh(names, values, color=BLUE, xerr=errors, ecolor=GREY, capsize=2, label="model")
    axes.scatter(chance, names, color=ORANGE, marker="D", s=28, zorder=3, label="genre prior")
    axes.set(xlabel="average precision, with its 95 % interval", xlim=(0, 1))
    axes.set_ylabel("genre (posters that have it)")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right")
    beaten = int((low > chance).sum())
    title = f"{beaten} of {len(order)} genres are surely told better than by their frequency"
    return _titled(figure, title, note)


def prediction(poster: np.ndarray, genres: Sequence[str], scores: Sequence[float]) -> Figure:
    """Show a poster `(height, width, 3)` beside bars of its top genres, the likeliest on top."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.5, 3.6), width_ratios=(1, 1.6), layout="constrained"
    )
    left.imshow(poster)
    left.axis("off")
    bars = right.barh(list(genres)[::-1], list(scores)[::-1], color=BLUE, height=0.6)
    right.bar_label(bars, fmt="%.2f", padding=4)
    right.set(xlim=(0, 1.1), xlabel="score (0 to 1)", xticks=np.arange(0, 1.1, 0.2))
    right.grid(axis="y", visible=False)
    return figure


def _titled(figure: Figure, title: str, note: str) -> Figure:
    figure.suptitle(title + (f"\n{note}" if note else ""), x=0.01, ha="left", fontsize=12)
    return figure
