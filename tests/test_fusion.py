import json

import numpy as np
import pytest
from scipy.special import expit

from genre_utils.apps import ablations
from genre_utils.evaluation import calibration_error, macro_average_precision
from genre_utils.fusion import fit_fusion, fit_fusions, from_card, fuse, to_card

GENRES = ("a", "b", "c")


@pytest.fixture
def world():
    """Two parts see two halves of the truth; both shout: their logits are four times too large."""
    rng = np.random.default_rng(0)
    picture, text = rng.normal(size=(2, 4000, 3))
    labels = rng.random((4000, 3)) < expit(picture + 2 * text - 1)
    return {"picture": 4 * picture, "words": 4 * text}, labels.astype(int)


def test_the_sum_finds_the_weights_and_is_calibrated(world):
    parts, labels = world
    train = {name: logits[:2000] for name, logits in parts.items()}
    test = {name: logits[2000:] for name, logits in parts.items()}
    fitted = fit_fusion(train, labels[:2000])
    assert fitted.weights["picture"] == pytest.approx(0.25, abs=0.05)
    assert fitted.weights["words"] == pytest.approx(0.5, abs=0.07)
    assert calibration_error(labels[2000:], fitted.scores(test)) < 0.03
    assert calibration_error(labels[2000:], expit(sum(test.values()))) > 0.05
    both = macro_average_precision(labels[2000:], fitted.scores(test))
    assert both > macro_average_precision(labels[2000:], test["words"]) + 0.02


def test_a_genre_without_positives_gets_the_shared_weights_and_stays_finite(world):
    parts, labels = world
    labels = labels.copy()
    labels[:, 2] = 0
    fitted = fit_fusion(parts, labels)
    assert np.isfinite(fitted.bias).all() and fitted.bias[2] < fitted.bias[:2].min() - 2
    assert fitted.weights["words"][2] > 0


def test_a_joint_head_has_a_fusion_of_its_own_and_the_others_do_without(world):
    parts, labels = world
    has_text = np.arange(len(labels)) % 3 > 0
    joint = parts | {"joint": np.tanh(parts["picture"]) * parts["words"]}
    fusions, before = (fit_fusions(some, labels, has_text) for some in (joint, parts))
    assert set(fusions["joint"].weights) == set(joint)
    for name, one in before.items():
        np.testing.assert_allclose(fusions[name].bias, one.bias)
    scores, _ = fuse(fusions, joint, has_text)
    with_head = fusions["joint"].scores(joint)
    np.testing.assert_allclose(scores[has_text], with_head[has_text])
    alone = fusions["picture"].scores(joint)
    np.testing.assert_allclose(scores[~has_text], alone[~has_text])
    # Logits of a network that hands out no features, such as an exported one.
    np.testing.assert_allclose(fuse(fusions, parts, has_text)[0], fuse(before, parts, has_text)[0])


def test_fusions_exist_for_what_there_is(world):
    parts, labels = world
    has_text = np.arange(4000) % 2 == 0
    assert set(fit_fusions({"picture": parts["picture"]}, labels, np.zeros(4000))) == {"picture"}
    fusions = fit_fusions(parts, labels, has_text)
    assert {name: set(one.weights) for name, one in fusions.items()} == {
        "picture": {"picture"},
        "words": {"words"},
        "both": {"picture", "words"},
    }
    systems = ablations(fusions, parts, has_text, "both")
    assert set(systems) == {"both", "picture alone", "words alone"}
    for some, name in ((has_text, "both"), (~has_text, "picture")):
        np.testing.assert_allclose(systems["both"][some], fusions[name].scores(parts)[some])
    figures = {name: macro_average_precision(labels, scores) for name, scores in systems.items()}
    assert figures["both"] > figures["picture alone"] and figures["words alone"] > 0.5
    assert set(ablations(fusions, {"picture": parts["picture"]}, has_text, "all")) == {"all"}


def test_posters_without_words_get_the_picture_s_answer(world):
    parts, labels = world
    fusions = {
        "picture": fit_fusion({"picture": parts["picture"]}, labels),
        "both": fit_fusion(parts, labels),
    }
    has_text = np.arange(4000) % 2 == 0
    scores, effect = fuse(fusions, parts, has_text)
    alone = fusions["picture"].scores(parts)
    np.testing.assert_array_equal(scores[~has_text], alone[~has_text])
    np.testing.assert_allclose(scores, alone + effect)
    assert np.abs(effect[has_text]).mean() > 0.05 and not effect[~has_text].any()
    np.testing.assert_array_equal(fuse(fusions, {"picture": parts["picture"]}, has_text)[0], alone)


def test_a_card_gives_the_same_sum(world):
    parts, labels = world
    fitted = fit_fusion(parts, labels)
    again = from_card(json.loads(json.dumps(to_card(fitted))))
    np.testing.assert_allclose(again.logits(parts), fitted.logits(parts), atol=1e-4)


def test_a_handful_of_posters_does_not_make_scores_sure():
    labels = np.array([[1, 0], [0, 1]] * 3)
    logits = np.where(labels == 1, 3.0, -3.0)
    scores = fit_fusion({"picture": logits}, labels).scores({"picture": logits})
    assert 0.05 < scores.min() < 0.1 and 0.9 < scores.max() < 0.95


def test_marks_of_text_may_be_whole_numbers_and_must_not_all_be_zero(world):
    (picture, text), labels = world[0].values(), world[1]
    logits = {"picture": picture[:400], "sentence": text[:400]}
    has_text = np.arange(400) % 2
    fitted = [fit_fusions(logits, labels[:400], has_text.astype(kind)) for kind in (int, bool)]
    assert fitted[0]["both"].weights["picture"][0] == fitted[1]["both"].weights["picture"][0]
    with pytest.raises(
        ValueError, match="No validation poster with a genre has words.*READ_TEXT='no'"
    ):
        fit_fusions(logits, labels[:400], np.zeros(400, bool))
    with pytest.raises(ValueError, match="No validation poster with a genre has words"):
        fit_fusions(logits, labels[:400] * (1 - has_text)[:, None], has_text)
    with pytest.raises(ValueError, match="give tables of one shape"):
        fit_fusion({"picture": picture[:399]}, labels[:400])


def test_both_is_fitted_on_posters_with_text_and_words_on_all(world):
    parts, labels = ({k: v[:400] for k, v in world[0].items()}, world[1][:400])
    has_text = np.arange(400) % 2 == 0
    parts["words"] = np.where(has_text[:, None], parts["words"], 0)
    fitted = fit_fusions(parts | {"joint": parts["picture"] + 1}, labels, has_text)
    beside = {name: logits[has_text] for name, logits in parts.items()}
    both = fit_fusion(beside, labels[has_text])
    joint = fit_fusion(beside | {"joint": beside["picture"] + 1}, labels[has_text])
    words = fit_fusion({"words": parts["words"]}, labels)
    for name, expected in {"both": both, "joint": joint, "words": words}.items():
        np.testing.assert_allclose(fitted[name].bias, expected.bias)
