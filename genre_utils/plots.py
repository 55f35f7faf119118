"""The figures, all in one style: each has its finding as title, and a `subtitle` on the data."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve

from genre_utils.evaluation import FEW_POSITIVES
from genre_utils.support import replacing

# Okabe and Ito's blue and orange differ for every kind of colour blindness, and in grey.
BLUE, ORANGE, DARK = "#0072B2", "#E69F00", "#262626"
SEQUENTIAL = "cividis"
ENOUGH = 20  # posters of a group of which a title may claim something
# With Chinese, Japanese and Korean letters, on Linux, macOS and Windows, and with Arabic ones.
FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Arabic", "Arial Unicode MS"),
)


def use_style() -> None:
    """Set the look of all figures of a notebook; call it once, at the start."""
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update({"figure.dpi": 100, "savefig.dpi": 150, "axes.titlelocation": "left"})
    plt.rcParams["text.parse_math"] = False  # a genre's name may hold dollar signs
    # Names in other letters than the first font has; a box stands for those that no font has.
    installed = font_manager.get_font_names()
    plt.rcParams["font.family"] = ["sans-serif", *(name for name in FONTS if name in installed)]
    warnings.filterwarnings("ignore", "Glyph .* missing from font")


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Save a figure as `<name>.png` and `<name>.svg` in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "svg"):
        file = folder / f"{name}.{suffix}"
        with replacing(file) as temporary:
            figure.savefig(temporary, bbox_inches="tight")


def genre_counts(labels: np.ndarray, genres: Sequence[str], subtitle: str = "") -> Figure:
    """Show how many posters have each genre; `labels` is multi-hot `(n, len(genres))`."""
    counts = pd.Series(labels.sum(axis=0), index=list(genres)).sort_values()
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(genres) + 1.5), layout="constrained")
    bars = axes.barh(counts.index, counts, color=BLUE)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.set(xlabel="posters", xlim=(0, max(1, counts.max()) * 1.1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.01)
    axes.grid(visible=False)  # the bars have their numbers; lines would run through them
    share = counts.iloc[-1] / max(1, len(labels))
    return _titled(figure, f"{counts.index[-1]} is on {share:.0%} of the posters", subtitle)


def labels_per_poster(labels: np.ndarray, subtitle: str = "") -> Figure:
    """Show how many genres a poster has; `labels` is multi-hot `(n, genres)`."""
    counts = pd.Series(labels.sum(axis=1)).value_counts().sort_index()
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    bars = axes.bar(counts.index.astype(str), counts, color=BLUE, width=0.7)
    axes.bar_label(bars, padding=2, fontsize=9)
    axes.set(xlabel="genres of a poster", ylabel="posters", ylim=(0, counts.max() * 1.12))
    axes.grid(visible=False)
    mean = labels.sum(axis=1).mean()
    return _titled(figure, f"A poster has {mean:.2f} genres on average", subtitle)


def co_occurrence(labels: np.ndarray, genres: Sequence[str], subtitle: str = "") -> Figure:
    """Show, of the posters with the row's genre, the share that also has the column's.

    `labels` is multi-hot `(n, len(genres))`. The row of a genre that is on no poster is blank. The
    title names the largest share among genres on at least 20 posters; see `_largest`.
    """
    counts = labels.sum(axis=0)
    marks = labels.astype(float)
    share = marks.T @ marks / np.where(counts, counts, np.nan)[:, None]
    np.fill_diagonal(share, np.nan)
    rows = [f"{genre} ({count})" for genre, count in zip(genres, counts, strict=True)]
    figure, axes = _share_table(pd.DataFrame(share, rows, list(genres)), vmax=1, square=True)
    axes.set(ylabel="of the posters with …", xlabel="… this share also has …")
    row, column, largest = _largest(share, counts)
    title = f"{largest:.0%} of {genres[row]} posters are also {genres[column]}"
    return _titled(figure, title if largest else "No poster has two genres", subtitle)


def poster_grid(
    posters: np.ndarray, captions: Sequence[str], title: str, subtitle: str = "", columns: int = 8
) -> Figure:
    """Show one or more pictures `(n, height, width, 3)`, uint8, a caption over each."""
    columns = min(columns, len(posters))
    rows = -(-len(posters) // columns)
    # In narrow columns, larger and longer captions would run into each other.
    width, font, letters = (2.75, 10, 34) if columns <= 4 else (1.35, 9, 16)
    captions = [textwrap.fill(caption, letters) for caption in captions]
    lines = 1 + max(caption.count("\n") for caption in captions)
    height = width * posters.shape[1] / posters.shape[2] + 0.2 * lines
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows + 0.7), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    for ax in np.ravel(axes):
        ax.axis("off")
    for ax, poster, caption in zip(np.ravel(axes), posters, captions, strict=False):
        ax.imshow(poster)
        ax.set_title(caption, fontsize=font, loc="center", parse_math=False)
    return _titled(figure, title, subtitle)


def genre_posters(posters: dict[str, np.ndarray], title: str, subtitle: str = "") -> Figure:
    """Show a few posters of each genre side by side, four genres a row.

    A value is uint8 `(k, height, width, 3)`; k may differ between genres, height and width not.
    """
    most = max(len(few) for few in posters.values())
    strips = []
    for few in posters.values():
        # Each poster gets a white edge, and each genre the width of the one with most.
        edges = (0, most - len(few)), (0, 0), (0, 4), (0, 0)
        strips.append(np.hstack(np.pad(few, edges, constant_values=255)))
    return poster_grid(np.stack(strips), list(posters), title, subtitle, columns=4)


def picture_sizes(sizes: np.ndarray, subtitle: str = "") -> Figure:
    """Show the pictures' own sizes; `sizes` is `(n, 2)`: height and width in pixels."""
    aspect = np.median(sizes[:, 0] / sizes[:, 1])
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    # Thousands of points as vectors would make the SVG slow to open.
    axes.scatter(sizes[:, 1], sizes[:, 0], s=14, alpha=0.3, color=BLUE, lw=0, rasterized=True)
    width = np.array([0, sizes[:, 1].max()])
    axes.plot(width, aspect * width, color=ORANGE, label=f"height = {aspect:.2f} × width")
    axes.set(xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, None), ylim=(0, None))
    _legend_above(axes)
    return _titled(figure, f"The median poster is {aspect:.2f} times as high as wide", subtitle)


def save_curves(
    curves: Mapping[str, pd.DataFrame], phase: str, folder: Path, subtitle: str = ""
) -> None:
    """Draw and save `history_curves` of `"head"` or `"fine_tuning"`, for each network."""
    for part, curve in curves.items():
        best = curve["val_macro_map"].max()
        title = f"{part}, {phase.replace('_', '-')}: macro mAP {best:.3f} at the best epoch"
        save_figure(history_curves(curve, title, subtitle), folder, f"{part}_{phase}")


def history_curves(history: pd.DataFrame, title: str, subtitle: str = "") -> Figure:
    """Show loss and validation macro mAP by epoch; columns `epoch, loss, val_macro_map`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True, layout="constrained")
    labels = {"loss": "loss", "val_macro_map": "validation macro mAP"}
    for ax, (column, label) in zip((left, right), labels.items(), strict=True):
        ax.plot(history["epoch"], history[column], color=BLUE, marker="o", markersize=4)
        ax.set(xlabel="epoch", ylabel=label)
    left.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    best = history.loc[history["val_macro_map"].idxmax()]
    right.scatter(best["epoch"], best["val_macro_map"], s=90, color=ORANGE, zorder=3, label="kept")
    _legend_above(right)
    return _titled(figure, title, subtitle)


def genre_precision(
    per_genre: dict[str, dict], prior: dict[str, dict], subtitle: str = ""
) -> Figure:
    """Show each genre's average precision with its 95 % interval, beside the prior's.

    Both are the `per_genre` of a result of `evaluation.evaluate`.
    """
    known = {g: f for g, f in per_genre.items() if f["average_precision"] is not None}
    order = sorted(known, key=lambda genre: known[genre]["average_precision"])
    values = np.array([known[genre]["average_precision"] for genre in order])
    chance = np.array([prior[genre]["average_precision"] for genre in order])
    ends = [known[g].get("interval", 2 * [known[g]["average_precision"]]) for g in order]
    low, high = np.array(ends).reshape(-1, 2).T
    figure, axes = plt.subplots(figsize=(8, max(3, 0.3 * len(order) + 1.8)), layout="constrained")
    names = [f"{genre} ({known[genre]['support']})" for genre in order]
    errors = np.clip([values - low, high - values], 0, None)
    axes.barh(names, values, color=BLUE, xerr=errors, ecolor=DARK, capsize=2, label="model")
    axes.scatter(chance, names, color=ORANGE, marker="D", s=28, zorder=3, label="genre prior")
    axes.set(xlabel="average precision, with its 95% interval", xlim=(0, 1))
    axes.set_ylabel("genre (posters that have it)")
    axes.margins(y=0.01)
    axes.grid(axis="y", visible=False)
    _legend_above(axes)
    beaten = int((low > chance).sum())
    title = f"In {beaten} of {len(order)} genres the whole interval is above the genre prior"
    return _titled(figure, title, subtitle)


def reliability(
    bins: tuple[np.ndarray, np.ndarray, np.ndarray], error: float, subtitle: str = ""
) -> Figure:
    """Show the reliability curve: the share of predictions that came true, by their mean score.

    `bins` is a result of `evaluation.reliability`, `error` the expected calibration error, 0 to 1.
    """
    predicted, observed, _ = bins
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    axes.plot((0, 1), (0, 1), color=ORANGE, label="perfectly calibrated")
    axes.plot(predicted, observed, color=BLUE, marker="o", markersize=5, label="model")
    top = min(1, 1.1 * max(predicted.max(), observed.max()))
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean score", ylabel="share that came true")
    _legend_above(axes)
    return _titled(figure, f"Scores are off by {error:.3f} on average", subtitle)


def prediction(
    poster: np.ndarray,
    genres: Sequence[str],
    scores: Sequence[float],
    title: str = "",
    subtitle: str = "",
    text_effect: Sequence[float] | None = None,
    words: str = "",
) -> Figure:
    """Show a poster `(height, width, 3)` beside bars of its top genres, the likeliest on top.

    `scores` are those of `genres`, 0 to 1. With `words`, those that were read, the figure shows
    them and `text_effect`, by how much they changed each score.
    """
    size = 7.5, max(3.6, (0.5 if words else 0.25) * len(genres) + 1)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=size, width_ratios=(1, 1.6), layout="constrained"
    )
    left.imshow(poster)
    left.axis("off")
    if words:
        genres = [
            f"{genre}\n{by:+.2f} by words" for genre, by in zip(genres, text_effect, strict=True)
        ]
    bars = right.barh(list(genres)[::-1], list(scores)[::-1], color=BLUE, height=0.6)
    right.bar_label(bars, fmt="%.2f", padding=4)
    right.set(xlim=(0, 1.2), xlabel="score (0 to 1)", xticks=np.arange(0, 1.1, 0.2))
    right.set_ylim(len(genres) - 0.5 - max(3, len(genres)), len(genres) - 0.5)
    right.grid(visible=False)
    read = f"read: {textwrap.shorten(words, 150, placeholder=' …')}" if words else ""
    return _titled(figure, title, subtitle, read)


def precision_recall(
    labels: np.ndarray, scores: np.ndarray, genres: Sequence[str], subtitle: str = ""
) -> Figure:
    """Show each genre's precision by recall; `labels` and `scores` are `(n, len(genres))`.

    A genre's caption has its average precision; the dashed line is chance. Genres that are on no
    poster are left out.
    """
    shown = np.flatnonzero(labels.any(axis=0))
    precision = {g: average_precision_score(labels[:, g], scores[:, g]) for g in shown}
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    captions = {g: textwrap.fill(f"{genres[g]} {precision[g]:.2f}", 18) for g in shown}
    lines = 1 + max(caption.count("\n") for caption in captions.values())
    height = 1.4 + 0.2 * lines
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.6 * columns + 0.6, max(height * rows, 2) + 0.8),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for empty in range(len(shown), rows * columns):
        axes.flat[empty].axis("off")
        axes.flat[empty - columns].tick_params(labelbottom=True)
    for ax, g in zip(axes.flat, shown, strict=False):
        found, recall, _ = precision_recall_curve(labels[:, g], scores[:, g])
        ax.step(recall, found, color=BLUE, where="post")
        ax.axhline(labels[:, g].mean(), color=ORANGE, linestyle="--")
        ax.set_title(captions[g], fontsize=10, loc="center", parse_math=False)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        ax.tick_params(labelsize=9)
    figure.supxlabel("recall (0 to 1)", fontsize=11)
    figure.supylabel("precision (0 to 1)", fontsize=11)
    enough = {g: p for g, p in precision.items() if labels[:, g].sum() >= FEW_POSITIVES}
    enough = enough or precision
    best, worst = max(enough, key=enough.get), min(enough, key=enough.get)
    title = f"{genres[best]} is predicted best, {genres[worst]} worst; dashed: by chance"
    return _titled(figure, title, subtitle)


def confusion(
    instead: np.ndarray, support: Sequence[int], genres: Sequence[str], subtitle: str = ""
) -> Figure:
    """Show which genre is predicted instead of another; `instead` is from `evaluation.confusion`.

    `support` is the number of posters of each genre. Rows are on five posters or more, or the most.
    """
    rows = np.flatnonzero(np.asarray(support) >= min(FEW_POSITIVES, max(support)))
    share = instead[rows]
    names = [f"{genres[g]} ({support[g]})" for g in rows]
    figure, axes = _share_table(pd.DataFrame(share, names, list(genres)))
    axes.set(ylabel="missed genre (posters)", xlabel="genre predicted in its place")
    row, column, largest = _largest(share, np.asarray(support)[rows])
    title = (
        f"{genres[rows[row]]} is confused most often: {genres[column]} is predicted in its place "
        f"on {largest:.0%} of its posters"
        if largest
        else "No genre is predicted in place of another"
    )
    return _titled(figure, title, subtitle)


def recall_by_words(table: pd.DataFrame, subtitle: str = "") -> Figure:
    """Show recall by number of words; `table` is from `evaluation.recall_by_word_count`."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    ranges = list(dict.fromkeys(table["words"]))
    systems = list(dict.fromkeys(table["system"]))
    for i, system in enumerate(systems):
        rows = table[table["system"] == system].set_index("words").reindex(ranges)
        x = np.arange(len(ranges)) + 0.12 * (i - (len(systems) - 1) / 2)
        style = {"color": (BLUE, ORANGE, DARK)[i % 3], "marker": "os^"[i % 3]}
        axes.errorbar(x, rows["recall"], rows["error"], capsize=3, label=system, **style)
    counts = table.groupby("words", sort=False)["posters"].max()
    axes.set_xticks(range(len(ranges)), [f"{words}\n({counts[words]})" for words in ranges])
    axes.set(xlabel="words read on the poster (posters)", ylabel="top-3 recall", ylim=(0, 1.03))
    _legend_above(axes)
    rows = table[table["system"] == systems[0]]
    best, title = rows.loc[rows["recall"].idxmax()], "Does the number of words matter?"
    others = (rows["recall"] + rows["error"]).drop(best.name)
    is_clear = (best["recall"] - best["error"] > others).all() and best["posters"] >= ENOUGH
    if is_clear and len(others):
        title = f"Number of words on the posters predicted best: {best['words']}"
    return _titled(figure, title, subtitle)


def overlay(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map `(height, width)`, 0 to 1, over a poster of any size; returns uint8 RGB.

    On one colour of the poster the hotter place is brighter, which is seen in grey, too.
    """
    height, width = rgb.shape[:2]
    image = Image.fromarray(heat.astype(np.float32))
    heat = np.clip(image.resize((width, height), Image.Resampling.BILINEAR), 0, 1)
    glow = plt.colormaps["inferno"](heat)[..., :3] * 255
    return (0.4 * rgb + 0.6 * glow).round().astype(np.uint8)


def grad_cam(
    poster: np.ndarray, heat: np.ndarray, genres: Sequence[str], title: str = "", subtitle: str = ""
) -> Figure:
    """Show a poster, then the Grad-CAM heat map of each genre over it.

    `poster` is RGB of any size, `heat` a result of `GradCam.heat`, a map for each of `genres`.
    """
    pictures = [poster, *(overlay(poster, of_genre) for of_genre in heat)]
    captions = ["the poster", *genres]
    return poster_grid(np.stack(pictures), captions, title, subtitle, columns=4)


def _share_table(share: pd.DataFrame, **options: Any) -> tuple[Figure, plt.Axes]:
    """Draw shares of the rows' posters, genres by genres, as a heat map."""
    rows, columns = share.shape
    longest = 0.09 * max(map(len, (*share.index, *share.columns)))  # inches
    size = (max(6, 0.34 * columns + 2 + longest), max(4, 0.34 * rows + 1 + longest))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    bar = {"label": "share of the row's posters", "shrink": 0.7}
    every = {"xticklabels": True, "yticklabels": True}
    sns.heatmap(share, cmap=SEQUENTIAL, vmin=0, ax=axes, cbar_kws=bar, **every, **options)
    axes.grid(visible=False)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(axis="y", rotation=0)
    return figure, axes


def _legend_above(axes: plt.Axes) -> None:
    """Put the legend above the axes, where it covers no curve."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)


def _titled(figure: Figure, title: str, *subtitles: str) -> Figure:
    columns = int(10.5 * figure.get_figwidth())  # letters of 12 points that fit the width
    lines = [line for text in (title, *subtitles) for line in textwrap.wrap(text, columns)]
    # A dollar sign, as in a file's name, begins no formula.
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=12, parse_math=False)
    return figure


def _largest(share: np.ndarray, counts: np.ndarray) -> tuple[int, int, float]:
    """Return row, column and value of the largest share among the rows of 20 posters or more.

    Of few posters one alone is a large share, so they count only if no other row has any share.
    """
    share = np.nan_to_num(share)
    enough = np.where((counts >= min(ENOUGH, counts.max()))[:, None], share, 0)
    share = enough if enough.any() else share
    row, column = np.unravel_index(share.argmax(), share.shape)
    return row, column, share[row, column]
