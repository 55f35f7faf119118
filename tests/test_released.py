"""The released model against the public test set, where the real posters are at hand."""

import json
import os

import pytest

from genre_utils.__main__ import main
from genre_utils.genres import IMDB_GENRES
from genre_utils.model_folder import RELEASED, load_model

DATA = os.environ.get("POSTER_GENRES_DATA")


def test_released_model_is_whole_and_knows_the_public_genres():
    model = load_model()
    assert model.genres == IMDB_GENRES
    assert not model.card["training"]["sample"]


@pytest.mark.skipif(not DATA, reason="POSTER_GENRES_DATA is not set: no real posters here")
def test_released_model_finds_its_committed_figures_again(tmp_path):
    file = tmp_path / "metrics.json"
    assert main(["evaluate", "--data", DATA, "--json", str(file)]) == 0
    written = json.loads(file.read_text("utf-8"))
    result = written["results"]["model"]
    committed = json.loads((RELEASED / "metrics.json").read_text("utf-8"))["results"]
    name = next(name for name in committed if name.endswith(", test"))
    assert result["posters"] == 726
    assert not written["left_out"]["trained_on"]
    for key in ("macro_map", "micro_map", "macro_roc_auc", "top3_recall", "element_accuracy"):
        assert result[key] == pytest.approx(committed[name][key], abs=0.005), key
    zeros = written["results"]["all zeros"]["element_accuracy"]
    assert zeros == pytest.approx(0.9068, abs=5e-5)
