"""The released model against the public test set, where the real posters are at hand."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from genre_utils.__main__ import main
from genre_utils.genres import IMDB_GENRES
from genre_utils.images import resize_poster
from genre_utils.ocr import Line, Reader, WordCache, import_readings
from genre_utils.predictor import Predictor
from genre_utils.saved_model import RELEASED, load_model
from genre_utils.sources.sample import draw_poster

DATA = os.environ.get("POSTER_GENRES_DATA")
OFF_LIMITS = Path(DATA or "nowhere").parent / "more_posters" / "off_limits.txt"
READING = Path(DATA or "nowhere") / "poster_text.jsonl.gz"
needs_posters = pytest.mark.skipif(
    not DATA, reason="POSTER_GENRES_DATA is not set: no real posters here"
)


def test_released_model_is_whole_and_knows_the_public_genres():
    model = load_model()
    assert model.genres == IMDB_GENRES
    assert model.words is not None
    assert not model.card["training"]["sample"]


@pytest.mark.skipif(
    not OFF_LIMITS.exists(), reason="the list of posters that nothing may learn from is not here"
)
def test_released_model_has_learned_from_nothing_that_is_off_limits():
    model = load_model(has_text=False, runtime=True)
    names = ("imdb_test_ids", "imdb_validation_ids")
    splits = [ROOT / "genre_utils" / "splits" / f"{name}.txt" for name in names]
    for file in (OFF_LIMITS, *splits):
        ids = file.read_text("utf-8").split()
        assert len(ids) > 500 and model.was_trained_on(ids) == [], file
    for known in ("training_ids", "training_pictures"):
        assert len(model.card[known]) > 29_000


def test_released_model_s_files_fit_a_repository():
    sizes = {file.name: file.stat().st_size for file in RELEASED.iterdir()}
    assert sum(sizes.values()) < 50e6, sizes


def test_released_run_time_files_give_the_scores_of_keras():
    genres = [["Horror"], ["Western", "Music"], ["Sci-Fi"], ["Romance"]]
    drawn = [draw_poster(some, np.random.default_rng(i)) for i, some in enumerate(genres)]
    words = ["a film by nobody", "let us prey", "THE LAST EXORCISM", ""]
    line = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.2), (0.1, 0.2))
    lines = [[Line(text, 0.9, line)] if text else [] for text in words]
    scores, without_head = [], []
    for runtime in (True, False):
        predictor = Predictor(load_model(runtime=runtime))
        size = predictor.model.image_size
        pixels = np.stack([resize_poster(np.asarray(poster), size) for poster in drawn])
        outputs = predictor.picture_outputs(pixels)
        scores.append(predictor.combine(outputs, lines)[0])
        without_head.append(predictor.combine(outputs[:, : len(IMDB_GENRES)], lines)[0])
    np.testing.assert_allclose(*without_head, atol=1e-2)
    difference = np.abs(scores[0] - scores[1])
    # Keras leaves in floats the feature maps that the joint head knows rounded.
    assert difference.mean() < 0.002 and difference.max() < 0.03


@pytest.fixture(scope="module", autouse=True)
def each_picture_once():
    """Have a network that was asked for the same pixels before answer as it did then."""
    answers: dict[tuple[bytes, type], np.ndarray] = {}
    compute = Predictor.picture_outputs

    def remember(self, pixels):
        asked = hashlib.sha256(pixels.tobytes()).digest(), type(self.model.network)
        if asked not in answers:
            answers[asked] = compute(self, pixels)
        return answers[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "picture_outputs", remember)
        yield


def evaluate_again(tmp_path, *arguments: str) -> dict:
    """Score the public test set by the command line."""
    file = tmp_path / "metrics.json"
    assert main(["evaluate", "--data", DATA, "--json", str(file), *arguments]) == 0
    written = json.loads(file.read_text("utf-8"))
    assert written["results"]["model"]["posters"] == 726
    assert not written["left_out"]["trained_on"]
    zeros = written["results"]["all zeros"]["element_accuracy"]
    assert zeros == pytest.approx(0.9068, abs=5e-5)
    return written["results"]["model"]


def check_committed(result: dict, system: str) -> None:
    """Compare figures with those that the training wrote; `system` is the end of its name."""
    results = json.loads((RELEASED / "metrics.json").read_text("utf-8"))["results"]
    (committed,) = (figures for name, figures in results.items() if name.endswith(system))
    for key in ("macro_map", "micro_map", "macro_roc_auc", "top3_recall", "element_accuracy"):
        assert result[key] == pytest.approx(committed[key], abs=0.005), key


@needs_posters
@pytest.mark.skipif(not READING.exists(), reason="the data folder holds no reading of the words")
def test_released_model_finds_its_committed_figures_again(tmp_path, capsys):
    ids = (ROOT / "genre_utils" / "splits" / "imdb_test_ids.txt").read_text("utf-8").split()
    paths = {name: str(Path(DATA) / "Images" / f"{name}.jpg") for name in ids}
    words = tmp_path / "words.jsonl"
    assert import_readings(READING, paths, WordCache(words)) > 700
    result = evaluate_again(tmp_path, "--words", str(words))
    check_committed(result, " and words, test")


@needs_posters
def test_sixty_posters_read_anew_get_the_committed_scores():
    file = ROOT / "tests" / "references" / "released_scores.json"
    committed = json.loads(file.read_text("utf-8"))
    predictor = Predictor(load_model(), Reader())
    paths = [Path(DATA) / "Images" / f"{name}.jpg" for name in committed]
    found = list(predictor.stream(paths))
    assert len(found) == 60 and sum(bool(one.lines) for one in found) > 50
    scores = np.array([one.scores for one in found])
    # Another version of the reader may read a word differently here and there.
    difference = np.abs(scores - np.array(list(committed.values())))
    assert difference.mean() < 0.01 and np.median(difference) < 1e-3


@needs_posters
def test_the_picture_alone_finds_its_committed_figures_again(tmp_path):
    check_committed(evaluate_again(tmp_path, "--no-text"), "picture alone, test")
