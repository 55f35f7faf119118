from functools import partial

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from genre_utils import evaluation
from genre_utils.evaluation import (
    baselines,
    calibration_error,
    evaluate,
    macro_average_precision,
    paired_bootstrap,
    reliability,
    tune_thresholds,
)

GENRES = ["A", "B", "C", "D"]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 4)) < [0.5, 0.2, 0.1, 0.0]).astype(np.int8)
    labels[:2, 3] = 1
    scores = np.clip(labels * 0.3 + rng.random((200, 4)) * 0.7, 0, 1)
    return labels, scores


def test_perfect_scores_are_perfect(table):
    labels, _ = table
    result = evaluate(labels, labels.astype(float), GENRES, resamples=0)
    for key in ("macro_map", "macro_map_all", "micro_map", "macro_roc_auc", "macro_f1"):
        assert result[key] == 1
    assert result["top3_recall"] == result["top1_hit"] == result["element_accuracy"] == 1


def test_lists_are_scored_like_arrays(table):
    labels, scores = table
    expected = evaluate(labels, scores, GENRES, resamples=0)
    assert evaluate(labels.tolist(), scores.tolist(), GENRES, resamples=0) == expected


def test_macro_counts_only_genres_with_five_positives(table):
    labels, scores = table
    result = evaluate(labels, scores, GENRES, [0.5] * 4, resamples=0)
    f1 = [f1_score(labels[:, g], scores[:, g] >= 0.5) for g in range(3)]
    assert result["macro_f1"] == result["macro_f1_tuned"] == pytest.approx(np.mean(f1))
    counted = [average_precision_score(labels[:, g], scores[:, g]) for g in range(3)]
    assert result["genres_counted"] == 3
    assert result["macro_map"] == pytest.approx(np.mean(counted))
    assert result["macro_map_all"] < result["macro_map"]
    labels[:, 3] = 0
    absent = evaluate(labels, scores, GENRES, resamples=0)
    assert absent["macro_map_all"] == absent["macro_map"] == result["macro_map"]


def test_each_genre_has_its_support_and_precision_and_no_interval_without_draws(table):
    labels, scores = table
    labels[:, 3] = 0
    result = evaluate(labels, scores, GENRES, resamples=0)
    for g, name in enumerate("ABC"):
        precision = average_precision_score(labels[:, g], scores[:, g])
        expected = {"support": labels[:, g].sum(), "average_precision": pytest.approx(precision)}
        assert result["per_genre"][name] == expected
    assert result["per_genre"]["D"] == {"support": 0, "average_precision": None}
    for without in (result, *baselines(labels, labels, GENRES).values()):
        assert "macro_map_interval" not in without


def test_top3_recall_counts_at_most_three_and_skips_the_unlabelled():
    labels = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], np.int8)
    scores = np.array([[0.9, 0.8, 0.7, 0.6]] * 3)
    result = evaluate(labels, scores, GENRES, resamples=0)
    assert result["top3_recall"] == pytest.approx((3 / 3 + 0 / 1) / 2)
    assert result["top1_hit"] == pytest.approx(1 / 2)


def test_element_accuracy_counts_the_missing_column():
    labels = np.array([[1, 0], [0, 0]], np.int8)
    zeros = np.zeros((2, 2), bool)
    assert evaluation.element_accuracy(labels, zeros, False) == pytest.approx(3 / 4)
    # The third column is 1 for the poster without a genre and predicted 0: one more mistake.
    assert evaluation.element_accuracy(labels, zeros, True) == pytest.approx(4 / 6)


def test_intervals_hold_the_figure_and_depend_on_the_seed(table):
    labels, scores = table
    result = evaluate(labels, scores, GENRES, resamples=50, seed=1)
    low, high = result["macro_map_interval"]
    assert low < result["macro_map"] < high
    assert evaluate(labels, scores, GENRES, resamples=50, seed=1) == result
    assert evaluate(labels, scores, GENRES, resamples=50, seed=2) != result


def test_baselines_score_chance(table):
    labels, _ = table
    guessed = baselines(labels, labels, GENRES)
    frequency = labels[:, :3].mean()
    assert guessed["all zeros"]["macro_map"] == pytest.approx(frequency)
    assert guessed["genre prior"]["macro_map"] == pytest.approx(frequency)
    assert guessed["genre prior"]["macro_roc_auc"] == pytest.approx(0.5)
    assert guessed["genre prior"]["top1_hit"] > guessed["all zeros"]["macro_f1"]
    (zeros,) = baselines(labels[:0], labels, GENRES, has_missing_column=True).values()
    expected = evaluation.element_accuracy(labels, np.zeros_like(labels), True)
    assert zeros["element_accuracy"] == expected < guessed["all zeros"]["element_accuracy"]


def test_tuned_thresholds_beat_a_half(table):
    labels, scores = table
    thresholds = tune_thresholds(labels, scores * 0.5)
    result = evaluate(labels, scores * 0.5, GENRES, thresholds, resamples=0)
    assert result["macro_f1_tuned"] > result["macro_f1"]


def test_rare_genre_gets_the_shared_threshold(table):
    labels, scores = table
    own = tune_thresholds(labels, scores)
    scores[:2, 3] = 0.999
    assert tune_thresholds(labels, scores)[3] == pytest.approx(own[3], abs=0.05)


def test_calibration_of_equal_scores_does_not_depend_on_their_order():
    labels = np.repeat([1, 0], 60)[:, None]
    assert calibration_error(labels, np.full((120, 1), 0.5)) == 0
    scores = np.random.default_rng(0).choice([0.2, 0.6, 0.7], (120, 1))
    errors = {
        round(calibration_error(labels[order], scores[order]), 9)
        for order in (np.random.default_rng(seed).permutation(120) for seed in range(5))
    }
    assert len(errors) == 1


def test_without_a_positive_no_figure_is_made_up(recwarn):
    found = evaluate(np.zeros((9, 2), int), np.full((9, 2), 0.5), ("A", "B"), resamples=9)
    assert found["micro_map"] is found["macro_map"] is found["top1_hit"] is None
    everywhere = evaluate(np.ones((9, 1), int), np.full((9, 1), 0.5), ("A",), resamples=9)
    assert everywhere["macro_roc_auc"] is None and everywhere["macro_map"] == 1
    assert not recwarn.list


def test_calibration_error_measures_how_far_scores_are_from_what_comes_true():
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 3))
    labels = (rng.random(scores.shape) < scores).astype(int)
    assert calibration_error(labels, scores) < 0.01
    assert calibration_error(labels, scores / 2) == pytest.approx(0.25, abs=0.01)
    result = evaluate(labels, scores, ("a", "b", "c"), resamples=0)
    assert result["calibration_error"] == calibration_error(labels, scores)
    assert result["calibration_error_top3"] == pytest.approx(result["calibration_error"], abs=1e-9)
    twice = (np.hstack([table, 0 * table]) for table in (labels, scores / 2))
    result = evaluate(*twice, range(6), resamples=0)
    assert result["calibration_error"] == pytest.approx(0.125, abs=0.01)
    assert result["calibration_error_top3"] == pytest.approx(0.25, abs=0.01)


def test_a_draw_without_any_positive_does_not_stop_the_report():
    labels = np.zeros((12, 4), np.int8)
    labels[0, 0] = 1  # in a third of the draws of twelve posters this one is missing
    scores = np.random.default_rng(0).random((12, 4))
    result = evaluate(labels, scores, GENRES, resamples=100)
    draws = evaluation._bootstrap(labels, [scores], 300, 0)[:, 0, 0]
    assert np.isnan(draws).mean() == pytest.approx((11 / 12) ** 12, abs=0.08)
    assert np.isfinite(result["per_genre"]["A"]["interval"]).all()
    assert result["macro_map_interval"] is None


def test_paired_bootstrap_sees_a_better_system_and_no_difference():
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 4)) < 0.3).astype(int)
    noise = rng.normal(size=(2, *labels.shape))
    better, worse = labels + noise[0], 0.3 * labels + noise[1]
    paired = paired_bootstrap(labels, better, worse, resamples=100)
    assert paired["share"] == 1 and paired["interval"][0] > 0
    same = paired_bootstrap(labels, better, better, resamples=20)
    assert same["share"] == 0 and same["difference"] == 0
    five = np.repeat([[1], [0]], [5, 20], axis=0)
    assert paired_bootstrap(five, five, 1 - five, resamples=20)["share"] == 1


def test_a_single_genre_is_scored_like_many():
    rng = np.random.default_rng(0)
    labels = (rng.random((80, 1)) < 0.4).astype(int)
    scores = 0.4 * labels + 0.6 * rng.random((80, 1))
    one = evaluate(labels, scores, ["Noir"], [0.5], resamples=20)
    twice = evaluate(*(np.hstack([x, x]) for x in (labels, scores)), ["a", "b"], [0.5, 0.5])
    for figure in ("macro_map", "micro_map", "macro_roc_auc", "macro_f1"):
        assert one[figure] == pytest.approx(twice[figure])
    assert macro_average_precision(labels, scores) == pytest.approx(one["macro_map"])


def test_where_no_genre_has_five_positives_those_with_the_most_count(table):
    labels, scores = table
    labels[:, :3] = 0
    labels[7, 0] = 1
    expected = average_precision_score(labels[:, 3], scores[:, 3])
    assert macro_average_precision(labels, scores) == pytest.approx(expected)
    labels[:, 3] = 0
    expected = average_precision_score(labels[:, 0], scores[:, 0])
    assert macro_average_precision(labels, scores) == pytest.approx(expected)
    assert macro_average_precision(0 * labels, scores) is None


def test_tables_that_do_not_fit_each_other_are_refused(table):
    labels, scores = table
    for ours, theirs, why in (
        (labels, scores[:-1], r"Labels are \(200, 4\) and scores \(199, 4\)"),
        (labels, scores.T, "give tables of one shape"),
        (labels[:0], scores[:0], "with a poster or more"),
        (labels, np.full_like(scores, np.nan), "hold what is no number"),
        (labels, scores.astype(str), "hold what is no number"),
        (labels, scores.astype(object), "hold what is no number"),
        (labels[:, 0], scores[:, 0], "give tables of one shape"),
        (2 * labels - 1, scores, "other values than 0 and 1"),
        (labels + 1, scores, "other values than 0 and 1"),
    ):
        for score in (calibration_error, tune_thresholds, macro_average_precision):
            with pytest.raises(ValueError, match=why):
                score(ours, theirs)
        with pytest.raises(ValueError, match=why):
            evaluate(ours, theirs, GENRES)
        with pytest.raises(ValueError, match=why):
            paired_bootstrap(ours, theirs, theirs)
    for score in (reliability, tune_thresholds, partial(evaluate, genres=GENRES, resamples=0)):
        with pytest.raises(ValueError, match="from -4 to 3, and probabilities from 0 to 1: give"):
            score(labels, 7 * (scores - scores.min()) / np.ptp(scores) - 4)
        for factor, shift in ((1, 0.001), (-1, 0.999)):
            with pytest.raises(ValueError, match="probabilities from 0 to 1"):
                score(labels, np.where(labels, factor, 0) + shift)
        score(labels, labels * (1 + 1e-9))  # as a mean of probabilities may be rounded
    for genres, thresholds in (
        (GENRES[:3], None),
        (["A"] * 4, None),
        ([*GENRES, "A"], None),
        (GENRES, np.ones((4, 1))),
        (GENRES, [0.5] * 3),
    ):
        with pytest.raises(ValueError, match="have 4 columns: give a name of its own"):
            evaluate(labels, scores, genres, thresholds)


def test_the_prior_comes_from_training_and_zeros_have_no_three_highest():
    found = baselines(np.array([[1, 0], [1, 0], [0, 1]]), np.array([[0, 1]] * 6), ["A", "B"])
    assert found["genre prior"]["calibration_error"] == pytest.approx(2 / 3)
    for key in ("top3_recall", "top1_hit", "calibration_error_top3"):
        assert found["all zeros"][key] is None


def test_the_missing_column_is_predicted_zero():
    table = np.array([[1, 0]] * 3 + [[0, 0]])
    assert evaluation.element_accuracy(table, table, True) == pytest.approx(11 / 12)


def test_five_positives_count_and_a_score_at_its_threshold_is_assigned():
    labels = np.repeat([[1], [0]], 5, axis=0)
    found = evaluate(labels, labels.astype(float), ["A"], [1.0], resamples=0)
    assert found["genres_counted"] == found["macro_f1_tuned"] == 1
    found = evaluate(labels, labels / 2, ["A"], resamples=0)
    assert found["macro_f1"] == found["element_accuracy"] == 1
    assert evaluate(labels[1:], labels[1:] / 2, ["A"], resamples=0)["genres_counted"] == 0


def test_the_threshold_with_the_best_f1_is_found():
    labels = np.repeat([0, 1], 50)[:, None]
    assert tune_thresholds(labels, np.where(labels, 0.6, 0.2))[0] == pytest.approx(0.6)


@pytest.mark.parametrize("skill", [1, 0.5, 0.2])
def test_no_threshold_has_a_better_f1(table, skill):
    labels = table[0]
    scores = np.random.default_rng(1).random(labels.shape) * (1 - skill * ~labels.astype(bool) / 2)
    for g in range(3):
        f1 = {at: f1_score(labels[:, g], scores[:, g] >= at) for at in scores[:, g]}
        found = tune_thresholds(labels[:, g : g + 1], scores[:, g : g + 1])[0]
        assert f1[found] == max(f1.values())


def test_with_twenty_positives_a_genre_s_own_threshold_weighs_as_much_as_the_shared_one(table):
    labels, scores = table
    labels[np.flatnonzero(labels[:, 1])[20:], 1] = 0
    own = tune_thresholds(labels[:, 1:2], scores[:, 1:2])[0]
    shared = tune_thresholds(labels.reshape(-1, 1), scores.reshape(-1, 1))[0]
    assert own != shared
    assert tune_thresholds(labels, scores)[1] == pytest.approx((own + shared) / 2)


def test_bins_count_by_their_size():
    scores = np.arange(16)[:, None] / 16  # one bin has two of the sixteen
    error = calibration_error(np.zeros((16, 1), int), scores)
    assert error == pytest.approx(scores.mean())
    assert reliability(np.zeros((16, 1), int), scores)[2].tolist() == [2] + [1] * 14


def test_intervals_hold_95_of_100_draws(table):
    labels, scores = (one[:, :3] for one in table)
    other = scores[::-1]
    draws = evaluation._bootstrap(labels, [scores, other], 50, 0).mean(axis=2)

    def ends(figures):
        return pytest.approx(np.percentile(figures, [2.5, 97.5]))

    found = evaluate(labels, scores, GENRES[:3], resamples=50)
    assert found["macro_map_interval"] == ends(draws[:, 0])
    assert evaluate(*table, GENRES, resamples=50)["macro_map_interval"] == ends(draws[:, 0])
    per_genre = evaluation._bootstrap(labels, [scores], 50, 0)[:, 0].T
    for genre, figures in zip(GENRES[:3], per_genre, strict=True):
        assert found["per_genre"][genre]["interval"] == ends(figures)
    paired = paired_bootstrap(labels, scores, other, 50)
    assert paired["interval"] == ends(draws[:, 0] - draws[:, 1])
    assert paired != paired_bootstrap(labels, scores, other, 50, seed=1)
    # The fourth genre is on two posters, and counts nowhere.
    assert paired == paired_bootstrap(table[0], table[1], table[1][::-1], 50)
    nothing = paired_bootstrap(table[0][:, 3:], table[1][:, 3:], table[1][:, 3:], 50)
    assert nothing == {"share": None, "difference": None, "interval": None}
