import numpy as np
import pytest

from genre_utils import evaluation

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], np.int8)
SCORES = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.6], [0.3, 0.4, 0.1], [0.5, 0.1, 0.2]])


def test_the_most_confident_predictions_come_first():
    confident = evaluation.most_confident(LABELS, SCORES, 2)
    assert confident["true positives"] == [(0, 0), (1, 1)]
    assert confident["false positives"] == [(0, 2), (1, 2)]
    assert confident["false negatives"] == [(1, 0), (2, 1)]


def test_there_are_no_more_answers_than_posters_that_have_one():
    assert len(evaluation.most_confident(LABELS, SCORES, 9)["true positives"]) == 3


def test_a_missed_genre_is_confused_with_the_one_predicted_in_its_place():
    confused = evaluation.confusion(LABELS, SCORES)
    # Of two posters of genre 0 one is missed, and genre 2 is guessed there.
    assert confused[0].tolist() == [0, 0, 0.5]
    assert confused[1].tolist() == [0, 0, 0]
    assert np.isnan(confused[2]).all()


def test_recall_counts_three_genres_at_most_and_skips_posters_without():
    labels = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], np.int8)
    scores = np.array([[4, 3, 2, 1]] * 3) / 5
    recall = evaluation.recall(labels, scores)
    assert recall[:2].tolist() == [1, 0] and np.isnan(recall[2])


def test_posters_without_words_are_a_part_of_their_own():
    amounts = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    recalls = np.array([1, 0, 1, 1, 1, 1, 0, 0, 0, np.nan])
    table = evaluation.recall_by_word_count(amounts, {"both": recalls}, parts=2)
    assert table["words"].tolist() == ["0", "1–4", "5–8"]
    assert table["recall"].tolist() == [0.5, 1, 0]
    assert table["posters"].tolist() == [2, 4, 3]
    assert table["error"][0] == pytest.approx(1.96 * 0.5 / np.sqrt(2))
    assert evaluation.recall_by_word_count([0, 0], {"both": recalls[:2]})["words"].tolist() == ["0"]
