"""A training killed as the system kills: at once, with no chance to tidy up."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import ROOT

from genre_utils.runs import LOCK_FILE

# What stands in the output folder at each kill, in the order in which a training writes it; a
# number is that of the posters whose words have been read.
MOMENTS = {
    # Each start reads some more, to tell how long all would take.
    "reading the first words": 1,
    "reading more words": 8,
    "reading still more words": 15,
    "decoding": "cache/.pixels-*.partial.npy",
    "after the frozen features": "kept/picture_features.npz",
    "after the head": "picture/head.csv",
    "after the second network's head": "second/head.csv",
    "keeping the network before it is tuned": "picture/checkpoints/.best.partial.keras",
    "first epoch": "picture/history.csv",
    "second epoch": "picture/checkpoints/epoch-001.keras",
    "writing a checkpoint": "picture/checkpoints/.epoch-002.partial.keras",
    "tuning the second network": "second/checkpoints/epoch-001.keras",
    "after the words' head": "words/head.csv",
    "keeping the words' network before it is tuned": "words/checkpoints/.best.partial.keras",
    "first epoch on words": "words/history.csv",
    "second epoch on words": "words/checkpoints/epoch-001.keras",
    "writing a checkpoint of words": "words/checkpoints/.epoch-002.partial.keras",
    "saving the picture's network": ".saving/picture.safetensors",
    "saving the words' network": ".saving/text.safetensors",
    "between model and card": "picture.safetensors",
    "writing the report": "figures/genre_precision.png",
}

FINE_TUNED = ("picture", "second", "words")  # the trainings of a run that have checkpoints


def start_training(folder: Path) -> psutil.Popen:
    """Start the train notebook with few, small drawn posters, as a user would."""
    parameters = {"DATA": "sample", "MODEL": "efficientnet_lite0", "IMG_SIZE": 64, "LIMIT": 60}
    parameters |= {"EPOCHS": 2, "WORD_EPOCHS": 2, "READ_TEXT": "yes", "WORDS": words_of(folder)}
    parameters |= {"SECOND_MODEL": "efficientnet_lite0", "OUTPUT_DIR": folder}
    command = [sys.executable, "-m", "papermill", "notebooks/train.ipynb", f"{folder}.ipynb"]
    command += ["--kernel", "python3"]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    folder.parent.mkdir(exist_ok=True)
    with open(f"{folder}.log", "w") as log:
        return psutil.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)


def words_of(folder: Path) -> Path:
    return folder.with_suffix(".jsonl")


def has_come(moment: str | int, folder: Path) -> bool:
    if isinstance(moment, str):
        return any(folder.glob(moment))
    words = words_of(folder)
    return words.exists() and words.read_bytes().count(b"\n") >= moment


def finish_training(folder: Path) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """Train to the end; gives the metrics and the histories of the picture's and words' network."""
    assert start_training(folder).wait() == 0, Path(f"{folder}.log").read_text()
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    histories = (folder / part / "history.csv" for part in ("picture", "words"))
    return metrics, *(pd.read_csv(file).drop(columns="seconds") for file in histories)


def epochs_of(folder: Path, kept: bool = False) -> set[tuple[str, int, float]]:
    """Return training, number and seconds of each epoch noted; `kept`: with a whole checkpoint.

    Done again, an epoch would have taken another time.
    """
    noted = set()
    for part in FINE_TUNED:
        file = folder / part / "history.csv"
        history = pd.read_csv(file).query("epoch > 0") if file.exists() else pd.DataFrame()
        whole = [int(file.stem[-3:]) for file in (folder / part).glob("checkpoints/epoch-*.keras")]
        last = max(whole, default=0)
        rows = zip(history.get("epoch", ()), history.get("seconds", ()), strict=True)
        noted |= {(part, epoch, seconds) for epoch, seconds in rows if epoch <= last or not kept}
    return noted


def kill_when(training: psutil.Popen, folder: Path, moment: str | int, delay: float) -> None:
    """Kill a training, papermill and the notebook's kernel, a little after a moment has come."""
    while not has_come(moment, folder):
        assert training.poll() is None, f"{moment} was not seen"
        time.sleep(0.001)
    time.sleep(delay)
    # The kernel first: papermill would see to an orderly end of it.
    for process in [*training.children(recursive=True), training]:
        process.kill()
    training.wait()


@pytest.mark.slow
def test_a_training_killed_at_twenty_moments_ends_as_one_left_in_peace(tmp_path):
    whole, history, words_history = finish_training(tmp_path / "whole")
    killed = tmp_path / "killed"
    rng = random.Random(0)
    for name, moment in MOMENTS.items():
        if isinstance(moment, str):
            for old in killed.glob(moment):
                old.unlink()
        kept = epochs_of(killed, kept=True)
        # What is being written is gone a moment later; elsewhere any time will do.
        passing = isinstance(moment, str) and ("partial" in moment or ".saving" in moment)
        kill_when(start_training(killed), killed, moment, 0 if passing else rng.uniform(0, 0.2))
        assert not (killed / "metrics.json").exists(), name
        assert kept <= epochs_of(killed), f"{name}: an epoch that was whole is done again"
    # An epoch killed in its checkpoint is not done again where validation has long been falling.
    noted = epochs_of(killed)
    resumed, resumed_history, resumed_words = finish_training(killed)
    assert noted == epochs_of(killed) and len(noted) == 6
    assert resumed == whole
    pd.testing.assert_frame_equal(resumed_history, history)
    pd.testing.assert_frame_equal(resumed_words, words_history)
    assert not list(killed.rglob(".*")), "a temporary file was left"
    assert not (killed / LOCK_FILE).exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(tmp_path):
    first, again = (finish_training(tmp_path / name)[0] for name in ("first", "again"))
    figures, figures_again = (dict(numbers(metrics)) for metrics in (first, again))
    assert len(figures) > 100 and figures == pytest.approx(figures_again, abs=1e-6)


def numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in a JSON document with the way to it."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in inner:
            yield from numbers(part, f"{place}/{key}")
    elif isinstance(value, int | float):
        yield place, value
