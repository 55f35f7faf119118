"""Score models that lack something beside the released one, and posters shrunk to small prints.

    python tools/release/ablations.py --posters DIR --name NAME --without "a joint head=FOLDER" ...

FOLDER holds a model: `model` of another OUT whose stages were run without `--films`, say, or an
older release after `export --convert`. All models are scored on the public test posters with the
same readings of their words; nothing is chosen by what comes out. Writes
`benchmarks/results/NAME.json`. `benchmarks/readme.py` makes tables of `ablations-joint` and of
`ablations`, which belongs to the release of 794e417.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from model import TestPosters, read_test, score
from PIL import Image

from genre_utils import evaluation, images
from genre_utils.genres import IMDB_GENRES
from genre_utils.predictor import Predictor
from genre_utils.saved_model import RELEASED

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from record import save  # noqa: E402 (its folder is no package)

SMALL = 182  # pixels across, as the further posters have


def shrunk_scores(test: TestPosters) -> np.ndarray:
    """Return the released model's scores of the posters as small JPEGs, their words read anew."""
    with tempfile.TemporaryDirectory() as folder:
        for file in test.files:
            poster = Image.fromarray(images.read_poster(file))
            height = round(SMALL * poster.height / poster.width)
            small = poster.resize((SMALL, height), Image.Resampling.LANCZOS)
            small.save(Path(folder, file.name), quality=85)
        table = Predictor.load().predict_all(folder).set_index("poster")
    return table.loc[[file.name for file in test.files], list(IMDB_GENRES)].to_numpy(float)


def main() -> None:
    """Score, compare in pairs, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--posters", type=Path, required=True)
    parser.add_argument("--without", nargs="*", default=[], metavar="WHAT=FOLDER")
    parser.add_argument("--name", required=True, help="the file of results, without its ending")
    options = parser.parse_args()
    test = read_test(options.posters)
    folders = {"released model": RELEASED}
    for one in options.without:
        what, _, folder = one.rpartition("=")
        folders[f"without {what}"] = Path(folder)
    scores = {name: score(folder, test)[0]["both"] for name, folder in folders.items()}
    scores[f"released model, posters shrunk to {SMALL} pixels"] = shrunk_scores(test)
    whole = scores["released model"]
    results = {
        name: evaluation.evaluate(test.labels, one, IMDB_GENRES, None, True)
        for name, one in scores.items()
    }
    pairs = {
        name: evaluation.paired_bootstrap(test.labels, whole, one)
        for name, one in scores.items()
        if one is not whole
    }
    save(options.name, {"results": results, "pairs": pairs})


if __name__ == "__main__":
    main()
