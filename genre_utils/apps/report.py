"""What the figures of `evaluation` say, side by side and in words."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from genre_utils.dataset import Dataset
from genre_utils.evaluation import FEW_POSITIVES, METRICS, baselines, evaluate, paired_bootstrap
from genre_utils.fusion import LogisticFusion, fuse


def evaluate_systems(
    scored: Mapping[str, tuple[str, np.ndarray]],
    labels: Mapping[str, np.ndarray],
    data: Dataset,
    thresholds: np.ndarray,
) -> dict[str, dict]:
    """Return `evaluate` of each system, and of the baselines on `"test"`, by name.

    `scored` has a system's split and its scores `(n, genres)`; `labels` are multi-hot by split.
    """
    results = {
        system: evaluate(labels[split], scores, data.genres, thresholds, data.has_missing_column)
        for system, (split, scores) in scored.items()
    }
    guesses = baselines(labels["train"], labels["test"], data.genres, data.has_missing_column)
    return results | {f"{name}, test": result for name, result in guesses.items()}


def ablations(
    fusions: Mapping[str, LogisticFusion],
    logits: Mapping[str, np.ndarray],
    has_text: np.ndarray,
    name: str,
) -> dict[str, np.ndarray]:
    """Return scores `(n, genres)` of the full model, `"picture alone"` and `"words alone"`.

    `name` is the key of the full model, the only one where there is no text. See `fuse`.
    """
    scores = {name: fuse(fusions, logits, has_text)[0]}
    if len(logits) > 1:
        scores["picture alone"] = fusions["picture"].scores(logits)
        scores["words alone"] = fusions["words"].scores(logits)
    return scores


def comparison(results: dict[str, dict]) -> pd.DataFrame:
    """Lay results side by side: one row a system, one column a metric, in `METRICS`' words."""
    table = pd.DataFrame.from_dict(results, orient="index").reindex(columns=list(METRICS))
    return table.rename(columns=METRICS).astype(float)


def in_words(result: dict, prior: dict) -> str:
    """Say what a result on test means, beside the genre prior's."""
    if result["macro_map_interval"] is None:
        return (
            f"The {result['posters']} test posters are too few to say: no genre is on "
            f"{FEW_POSITIVES} of them."
        )
    low, high = result["macro_map_interval"]
    return (
        f"On {result['posters']} test posters:\n"
        f"- macro mAP {result['macro_map']:.3f} (95 % interval {low:.3f} to {high:.3f}); knowing "
        f"only how frequent genres are gives {prior['macro_map']:.3f}.\n"
        f"- The highest score is a true genre for {result['top1_hit']:.0%} of the posters "
        f"(by frequency {prior['top1_hit']:.0%}).\n"
        f"- Three guesses find {result['top3_recall']:.0%} of a poster's genres "
        f"(by frequency {prior['top3_recall']:.0%})."
    )


def paired_in_words(paired: dict, better: str, worse: str) -> str:
    """Say what `paired_bootstrap` found."""
    if paired["share"] is None:
        return "The posters are too few to compare."
    low, high = paired["interval"]
    return (
        f"Macro mAP of {better} is higher than that of {worse} in {paired['share']:.1%} of the "
        f"draws, and differs by {paired['difference']:+.3f} on average over all of them (95 % of "
        f"the draws: {low:+.3f} to {high:+.3f})."
    )


def worth_of_words(
    labels: np.ndarray, scores: np.ndarray, systems: Mapping[str, np.ndarray]
) -> tuple[dict, str]:
    """Return `paired_bootstrap` of a model beside its `"picture alone"`, and a sentence on it.

    Without such a system among `systems`, scores `(n, genres)` by name, no words were read.
    """
    if "picture alone" not in systems:
        return {}, "No words were read: the picture is the whole model."
    paired = paired_bootstrap(labels, scores, systems["picture alone"])
    return paired, paired_in_words(paired, "picture and words", "the picture alone")
