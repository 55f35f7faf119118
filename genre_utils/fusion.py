"""One score from the models of a poster: a weighted sum of their logits, calibrated as well.

This is a logistic regression on stacked logits. It explains itself: the effect of the text on a
score is the score with the text, less the score without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# The quadratic penalty on how far a genre's own weights and bias are from those that all genres
# share, in nats (the unit of one poster's loss). Chosen by cross-validation
# (`benchmarks/experiments.md`).
L2_WEIGHTS, L2_BIAS = 20.0, 2.0
ALL_SHARE = 1e6  # so strong that every genre has the same weights
# A model's weight in a genre is from a quarter of its mean weight to four times that.
LARGEST_RATIO = 4.0
# The penalty on how far the shared weights are from a plain mean. It matters only where posters are
# so few that the models make no mistake, and infinite weights would be the most likely.
L2_SHARED = 1.0


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


def fit_genre_weights(
    logits: Mapping[str, np.ndarray], labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return how much each model tells of each genre beside its mean: `(genres,)`, around 1.

    `logits` are out-of-fold predictions `(n, genres)` of proxies of the models (heads on frozen
    networks, n-grams) for the posters with multi-hot `labels` `(n, genres)`. A few hundred posters
    cannot tell what a model is worth in a rare genre; thousands can.
    """
    fitted = fit_fusion(logits, labels)
    return {
        name: np.clip(weights / weights.mean(), 1 / LARGEST_RATIO, LARGEST_RATIO)
        for name, weights in fitted.weights.items()
    }


def fit_fusion(
    logits: Mapping[str, np.ndarray],
    labels: np.ndarray,
    l2: float = L2_WEIGHTS,
    genre_weights: Mapping[str, np.ndarray] | None = None,
) -> LogisticFusion:
    """Fit the weights and biases with the smallest log loss: Platt scaling of several models.

    `logits` are those of each model, `(n, genres)`, for posters that it was not trained on, and
    `labels` multi-hot, `(n, genres)`. Each genre has weights of its own; the penalty `l2` draws
    them to shared ones, so that a rare genre gets the shared ones. With `genre_weights`, as
    `fit_genre_weights` returns them, genres differ by these alone.
    """
    if genre_weights:
        scaled = {name: table * genre_weights[name] for name, table in logits.items()}
        shared = fit_fusion(scaled, labels, ALL_SHARE)
        weights = {name: w * genre_weights[name] for name, w in shared.weights.items()}
        return LogisticFusion(weights, shared.bias)
    from scipy.optimize import minimize
    from scipy.special import expit, log1p

    names = list(logits)
    stacked = np.stack([np.asarray(logits[name], np.float64) for name in names])
    count, _, genres = stacked.shape
    labels = labels.astype(np.float64)

    def split(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        shared, shared_bias = flat[:count], flat[count]
        own = flat[count + 1 :].reshape(count + 1, genres)
        return shared, own[:count], own[count], shared_bias

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        shared, own, own_bias, shared_bias = split(flat)
        weights = shared[:, None] + own
        z = np.einsum("mng,mg->ng", stacked, weights) + shared_bias + own_bias
        # log(1 + e^z) without overflow
        value = np.sum(np.maximum(z, 0) + log1p(np.exp(-np.abs(z))) - labels * z)
        value += l2 * np.sum(own**2) + L2_BIAS * np.sum(own_bias**2)
        value += L2_SHARED * np.sum((shared - 1 / count) ** 2)
        error = expit(z) - labels
        by_weight = np.einsum("mng,ng->mg", stacked, error)
        by_bias = error.sum(axis=0)
        gradient = np.concatenate(
            [
                by_weight.sum(axis=1) + 2 * L2_SHARED * (shared - 1 / count),
                [by_bias.sum()],
                (by_weight + 2 * l2 * own).ravel(),
                by_bias + 2 * L2_BIAS * own_bias,
            ]
        )
        return float(value), gradient

    start = np.zeros(count + 1 + (count + 1) * genres)
    start[:count] = 1 / count
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    shared, own, own_bias, shared_bias = split(found.x)
    weights = {name: shared[m] + own[m] for m, name in enumerate(names)}
    return LogisticFusion(weights, shared_bias + own_bias)


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
