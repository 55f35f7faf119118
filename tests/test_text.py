import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from genre_utils.ocr import Line
from genre_utils.text import (
    NgramModel,
    Tfidf,
    char_ngrams,
    drop_lines,
    join_lines,
    segment_words,
    typical_words,
    word_ngrams,
)

CORNERS = ((0, 0), (1, 0), (1, 0.1), (0, 0.1))
TEXTS = ["a haunted house", "haunted again", "laughing out loud", "laughing all day", ""] * 4
LABELS = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]] * 4)


@pytest.fixture
def ngrams():
    return NgramModel.fit(TEXTS, LABELS)


def test_lines_become_one_text():
    assert (
        join_lines([Line("HEAT", 0.9, CORNERS), Line("and dust", 0.9, CORNERS)]) == "HEAT and dust"
    )
    assert join_lines([]) == ""


def test_the_highest_letters_come_first():
    def line(text: str, top: float, height: float) -> Line:
        bottom = top + height
        return Line(text, 0.9, ((0.1, top), (0.9, top), (0.9, bottom), (0.1, bottom)))

    small, next_small = line("one summer", 0.1, 0.03), line("one beach", 0.2, 0.03)
    assert join_lines([small, next_small, line("HEAT", 0.7, 0.12)]) == "HEAT one summer one beach"
    steep = Line("GO", 0.9, ((0.1, 0.5), (0.9, 0.3), (0.9, 0.35), (0.1, 0.55)))
    assert join_lines([steep, line("HEAT", 0.7, 0.12)]) == "HEAT GO"
    wedge = Line("GO", 0.9, ((0.1, 0.5), (0.9, 0.5), (0.9, 0.7), (0.1, 0.5)))
    assert join_lines([small, wedge]) == "GO one summer"


def test_a_fifth_of_the_lines_is_dropped_by_their_key_and_never_all():
    lines = [Line(str(i), 0.9, CORNERS) for i in range(1000)]
    kept = drop_lines(lines, 1)
    assert len(kept) == pytest.approx(800, abs=40)
    assert kept == [line for line in lines if line in kept]
    assert kept == drop_lines(lines, 1) != drop_lines(lines, 2)
    assert all(drop_lines(lines[:1], key) == lines[:1] for key in range(30))


def test_words_decide_and_slips_of_the_reader_are_forgiven(ngrams):
    logits = ngrams.logits(["a haunted place", "haunfed", "laughing"])
    assert (logits[:2, 0] > logits[:2, 1]).all() and logits[2, 1] > logits[2, 0]
    assert logits[0, 0] == pytest.approx(1.73, abs=0.1)  # as sure as the penalty lets it be


@pytest.mark.parametrize(
    "analyzer, options",
    [
        (char_ngrams, {"analyzer": "char_wb", "ngram_range": (2, 5)}),
        (word_ngrams, {"analyzer": "word", "ngram_range": (1, 2)}),
    ],
)
def test_n_grams_are_weighed_as_scikit_learn_weighs_them(analyzer, options):
    texts = [
        "Fear the  DEAD, fear\tthe living",
        "a I x",
        "L'été 1998: été\n七人の侍",
        "",
        "dead dead I",
    ]
    theirs = TfidfVectorizer(**options, sublinear_tf=True, min_df=2, dtype=np.float32)
    theirs.fit(texts[:3] * 2)
    ours, table = Tfidf.fit_transform(analyzer, texts[:3] * 2)
    assert table.shape == (6, len(ours.idf))
    expected = theirs.transform(texts[:3] * 2).toarray()
    np.testing.assert_allclose(table.toarray(), expected, atol=1e-6)
    assert list(ours.column) == theirs.get_feature_names_out().tolist()
    for text, row in zip(texts, theirs.transform(texts).toarray(), strict=True):
        columns, weights = ours.weigh(text)
        dense = np.zeros(len(row))
        dense[columns] = weights
        np.testing.assert_allclose(dense, row, atol=1e-6)


def test_a_prediction_does_not_wait_for_scikit_learn(ngrams, tmp_path):
    ngrams.save(tmp_path / "ngrams.npz")
    script = (
        "import sys; from pathlib import Path; from genre_utils.text import NgramModel; "
        "NgramModel.load(Path(sys.argv[1])).logits(['haunted']); "
        "print([name for name in ('sklearn', 'scipy', 'pandas') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, tmp_path / "ngrams.npz"]
    assert subprocess.check_output(command, text=True).strip() == "[]"


def test_a_text_without_known_words_gives_the_bias(ngrams):
    np.testing.assert_allclose(ngrams.logits(["", "zzz"]), [ngrams.bias] * 2, atol=1e-6)


def test_a_genre_that_is_too_rare_gets_its_frequency():
    labels = LABELS.copy()
    labels[:, 1] = 0
    labels[2, 1] = 1
    logits = NgramModel.fit(TEXTS, labels).logits(["laughing out loud", "haunted"])
    assert logits[0, 1] == pytest.approx(logits[1, 1])
    assert logits[0, 1] == pytest.approx(np.log(1.5 / 19.5))
    labels[[7, 12], 1] = 1
    logits = NgramModel.fit(TEXTS, labels).logits(["laughing out loud", "haunted"])
    assert logits[0, 1] > logits[1, 1], "three posters are enough"
    labels[7, 1], labels[:, 0] = 0, 1
    everywhere = NgramModel.fit(TEXTS, labels).logits(["laughing out loud"])
    assert everywhere[0, 0] == pytest.approx(np.log(20.5 / 0.5))
    labels[[0, 2, 4], 0] = 0
    logits = NgramModel.fit(TEXTS, labels).logits(["laughing out loud", "haunted"])
    assert logits[0, 0] != pytest.approx(logits[1, 0]), "three posters without it are, too"
    half = np.repeat([[1, 1], [0, 0]], [4, 16], axis=0)  # labels of the last 16 are not known
    logits = NgramModel.fit(TEXTS, labels, half).logits(["laughing out loud"])
    assert logits[0, 1] == pytest.approx(np.log(1.5 / 3.5))


def test_a_saved_model_says_the_same_and_holds_no_pickle(ngrams, tmp_path):
    ngrams.save(tmp_path / "ngrams.npz")
    texts = ["haunted loud", "day of laughing", ""]
    np.testing.assert_allclose(
        NgramModel.load(tmp_path / "ngrams.npz").logits(texts), ngrams.logits(texts), atol=1e-5
    )
    with np.load(tmp_path / "ngrams.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_code_in_a_saved_model_is_not_run(ngrams, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    ngrams.save(tmp_path / "ngrams.npz")
    arrays = dict(np.load(tmp_path / "ngrams.npz"))
    np.savez(tmp_path / "evil.npz", **arrays | {"bias": np.array([Evil()])})
    with pytest.raises(ValueError, match="allow_pickle"):
        NgramModel.load(tmp_path / "evil.npz")
    assert not (tmp_path / "ran").exists()


def test_tables_that_unpack_to_too_much_are_refused(ngrams, tmp_path, monkeypatch):
    ngrams.save(tmp_path / "ngrams.npz")
    monkeypatch.setattr("genre_utils.text.LARGEST", 1000)
    with pytest.raises(ValueError, match="would unpack to more than any of this project"):
        NgramModel.load(tmp_path / "ngrams.npz")
    monkeypatch.undo()
    content = (tmp_path / "ngrams.npz").read_bytes()
    size = content.rindex(b"PK\1\2") + 24  # of the last table, unpacked, in the list of the tables
    claimed = content[:size] + (600_000_000).to_bytes(4, "little") + content[size + 4 :]
    (tmp_path / "ngrams.npz").write_bytes(claimed)
    with pytest.raises(ValueError, match="would unpack to more than any of this project"):
        NgramModel.load(tmp_path / "ngrams.npz")


def test_posters_without_any_words_can_be_fitted():
    logits = NgramModel.fit([""] * 20, LABELS).logits(["", "haunted"])
    assert np.isfinite(logits).all()


def test_typical_words_are_the_genre_s_own():
    texts = ["the haunted house", "the laughing man"] * 10
    found = typical_words(texts, np.array([[1, 0], [0, 1]] * 10), ["Horror", "Comedy"])
    assert "haunted" in found["Horror"] and "laughing" in found["Comedy"]
    assert "the" not in found["Horror"] + found["Comedy"]
    drama = ["haunted werewolf"] * 4 + ["haunted vampire ox"] * 5 + ["the haunted"] * 11
    comedy = ["the laughing man"] * 17 + ["laughing"] * 2 + ["laughing haunted"]
    labels = np.repeat([[1, 0, 0], [0, 1, 0]], 20, axis=0)
    found = typical_words(drama + comedy, labels, ["Horror", "Comedy", "War"])
    assert found["Horror"] == ["haunted", "vampire"]  # on five posters, of three letters
    assert found["Comedy"] == ["laughing", "man", "the"] and found["War"] == []
    nine = ["alpha beta gamma delta epsilon zeta theta kappa sigma", "the laughing man"] * 5
    few = typical_words(nine, np.eye(2, dtype=int)[np.arange(10) % 2], ["Drama", "Comedy"])
    assert len(few["Drama"]) == 8
    often = ["raven tomb"] * 20 + ["tomb"] * 180 + ["tomb smile"] * 80 + ["smile"] * 120
    found = typical_words(often, np.repeat(np.eye(2, dtype=int), 200, axis=0), ["Horror", "Comedy"])
    assert found["Horror"] == ["tomb", "raven"], "the surest first, not the one of the highest odds"
    absent = ["alpha beta"] * 5 + ["beta"] * 6 + ["alpha"] * 9
    assert typical_words(absent, np.zeros((20, 1), int), ["War"]) == {"War": []}
    assert typical_words(["", ""], np.eye(2, dtype=int), ["A", "B"]) == {"A": [], "B": []}


@pytest.mark.parametrize(
    "read, restored",
    [
        ("THELAST EXORCISM", "THE LAST EXORCISM"),
        ("JohnHawkes in THESESSIONS", "John Hawkes in THE SESSIONS"),
        ("ONCEATIME sometimesidream", "ONCE A TIME sometimes i dream"),
        ("KIESLOWSKI", "KIESLOWSKI"),  # would fall into scraps
        ("CUMBERBATCH INTHE", "CUMBERBATCH INTHE"),  # into one, and into words of two letters
        ("THELASTÉTÉ", "THELASTÉTÉ"),  # a word of other letters, too
        ("I'M OFVÉRONIQUE 七人の侍 ТАРКОВСКИЙ 007!", "I'M OFVÉRONIQUE 七人の侍 ТАРКОВСКИЙ 007!"),
    ],
)
def test_lost_spaces_come_back_and_nothing_else_changes(read, restored):
    assert segment_words(read) == restored


def test_a_label_of_no_weight_teaches_nothing():
    texts = ["war at sea", "war on land", "love at sea", "love on land"] * 5
    truth = np.array([[1], [1], [0], [0]] * 5)
    wrong = np.concatenate([truth, 1 - truth])
    weights = np.concatenate([np.ones_like(truth), np.zeros_like(truth)])
    alone = NgramModel.fit(texts, truth).logits(["war", "love"])
    both = NgramModel.fit(texts * 2, wrong, weights).logits(["war", "love"])
    confused = NgramModel.fit(texts * 2, wrong).logits(["war", "love"])
    assert both[0, 0] - both[1, 0] > 0.8 * (alone[0, 0] - alone[1, 0]) > 0
    assert abs(confused[0, 0] - confused[1, 0]) < 0.01
    little = NgramModel.fit(texts * 2, wrong, np.maximum(weights, 0.1)).logits(["war", "love"])
    assert little[0, 0] - little[1, 0] > 0.3 * (alone[0, 0] - alone[1, 0])
