"""Metrics of a table of scores, with bootstrap intervals, baselines, thresholds and mistakes."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from genre_utils.genres import check_tables
from genre_utils.support import progress

# A genre with fewer positives is left out of macro figures: its own figure is mostly luck.
FEW_POSITIVES = 5
# With this many positives a genre's own best threshold weighs as much as that of all genres.
EQUAL_WEIGHT = 20

# What `evaluate` returns, in the order of a report: each key with its name in a table.
METRICS = {
    "macro_map": "macro mAP",
    "macro_map_all": "macro mAP, all genres",
    "micro_map": "micro mAP",
    "macro_roc_auc": "macro ROC-AUC",
    "macro_f1": "macro F1",
    "macro_f1_tuned": "macro F1, tuned",
    "top3_recall": "top-3 recall",
    "top1_hit": "top-1 hit",
    "calibration_error": "calibration error",
    "calibration_error_top3": "calibration error, top three",
    "element_accuracy": "element-wise accuracy",
}

BINS = 15
ROUNDING = 1e-6  # by which a mean of probabilities may leave 0 to 1
TOP = 3


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    genres: Sequence[str],
    thresholds: Sequence[float] | None = None,
    has_missing_column: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Score probabilities, 0 to 1, against labels of 0 and 1; both are `(n, len(genres))`.

    Macro figures are means over the genres with at least 5 positives; `macro_map_all` is over
    all genres that occur. F1 is taken at 0.5, and with `thresholds` (one a genre) also at those.
    Top-3 recall is the share of a poster's true genres (at most 3 counted) among its three
    highest scores; it and the top-1 hit skip posters without a genre. The calibration error is over
    all scores, and over each poster's three highest. `has_missing_column`: see `element_accuracy`.
    Intervals are the 2.5 and 97.5 percentiles over `resamples` bootstrap draws of posters (Efron,
    1979); 0 leaves them out.

    Returns a dict for JSON: the keys of `METRICS`, all figures 0 to 1, `None` where no genre
    counts; `posters` and `genres_counted`; `macro_map_interval`; and `per_genre`, by name, with
    `support`, `average_precision` and `interval`.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    _check_probabilities(labels, scores)
    given = {len(genres), len(set(genres)), len(genres if thresholds is None else thresholds)}
    if given != {labels.shape[1]} or np.ndim(thresholds) > 1:
        raise ValueError(
            f"Labels have {labels.shape[1]} columns: give a name of its own, and a threshold if "
            "any, for each."
        )
    support = labels.sum(axis=0)
    counted, occurring = support >= FEW_POSITIVES, support > 0
    partial = np.flatnonzero(counted & (support < len(labels)))  # on all posters, nothing is ranked
    precision = _average_precision(labels, scores)
    micro = average_precision_score(labels, scores, average="micro") if labels.any() else None
    hits, best = _top(labels, scores)
    result = {
        "posters": len(labels),
        "genres_counted": int(counted.sum()),
        "macro_map": _mean(precision[counted]),
        "macro_map_all": _mean(precision[occurring]),
        "micro_map": micro,
        "macro_roc_auc": _mean([roc_auc_score(labels[:, g], scores[:, g]) for g in partial]),
        "macro_f1": _macro_f1(labels, scores >= 0.5, counted),
        "top3_recall": _mean(recall(labels, scores)),
        "top1_hit": _mean(hits[labels.any(axis=1), 0]),
        "calibration_error": calibration_error(labels, scores),
        "calibration_error_top3": calibration_error(hits, best),
        "element_accuracy": element_accuracy(labels, scores >= 0.5, has_missing_column),
    }
    if thresholds is not None:
        result["macro_f1_tuned"] = _macro_f1(labels, scores >= np.asarray(thresholds), counted)
    per_genre = [
        {"support": int(number), "average_precision": float(figure) if number else None}
        for number, figure in zip(support, precision, strict=True)
    ]
    if resamples:
        draws = _bootstrap(labels, [scores], resamples, seed)[:, 0]
        with warnings.catch_warnings():
            # Genres that no draw contains give a column of NaN; they are not reported.
            warnings.simplefilter("ignore", RuntimeWarning)
            bounds = np.nanpercentile(draws, [2.5, 97.5], axis=0).T.tolist()
            macro = np.nanpercentile(np.nanmean(draws[:, counted], axis=1), [2.5, 97.5])
        result["macro_map_interval"] = macro.tolist() if counted.any() else None
        for g in np.flatnonzero(occurring):
            per_genre[g]["interval"] = bounds[g]
    result["per_genre"] = dict(zip(genres, per_genre, strict=True))
    return result


def baselines(
    train_labels: np.ndarray,
    labels: np.ndarray,
    genres: Sequence[str],
    has_missing_column: bool = False,
) -> dict[str, dict]:
    """Score what needs no poster: all zeros, and each genre's frequency in training.

    `train_labels`, `(m, genres)`, and `labels`, `(n, genres)`, are multi-hot. Returns what
    `evaluate` returns, without intervals, by `"all zeros"` and `"genre prior"`; the prior is left
    out where `train_labels` is empty. What all zeros have among the three highest is `None`; of
    equally frequent genres the prior takes the first.
    """
    table = {"all zeros": np.zeros(labels.shape)}
    if len(train_labels):
        table["genre prior"] = np.tile(train_labels.mean(axis=0), (len(labels), 1))
    results = {
        name: evaluate(labels, scores, genres, None, has_missing_column, resamples=0)
        for name, scores in table.items()
    }
    # Of equal scores none are the three highest: a sort would take the first three columns.
    results["all zeros"] |= dict.fromkeys(("top3_recall", "top1_hit", "calibration_error_top3"))
    return results


def element_accuracy(labels: np.ndarray, predicted: np.ndarray, has_missing_column: bool) -> float:
    """Return the share of right cells, 0 to 1, in a table `(n, genres)` of zeros and ones.

    `has_missing_column` adds a column, as the public CSV has it, that is 1 for posters without a
    genre and is predicted 0. A table of zeros scores over 0.9, because most posters lack most
    genres: this figure tells nothing about learning, and is reported because others publish it.
    """
    if has_missing_column:
        labels = np.column_stack([labels, ~labels.any(axis=1)])
        predicted = np.column_stack([predicted, np.zeros(len(predicted))])
    return float(1 - np.mean(labels != predicted))


def calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the expected calibration error of probabilities, 0 to 1.

    `labels` are 0 or 1 and `scores` probabilities, both `(n, genres)`. All cells are sorted by
    score into 15 bins of equal size (Nguyen and O'Connor, "Posterior calibration and exploratory
    analysis", EMNLP 2015); the error is the mean over bins of |mean score - share of true labels|.
    """
    predicted, observed, sizes = reliability(labels, scores)
    return float(np.average(np.abs(predicted - observed), weights=sizes))


def reliability(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the cells of `(n, genres)` tables by score into 15 bins of equal size.

    Returns each bin's mean score, share of true labels (both 0 to 1) and number of cells, three
    arrays `(bins,)`; there are fewer bins where there are fewer cells.
    """
    _check_probabilities(labels, scores)
    # scikit-learn's `calibration_curve` does not return how many cells a bin has, by which the
    # error weighs it, and puts equal scores, such as a genre's frequency, into one large bin.
    bins = [part for part in np.array_split(np.argsort(scores, axis=None), BINS) if len(part)]
    # Cells of one score share their labels: which of them are in which of two bins is chance.
    _, alike = np.unique(scores, return_inverse=True)
    shared = (np.bincount(alike.ravel(), labels.ravel()) / np.bincount(alike.ravel()))[alike]
    predicted, observed = (
        np.array([cells.ravel()[part].mean() for part in bins]) for cells in (scores, shared)
    )
    return predicted, observed, np.array([len(part) for part in bins])


def paired_bootstrap(
    labels: np.ndarray,
    better: np.ndarray,
    worse: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Compare the macro mAP of two tables of scores on the same bootstrap draws of posters.

    `labels`, 0 or 1, `better` and `worse` are `(n, genres)`; only the order of scores counts. Macro
    is over the genres with at least 5 positives, a draw (Efron, 1979) as many posters as there are.
    Returns the `share` of draws that `better` wins, the mean `difference` and its 95 % `interval`,
    all `None` where no genre has 5 positives.
    """
    check_tables(labels, better, worse)
    counted = labels.sum(axis=0) >= FEW_POSITIVES
    tables = [scores[:, counted] for scores in (better, worse)]
    draws = _bootstrap(labels[:, counted], tables, resamples, seed)
    draws = draws[~np.isnan(draws).all(axis=(1, 2))]
    if not len(draws):
        return {"share": None, "difference": None, "interval": None}
    differences = np.subtract(*np.nanmean(draws, axis=2).T)
    return {
        "share": float(np.mean(differences > 0)),
        "difference": float(np.mean(differences)),
        "interval": np.percentile(differences, [2.5, 97.5]).tolist(),
    }


def tune_thresholds(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return for each genre the threshold with the best F1; call it on validation, never on test.

    `labels`, 0 or 1, and `scores`, 0 to 1, are `(n, genres)`, the thresholds `(genres,)`. A genre's
    own best is averaged with the one that is best over all genres together. The fewer posters a
    genre has, the more the shared one weighs: with 20 positives both weigh the same.
    """
    _check_probabilities(labels, scores)
    shared = _best_threshold(labels.ravel(), scores.ravel())
    support = labels.sum(axis=0)
    own = np.full(len(support), shared)
    for g in np.flatnonzero(support):
        own[g] = _best_threshold(labels[:, g], scores[:, g])
    weight = support / (support + EQUAL_WEIGHT)
    return weight * own + (1 - weight) * shared


def macro_average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the mean average precision, 0 to 1, over the genres with at least 5 positives.

    Where none has as many, over those with the most; `None` if there is no positive. `labels` and
    `scores` are `(n, genres)`; scores may be logits, since only their order counts.
    """
    check_tables(labels, scores)
    support = labels.sum(axis=0)
    counted = support >= min(FEW_POSITIVES, support.max())
    return _mean(_average_precision(labels, scores)[counted & (support > 0)])


def most_confident(
    labels: np.ndarray, scores: np.ndarray, count: int
) -> dict[str, list[tuple[int, int]]]:
    """List a model's most confident predictions as (poster, genre); each poster once a list.

    `labels` and `scores` are `(n, genres)`. `"true positives"` are the highest scores that came
    true, `"false positives"` the highest that did not, and `"false negatives"` the lowest of true
    genres; each list has `count` entries or fewer.
    """
    true = labels.astype(bool)
    return {
        "true positives": _first(np.where(true, -scores, np.inf), count),
        "false positives": _first(np.where(true, np.inf, -scores), count),
        "false negatives": _first(np.where(true, scores, np.inf), count),
    }


def confusion(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return how often each genre is missed and another is predicted instead.

    `labels` and `scores` are `(n, genres)`; the predictions of a poster are its highest scores, as
    many as it has genres. Returns shares, 0 to 1, `(genres, genres)`: of the row's posters, those
    on which its genre is not predicted and the column's, wrongly, is. A genre that is on no poster
    has a row of NaN.
    """
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    predicted = rank < labels.sum(axis=1, keepdims=True)
    true = labels.astype(bool)
    instead = (true & ~predicted).astype(float).T @ (predicted & ~true).astype(float)
    support = labels.sum(axis=0)
    return instead / np.where(support, support, np.nan)[:, None]


def recall(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each poster's top-3 recall, `(n,)`: the share of its genres among its three highest.

    Of more than three genres three are counted. NaN for a poster without a genre. `labels`, 0 or 1,
    and `scores` are `(n, genres)`.
    """
    count = labels.sum(axis=1).astype(float)
    count[count == 0] = np.nan
    return _top(labels, scores)[0].sum(axis=1) / np.minimum(count, TOP)


def recall_by_word_count(
    amounts: Sequence[int], recalls: dict[str, np.ndarray], parts: int = 4
) -> pd.DataFrame:
    """Return posters' mean recalls by how many words are on them.

    `amounts`, `(n,)`, is the number of words of each poster; `recalls` has the posters' recalls,
    `(n,)`, by system, as `recall` returns them. Posters without words are a part of their own, the
    others are cut into `parts` of about equal size. Columns: `words`, a range, `system`, `recall`,
    `error`, half the width of the 95 % interval of that mean, and `posters`.
    """
    amounts = np.asarray(amounts)
    some = amounts[amounts > 0]
    inner = np.quantile(some, np.linspace(0, 1, parts + 1)[1:-1]) if len(some) else []
    edges = np.unique(np.ceil([0, 1, *inner]).astype(int))
    rows = []
    for low, high in zip(edges, [*edges[1:], amounts.max() + 1], strict=True):
        inside = (amounts >= low) & (amounts < high)
        words = str(low) if high == low + 1 else f"{low}–{high - 1}"
        for system, figures in recalls.items():
            known = figures[inside & ~np.isnan(figures)]
            if len(known):
                error = 1.96 * known.std() / np.sqrt(len(known))
                rows.append((words, system, known.mean(), error, len(known)))
    return pd.DataFrame(rows, columns=["words", "system", "recall", "error", "posters"])


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # A genre without positives gets 0 and a warning; callers leave it out by its support.
        warnings.simplefilter("ignore", UserWarning)
        # Of one genre alone scikit-learn returns a number, not an array.
        return np.atleast_1d(average_precision_score(labels, scores, average=None))


def _check_probabilities(labels: np.ndarray, scores: np.ndarray) -> None:
    check_tables(labels, scores)
    if np.min(scores) < -ROUNDING or np.max(scores) > 1 + ROUNDING:
        raise ValueError(
            f"Scores are from {np.min(scores):.3g} to {np.max(scores):.3g}, and probabilities from "
            "0 to 1: give the sigmoid of logits."
        )


def _top(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores at the three highest scores of each poster, `(n, 3)` each."""
    highest = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    return np.take_along_axis(labels, highest, 1), np.take_along_axis(scores, highest, 1)


def _macro_f1(labels: np.ndarray, predicted: np.ndarray, counted: np.ndarray) -> float:
    return _mean(
        [f1_score(labels[:, g], predicted[:, g], zero_division=0) for g in np.flatnonzero(counted)]
    )


def _mean(values) -> float | None:
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def _bootstrap(
    labels: np.ndarray, tables: Sequence[np.ndarray], resamples: int, seed: int
) -> np.ndarray:
    """Return the average precisions of several tables of scores on the same draws of posters.

    The shape is `(resamples, tables, genres)`, with NaN for a genre that is on no poster of a draw.
    """
    # By hand: `scipy.stats.bootstrap` makes the same draws, more slowly, and one NaN in them makes
    # the whole interval NaN.
    rng = np.random.default_rng(seed)
    draws = np.full((resamples, len(tables), labels.shape[1]), np.nan)
    for draw in progress.bar(draws, desc="bootstrap"):
        rows = rng.integers(0, len(labels), len(labels))
        drawn = labels[rows]
        present = drawn.any(axis=0)
        if present.any():  # a draw of few posters may have none with a genre
            for of_table, scores in zip(draw, tables, strict=True):
                of_table[present] = _average_precision(drawn[:, present], scores[rows][:, present])
    return draws


def _first(keys: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return row and column of the smallest finite keys, each row once."""
    genres, least = keys.argmin(axis=1), keys.min(axis=1)
    rows = [row for row in np.argsort(least, kind="stable")[:count] if np.isfinite(least[row])]
    return [(int(row), int(genres[row])) for row in rows]
