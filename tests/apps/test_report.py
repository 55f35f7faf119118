"""The tables and sentences at the end of a training."""

from types import SimpleNamespace

import numpy as np
import pytest

from genre_utils.apps import (
    comparison,
    evaluate_systems,
    in_words,
    paired_in_words,
    worth_of_words,
)
from genre_utils.evaluation import METRICS

GENRES = ("A", "B")
# Genre A is on three of four training posters, and on a half of the test posters.
LABELS = {
    "train": np.tile([[1, 0], [1, 0], [1, 0], [0, 1]], (3, 1)),
    "validation": np.tile([[0, 1], [1, 1]], (6, 1)),
    "test": np.tile([[1, 0], [0, 1]], (6, 1)),
}


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    data = SimpleNamespace(genres=GENRES, has_missing_column=False)
    scored = {f"net, {split}": (split, 0.4 * LABELS[split]) for split in ("validation", "test")}
    return evaluate_systems(scored, LABELS, data, np.array([0.3, 0.3]))


def test_each_system_is_scored_on_its_own_posters_with_the_thresholds(results):
    assert list(results) == ["net, validation", "net, test", "all zeros, test", "genre prior, test"]
    for split in ("validation", "test"):
        of_split = results[f"net, {split}"]
        assert of_split["top3_recall"] == of_split["macro_f1_tuned"] == 1 > of_split["macro_f1"]


def test_the_prior_of_training_is_beside_them(results):
    # Each of its scores, 0.75 and 0.25, is 0.25 off the half of the test posters.
    assert results["genre prior, test"]["calibration_error"] == pytest.approx(0.25)


def test_a_comparison_has_the_metrics_words_and_blanks(results):
    table = comparison(results | {"none": {"macro_map": None}})
    assert table.columns.tolist() == list(METRICS.values())
    assert table.index.tolist() == [*results, "none"]
    assert table.loc["net, test", "macro F1, tuned"] == 1 and table.loc["none"].isna().all()


def test_figures_stand_beside_the_prior_s_in_words(results):
    told = in_words(
        {"posters": 40, "macro_map_interval": (0.4, 0.6), "macro_map": 0.5}
        | {"top1_hit": 0.7, "top3_recall": 0.8},
        {"macro_map": 0.1, "top1_hit": 0.2, "top3_recall": 0.3},
    )
    assert told.startswith("On 40 test posters:")
    assert "0.500 (95 % interval 0.400 to 0.600)" in told and "genres are gives 0.100" in told
    assert "for 70% of the posters (by frequency 20%)" in told
    assert "find 80% of a poster's genres (by frequency 30%)" in told
    few = in_words({"posters": 3, "macro_map_interval": None}, {})
    assert few == "The 3 test posters are too few to say: no genre is on 5 of them."


def test_words_are_worth_what_the_whole_model_wins_by():
    labels = LABELS["test"]
    guess = np.random.default_rng(0).random(labels.shape)
    paired, told = worth_of_words(labels, labels, {"both": labels, "picture alone": guess})
    assert paired["share"] > 0.9 and paired["difference"] > 0
    assert told.startswith(
        "Macro mAP of picture and words is higher than that of the picture alone"
    )
    few, told = worth_of_words(labels[:2], labels[:2], {"picture alone": guess[:2]})
    assert few["share"] is None and told == "The posters are too few to compare."


def test_without_words_nothing_is_compared():
    labels = LABELS["test"]
    paired, told = worth_of_words(labels, labels, {"picture": labels})
    assert paired == {} and told == "No words were read: the picture is the whole model."


def test_draws_are_told_with_their_interval():
    paired = {"share": 0.987, "difference": 0.0123, "interval": (-0.001, 0.03)}
    told = paired_in_words(paired, "one", "two")
    assert told.startswith("Macro mAP of one is higher than that of two in 98.7% of the draws, ")
    assert "differs by +0.012 on average over all of them" in told
    assert told.endswith("(95 % of the draws: -0.001 to +0.030).")
