"""One calibrated score from the models of a poster: a weighted sum of their logits.

This is a logistic regression on stacked logits (Wolpert, "Stacked Generalization", 1992). The
effect of the text on a score is the score with the text minus the score without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from genre_utils.genres import check_tables

# The inverse strength of scikit-learn's L2 penalty on weights and biases. The penalty matters when
# a genre has few positives, and when so few posters are fitted that the models make no mistake.
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
        # The sigmoid, as tanh: it never overflows, and SciPy need not be imported for it.
        return 0.5 + 0.5 * np.tanh(0.5 * self.logits(logits))


def fit_fusion(logits: Mapping[str, np.ndarray], labels: np.ndarray) -> LogisticFusion:
    """Fit one weight a model and one bias a genre: logistic regression on stacked logits.

    `logits` are those of each model, `(n, genres)`, for posters that it was not trained on, and
    `labels` multi-hot, `(n, genres)`. Of one model this is Platt scaling (Platt, 1999). One weight
    a model *and* genre was no better in five folds (`benchmarks/experiments.md`): a few hundred
    posters do not show how good a model is at a rare genre. Raises `ValueError` if all labels are
    equal.
    """
    from sklearn.linear_model import LogisticRegression

    posters, genres = labels.shape
    check_tables(labels, *logits.values())
    # One row for each pair of poster and genre.
    pairs = np.column_stack([np.ravel(table) for table in logits.values()])
    which = np.tile(np.eye(genres), (posters, 1))  # one-hot: the genre of each pair
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
    """Return the fusions of a saved model: of `"picture"`, `"words"`, `"both"` and `"joint"`.

    `logits` has the model `"picture"` and may have models of the text, `(n, genres)` each. Without
    these there is the first fusion only, and without a `"joint"` head there is no fourth. `labels`
    are multi-hot `(n, genres)`. Picture and text are added on posters with `has_text`, bool `(n,)`.
    Raises `ValueError` if none of these has a genre, and as `fit_fusion` does.
    """
    of_text = {name: logits[name] for name in logits if name not in ("picture", "joint")}
    has_text = np.asarray(has_text, bool)
    if of_text and not labels[has_text].any():
        raise ValueError(
            "No validation poster with a genre has words, by which their weight could be fitted: "
            "give READ_TEXT='no', with RESTART=True or another OUTPUT_DIR, or more posters."
        )
    fusions = {"picture": fit_fusion({"picture": logits["picture"]}, labels)}
    if of_text:
        fusions["words"] = fit_fusion(of_text, labels)
        beside = {name: table[has_text] for name, table in logits.items()}
        if "joint" in beside:
            fusions["joint"] = fit_fusion(beside, labels[has_text])
            del beside["joint"]
        fusions["both"] = fit_fusion(beside, labels[has_text])
    return fusions


def fuse(
    fusions: Mapping[str, LogisticFusion], logits: Mapping[str, np.ndarray], has_text: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return posters' scores, 0 to 1, and the effect of the text on them; both `(n, genres)`.

    `fusions` are those of `fit_fusions`. `logits` has the picture's, `(n, genres)`, and, where text
    was read, those of its models; `has_text`, bool `(n,)`, says which posters have any. The others
    get the score of the picture alone.
    """
    scores = fusions["picture"].scores(logits)
    of_text = [fusions[name] for name in ("joint", "both") if name in fusions]
    usable = next((one for one in of_text if one.weights.keys() <= logits.keys()), None)
    if usable is None:
        return scores, np.zeros_like(scores)
    text_effect = np.where(np.asarray(has_text)[:, None], usable.scores(logits) - scores, 0.0)
    return scores + text_effect, text_effect


def from_card(card: Mapping) -> LogisticFusion:
    """Return a fusion of `model.json`, whose shapes `networks.check_card` has checked."""
    weights = {name: np.asarray(values, float) for name, values in card["weights"].items()}
    return LogisticFusion(weights, np.asarray(card["bias"], float))


def to_card(fitted: LogisticFusion) -> dict:
    """Return a fusion as plain lists for `model.json`."""
    weights = {name: np.round(values, 6).tolist() for name, values in fitted.weights.items()}
    return {"weights": weights, "bias": np.round(fitted.bias, 6).tolist()}
