"""One score from several towers: a weighted sum of their logits, which is calibrated as well.

The sum explains itself: how much the words moved a score is what it is with them, less what it is
without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# How strongly a genre's own weights and bias are held to those that all genres share, in the
# unit of posters' losses. Chosen by cross-validation (`benchmarks/experiments.md`).
HOLD_WEIGHTS, HOLD_BIAS = 20.0, 2.0
ALL_SHARE = 1e6  # so strong that every genre has the same weights
# A tower's weight in a genre is at least a quarter of its mean weight, and at most four of it.
LARGEST_RATIO = 4.0
# And the shared weights to a plain mean: felt only where posters are so few that the towers tell
# them apart without a mistake, and infinite weights would be likeliest.
HOLD_SHARED = 1.0


@dataclass(frozen=True)
class LogitSum:
    """A weighted sum of towers' logits a genre: `weights` by tower and `bias`, `(genres,)` each."""

    weights: dict[str, np.ndarray]
    bias: np.ndarray

    def logits(self, towers: Mapping[str, np.ndarray]) -> np.ndarray:
        """Add up towers' logits `(n, genres)` to calibrated ones."""
        return sum((w * towers[name] for name, w in self.weights.items()), self.bias)

    def scores(self, towers: Mapping[str, np.ndarray]) -> np.ndarray:
        """Give probabilities `(n, genres)`."""
        # The sigmoid by way of tanh, which never overflows and needs no SciPy to load.
        return 0.5 + 0.5 * np.tanh(0.5 * self.logits(towers))


def genre_ratios(towers: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Tell what each tower is worth in each genre beside its mean worth: `(genres,)` around 1.

    `towers` are logits `(n, genres)` of cheap twins of the towers for many posters, each by a twin
    that had not seen it: what a few hundred posters cannot tell of rare genres, thousands can.
    """
    fitted = fit_sum(towers, labels)
    return {
        name: np.clip(weights / weights.mean(), 1 / LARGEST_RATIO, LARGEST_RATIO)
        for name, weights in fitted.weights.items()
    }


def fit_sum(
    towers: Mapping[str, np.ndarray],
    labels: np.ndarray,
    hold: float = HOLD_WEIGHTS,
    ratios: Mapping[str, np.ndarray] | None = None,
) -> LogitSum:
    """Find weights and biases that make the sum of towers likeliest (Platt, 1999, generalised).

    `towers` are logits `(n, genres)` for posters that the towers were not trained on. Each genre
    has weights of its own, held to shared ones by a quadratic penalty, so that a rare genre gets
    the shared ones. With `ratios`, as `genre_ratios` gives them, genres differ by these alone.
    """
    if ratios:
        scaled = {name: logits * ratios[name] for name, logits in towers.items()}
        shared = fit_sum(scaled, labels, ALL_SHARE)
        return LogitSum({name: w * ratios[name] for name, w in shared.weights.items()}, shared.bias)
    from scipy.optimize import minimize
    from scipy.special import expit, log1p

    names = list(towers)
    logits = np.stack([np.asarray(towers[name], np.float64) for name in names])
    count, _, genres = logits.shape
    labels = labels.astype(np.float64)

    def split(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        shared, shared_bias = flat[:count], flat[count]
        own = flat[count + 1 :].reshape(count + 1, genres)
        return shared, own[:count], own[count], shared_bias

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        shared, own, own_bias, shared_bias = split(flat)
        weights = shared[:, None] + own
        z = np.einsum("tng,tg->ng", logits, weights) + shared_bias + own_bias
        # log(1 + e^z) without overflow
        value = np.sum(np.maximum(z, 0) + log1p(np.exp(-np.abs(z))) - labels * z)
        value += hold * np.sum(own**2) + HOLD_BIAS * np.sum(own_bias**2)
        value += HOLD_SHARED * np.sum((shared - 1 / count) ** 2)
        error = expit(z) - labels
        by_weight = np.einsum("tng,ng->tg", logits, error)
        by_bias = error.sum(axis=0)
        gradient = np.concatenate(
            [
                by_weight.sum(axis=1) + 2 * HOLD_SHARED * (shared - 1 / count),
                [by_bias.sum()],
                (by_weight + 2 * hold * own).ravel(),
                by_bias + 2 * HOLD_BIAS * own_bias,
            ]
        )
        return float(value), gradient

    start = np.zeros(count + 1 + (count + 1) * genres)
    start[:count] = 1 / count
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    shared, own, own_bias, shared_bias = split(found.x)
    weights = {name: shared[t] + own[t] for t, name in enumerate(names)}
    return LogitSum(weights, shared_bias + own_bias)


def blend(
    sums: Mapping[str, LogitSum], towers: Mapping[str, np.ndarray], worded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Score posters by all that is known of them; gives scores and what the words moved them by.

    Both are `(n, genres)`. `towers` has the picture's logits and, where words were read, theirs;
    `worded`, `(n,)`, says which posters have any. The others get the picture's own answer.
    """
    scores = sums["picture"].scores(towers)
    if "both" not in sums or not set(sums["both"].weights) <= set(towers):
        return scores, np.zeros_like(scores)
    moved = np.where(worded[:, None], sums["both"].scores(towers) - scores, 0.0)
    return scores + moved, moved


def from_card(card: Mapping, genres: Sequence[str]) -> LogitSum:
    """Read a sum from `model.json`; raises `ValueError` when its lengths do not fit the genres."""
    weights = {name: np.asarray(values, float) for name, values in card["weights"].items()}
    bias = np.asarray(card["bias"], float)
    if any(values.shape != (len(genres),) for values in (bias, *weights.values())):
        raise ValueError("the weights of the sum do not fit the genres")
    return LogitSum(weights, bias)


def to_card(fitted: LogitSum) -> dict:
    """Give a sum as plain lists for `model.json`."""
    weights = {name: np.round(values, 6).tolist() for name, values in fitted.weights.items()}
    return {"weights": weights, "bias": np.round(fitted.bias, 6).tolist()}
