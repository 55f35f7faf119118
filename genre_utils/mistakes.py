"""Where a model errs: its surest hits and misses, what it takes for what, and on which posters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

GUESSES = 3


def surest(labels: np.ndarray, scores: np.ndarray, count: int) -> dict[str, list[tuple[int, int]]]:
    """List the answers that a model was surest of, as (poster, genre); each poster once a list.

    `labels` and `scores` are `(n, genres)`. `"hits"` are the highest scores that came true,
    `"false alarms"` the highest that did not, and `"overlooked"` the lowest of true genres.
    """
    true = labels.astype(bool)
    return {
        "hits": _first(np.where(true, -scores, np.inf), count),
        "false alarms": _first(np.where(true, np.inf, -scores), count),
        "overlooked": _first(np.where(true, scores, np.inf), count),
    }


def taken_for(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Say how often each genre is missed and another guessed in its place: `(genres, genres)`.

    A poster is given as many guesses as it has genres, its highest scores. Row and column: of the
    row's posters, the share on which it is not guessed and the column's genre, wrongly, is. A genre
    that is on no poster has a row of NaN.
    """
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    guessed = rank < labels.sum(axis=1, keepdims=True)
    true = labels.astype(bool)
    instead = (true & ~guessed).astype(float).T @ (guessed & ~true).astype(float)
    support = labels.sum(axis=0)
    return instead / np.where(support, support, np.nan)[:, None]


def recall(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Give the share of each poster's genres, at most 3 counted, among its three highest scores.

    NaN for a poster without a genre.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :GUESSES]
    count = labels.sum(axis=1).astype(float)
    count[count == 0] = np.nan
    return np.take_along_axis(labels, best, 1).sum(axis=1) / np.minimum(count, GUESSES)


def by_amount(
    amounts: Sequence[int], recalls: dict[str, np.ndarray], parts: int = 4
) -> pd.DataFrame:
    """Average posters' recalls by how many words stand on them.

    `amounts` are the words of each poster and `recalls` a figure a poster for each system. Posters
    without words are a part of their own, the others are cut into parts of about equal size.
    Columns: `words`, a range, `system`, `recall`, `error`, half the width of the 95 % interval
    of that mean, and `posters`.
    """
    amounts = np.asarray(amounts)
    some = amounts[amounts > 0]
    inner = np.quantile(some, np.linspace(0, 1, parts + 1)[1:-1]) if len(some) else []
    edges = np.unique(np.ceil([0, 1, *inner]).astype(int))
    rows = []
    for low, high in zip(edges, [*edges[1:], max(2, amounts.max() + 1)], strict=True):
        inside = (amounts >= low) & (amounts < high)
        words = str(low) if high == low + 1 else f"{low}–{high - 1}"
        for system, figures in recalls.items():
            known = figures[inside & ~np.isnan(figures)]
            if len(known):
                error = 1.96 * known.std() / np.sqrt(len(known))
                rows.append((words, system, known.mean(), error, len(known)))
    return pd.DataFrame(rows, columns=["words", "system", "recall", "error", "posters"])


def _first(keys: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Give the places of the smallest finite keys, each row once."""
    genres = keys.argmin(axis=1)
    least = keys[np.arange(len(keys)), genres]
    rows = [row for row in np.argsort(least, kind="stable")[:count] if np.isfinite(least[row])]
    return [(int(row), int(genres[row])) for row in rows]
