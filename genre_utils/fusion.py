"""One score from the models of a poster: a weighted sum of their logits, calibrated as well.

This is a logistic regression on stacked logits. It explains itself: the effect of the text on a
score is the score with the text, less the score without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# The strength of scikit-learn's quadratic penalty on weights and biases, as its inverse. It matters
# where a genre has a few positives, or posters are so few that the models make no mistake.
C = 0.25


@dataclass(frozen=True)
class LogisticFusion:
    """A weighted sum of models' logits a genre: `weights` by model and `bias`, `(genres,)` each."""

    weights: dict[str, np.ndarray]
    bias: np.ndarray

    def logits(self, logits: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return calibrated logits `(n, genres)` from `{model: logits}` of the same shape."""
        return sum((w * logits[name] for name, w in self.weights.items()), self.bias)

    def scores(self, logits: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return probabilities `(n, genres)` from `{model: logits}`."""
        # The sigmoid by way of tanh, which never overflows and needs no SciPy to load.
        return 0.5 + 0.5 * np.tanh(0.5 * self.logits(logits))


def fit_fusion(logits: Mapping[str, np.ndarray], labels: np.ndarray) -> LogisticFusion:
    """Fit one weight a model and one bias a genre: logistic regression on stacked logits.

    `logits` are those of each model, `(n, genres)`, for posters that it was not trained on, and
    `labels` multi-hot, `(n, genres)`. Of one model this is Platt scaling. A weight for each genre
    of its own was no better in five folds (`benchmarks/experiments.md`): a few hundred posters
    cannot tell what a model is worth in a rare genre.
    """
    from sklearn.linear_model import LogisticRegression

    posters, genres = labels.shape
    pairs = np.column_stack([np.ravel(table) for table in logits.values()])
    which = np.tile(np.eye(genres), (posters, 1))  # the genre of each pair of poster and genre
    model = LogisticRegression(C=C, max_iter=1000)
    model.fit(np.hstack([pairs, which]), np.ravel(labels))
    own = model.coef_[0, len(logits) :]
    weights = {
        name: np.full(genres, weight) for name, weight in zip(logits, model.coef_[0], strict=False)
    }
    return LogisticFusion(weights, model.intercept_[0] + own)


def fit_fusions(
    logits: Mapping[str, np.ndarray], labels: np.ndarray, has_text: np.ndarray
) -> dict[str, LogisticFusion]:
    """Return the fusions of a saved model: of `"picture"`, `"words"` and `"both"`.

    `logits` has the model called `"picture"` and may have models of the text, `(n, genres)` each;
    without any there is the first fusion only. `"both"` is fitted where `has_text`, bool `(n,)`.
    """
    of_text = {name: table for name, table in logits.items() if name != "picture"}
    fusions = {"picture": fit_fusion({"picture": logits["picture"]}, labels)}
    if of_text:
        fusions["words"] = fit_fusion(of_text, labels)
        beside = {name: table[has_text] for name, table in logits.items()}
        fusions["both"] = fit_fusion(beside, labels[has_text])
    return fusions


def ablations(
    sums: Mapping[str, LogisticFusion],
    logits: Mapping[str, np.ndarray],
    has_text: np.ndarray,
    whole: str,
) -> dict[str, np.ndarray]:
    """Return scores `(n, genres)` of the whole, and of `"picture alone"` and `"words alone"`.

    `whole` is the name of the first; a model without text has nothing else. See `fuse`.
    """
    scores = {whole: fuse(sums, logits, has_text)[0]}
    if len(logits) > 1:
        scores["picture alone"] = sums["picture"].scores(logits)
        scores["words alone"] = sums["words"].scores(logits)
    return scores


def fuse(
    sums: Mapping[str, LogisticFusion], logits: Mapping[str, np.ndarray], has_text: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return posters' scores, 0 to 1, and the effect of the text on them; both `(n, genres)`.

    `sums` has a fusion of `"picture"` alone and may have one of `"both"`. `logits` has the
    picture's, `(n, genres)`, and, where text was read, those of its models; `has_text`, bool
    `(n,)`, says which posters have any. The others get the score of the picture alone.
    """
    scores = sums["picture"].scores(logits)
    if "both" not in sums or not set(sums["both"].weights) <= set(logits):
        return scores, np.zeros_like(scores)
    text_effect = np.where(has_text[:, None], sums["both"].scores(logits) - scores, 0.0)
    return scores + text_effect, text_effect


def from_card(card: Mapping, genres: Sequence[str]) -> LogisticFusion:
    """Read a fusion from `model.json`; raises `ValueError` when it does not fit the genres."""
    weights = {name: np.asarray(values, float) for name, values in card["weights"].items()}
    bias = np.asarray(card["bias"], float)
    if any(values.shape != (len(genres),) for values in (bias, *weights.values())):
        raise ValueError("the weights of the sum do not fit the genres")
    return LogisticFusion(weights, bias)


def to_card(fitted: LogisticFusion) -> dict:
    """Return a fusion as plain lists for `model.json`."""
    weights = {name: np.round(values, 6).tolist() for name, values in fitted.weights.items()}
    return {"weights": weights, "bias": np.round(fitted.bias, 6).tolist()}
