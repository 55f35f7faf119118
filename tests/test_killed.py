"""A training killed as the system kills: at once, with no chance to tidy up."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import ROOT

# What stands in the output folder at the moment of each kill, in the order a training writes it.
MOMENTS = {
    "decoding": "cache/.pixels-*.partial.npy",
    "keeping the network before it is tuned": "checkpoints/.best.partial.keras",
    "first epoch": "history.csv",
    "second epoch": "checkpoints/epoch-001.keras",
    "writing a checkpoint": "checkpoints/.epoch-002.partial.keras",
    "saving the model": ".saving/model.keras",
    "between model and card": "model.keras",
    "writing the report": "figures/genre_precision.png",
}


def start_training(folder: Path) -> psutil.Popen:
    """Start the train notebook with few, small drawn posters, as a user would."""
    parameters = {"DATA": "sample", "MODEL": "efficientnet_lite0", "IMG_SIZE": 64, "LIMIT": 60}
    parameters |= {"EPOCHS": 2, "OUTPUT_DIR": folder, "READ_TEXT": "no", "SECOND_MODEL": ""}
    command = [sys.executable, "-m", "papermill", "notebooks/train.ipynb", f"{folder}.ipynb"]
    command += ["--kernel", "python3"]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    folder.parent.mkdir(exist_ok=True)
    with open(f"{folder}.log", "w") as log:
        return psutil.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)


def finish_training(folder: Path) -> tuple[dict, pd.DataFrame]:
    """Train to the end; gives the metrics and the history."""
    assert start_training(folder).wait() == 0, Path(f"{folder}.log").read_text()
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    return metrics, pd.read_csv(folder / "history.csv").drop(columns="seconds")


def kill_when(training: psutil.Popen, folder: Path, pattern: str) -> None:
    """Kill a training, papermill and the notebook's kernel, as soon as a file appears."""
    while not any(folder.glob(pattern)):
        assert training.poll() is None, f"{pattern} was not seen"
        time.sleep(0.001)
    # The kernel first: papermill would see to an orderly end of it.
    for process in [*training.children(recursive=True), training]:
        process.kill()
    training.wait()


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_as_one_left_in_peace(tmp_path):
    whole, history = finish_training(tmp_path / "whole")
    for moment, pattern in MOMENTS.items():
        for old in (tmp_path / "killed").glob(pattern):
            old.unlink()
        kill_when(start_training(tmp_path / "killed"), tmp_path / "killed", pattern)
        assert not (tmp_path / "killed" / "metrics.json").exists(), moment
    resumed, resumed_history = finish_training(tmp_path / "killed")
    assert resumed == whole
    pd.testing.assert_frame_equal(resumed_history, history)
    assert not list((tmp_path / "killed").rglob(".*")), "a temporary file was left"
