"""What do the released model's parts give whoever trains on posters of their own?

    python benchmarks/start.py

A demonstration, by which nothing is chosen. 500 of the public test posters, which the released
model has never seen, play somebody's own data, under other names; the other 226 are scored. The
train notebook runs twice on the 500, as a CPU trains (heads alone), with START='imagenet' and with
START='posters'. Words come from the readings beside the data. Writes
`benchmarks/results/start.json`.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import record

from genre_utils import evaluation, ocr
from genre_utils.dataset import load_dataset
from genre_utils.machine import choose_backend
from genre_utils.predictor import Predictor

OWN, SEED = 500, 0
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Make the two folders, train twice, and score."""
    measure.options_parser(__doc__).parse_args()
    choose_backend()
    data = measure.real_posters(0)
    test = data.part("test")
    order = np.random.default_rng(SEED).permutation(len(test))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = ocr.WordCache(folder / "words.jsonl")
        paths = dict(zip(test["id"], test["path"], strict=True))
        readings = Path(data.source.csv).with_name("poster_text.jsonl.gz")
        ocr.import_readings(readings, paths, words)
        for name, rows in (("own", order[:OWN]), ("rest", order[OWN:])):
            write_folder(folder / name, test.iloc[rows], data.genres)
        results = {start: score(folder, start, words) for start in ("imagenet", "posters")}
    paired = evaluation.paired_bootstrap(
        results["posters"]["truth"], results["posters"]["scores"], results["imagenet"]["scores"]
    )
    figures = {
        start: evaluation.macro_average_precision(result["truth"], result["scores"])
        for start, result in results.items()
    }
    what = f"{OWN} posters as one's own data, macro mAP on {len(order) - OWN} others, START="
    command = "python benchmarks/start.py"
    rows = [
        record.Row(what + repr(start), "—", f"{figure:.3f}", command)
        for start, figure in figures.items()
    ]
    record.save("start", {"macro_map": figures, "posters against imagenet": paired}, rows)


def write_folder(folder: Path, posters, genres: tuple[str, ...]) -> None:
    """Write posters under names of their own, with their table."""
    (folder / "Images").mkdir(parents=True)
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("Id", "Genre"))
        for number, (_, row) in enumerate(posters.iterrows()):
            name = f"own{folder.name}{number:04d}"
            shutil.copyfile(row["path"], folder / "Images" / f"{name}.jpg")
            table.writerow((name, "|".join(genre for genre in genres if row[genre])))


def score(folder: Path, start: str, words: ocr.WordCache) -> dict[str, np.ndarray]:
    """Train on `own`, and return the labels and the scores of `rest`, `(n, genres)` each."""
    given = {"DATA": folder / "own", "START": start, "EPOCHS": 0, "WORD_EPOCHS": 0}
    given |= {"READ_TEXT": "yes", "WORDS": words.file, "OUTPUT_DIR": folder / start}
    command = [sys.executable, "-m", "papermill", "notebooks/train.ipynb"]
    command += [folder / f"{start}.ipynb", "--kernel", "python3", "--no-progress-bar"]
    for name, value in given.items():
        command += ["-p", name, str(value)]
    subprocess.run(command, cwd=ROOT, check=True)
    predictor = Predictor.load(folder / start, cache=words)
    rest = load_dataset(folder / "rest")
    genres = [genre for genre in predictor.genres if genre in rest.genres]
    truth = rest.posters[genres].to_numpy(np.int8)
    table = predictor.predict_all(rest.posters["path"].tolist())
    return {"truth": truth, "scores": table[genres].to_numpy(float)}


if __name__ == "__main__":
    main()
