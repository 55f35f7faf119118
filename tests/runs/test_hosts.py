"""Several hosts, played by processes on this machine that meet on the loopback address."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from genre_utils import runs
from genre_utils.machine import devices
from genre_utils.runs import hosts

errors = pytest.importorskip("jax.errors")

VARIABLES = ("KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID")


def start(folder: Path, epochs: int, batch: int, **variables: str) -> subprocess.Popen:
    """Start one host's training on JAX; what it says goes into a file beside the folder."""
    number = variables.get(VARIABLES[1], "0")
    # One thread a process: two processes share few cores.
    settings = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, ROOT / "tests" / "train_small.py", folder, str(epochs), str(batch)]
    with open(f"{folder}-{number}.log", "w") as log:
        environ = {**os.environ, **settings}
        return subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)


def start_two(folder: Path, epochs: int) -> list[subprocess.Popen]:
    """Start two hosts that train together, each with half of every batch of eight."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    common = {devices.HOSTS: address, VARIABLES[0]: "2"}
    return [start(folder, epochs, 4, **common, **{VARIABLES[1]: str(k)}) for k in range(2)]


def printed(folder: Path, number: int = 0) -> str:
    return Path(f"{folder}-{number}.log").read_text("utf-8")


def finish(processes: list[subprocess.Popen], folder: Path) -> np.ndarray:
    """Wait for all hosts; gives the first one's losses."""
    for number, process in enumerate(processes):
        assert process.wait(900) == 0, printed(folder, number)
    return pd.read_csv(folder / "history.csv")["loss"].to_numpy()[1:]


@pytest.mark.slow
def test_two_hosts_train_as_one_does(tmp_path):
    two = finish(start_two(tmp_path / "two", 3), tmp_path / "two")
    one = finish([start(tmp_path / "one", 3, 8)], tmp_path / "one")
    assert len(one) == 3 and one[-1] < one[0]
    np.testing.assert_allclose(two, one, atol=1e-3)
    second = tmp_path / "two" / "host-1"
    np.testing.assert_allclose(pd.read_csv(second / "history.csv")["loss"][1:], two, atol=1e-6)
    weights = [
        keras.saving.load_model(folder / "checkpoints" / "epoch-003.keras").get_weights()
        for folder in (tmp_path / "two", second)
    ]
    for first, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_is_killed_ends_the_other_with_a_sentence(tmp_path, victim):
    folder = tmp_path / "run"
    started = start_two(folder, 40)
    while not (folder / "checkpoints" / "epoch-002.keras").exists():
        assert all(host.poll() is None for host in started), printed(folder, 0) + printed(folder, 1)
        time.sleep(0.1)
    started[victim].send_signal(signal.SIGKILL)
    started[1 - victim].wait(180)
    assert "Start the same command on all hosts" in printed(folder, 1 - victim)
    done = max(int(file.stem[-3:]) for file in (folder / "checkpoints").glob("epoch-*.keras"))
    finish(start_two(folder, done + 1), folder)
    assert "going on after 0" not in printed(folder)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == list(range(done + 2))


@pytest.mark.parametrize("kind", [ValueError, errors.JaxRuntimeError])
def test_what_jax_says_of_a_lost_host_becomes_a_sentence(kind):
    lost = "UNKNOWN: Gloo AllGather failed: Connection reset by peer"
    with pytest.raises(ValueError, match="Start the same"), hosts._ends_in_a_sentence():
        raise kind(lost)
    for own in ("RESOURCE_EXHAUSTED: Out of memory", "BATCH_SIZE is 0"):
        with pytest.raises(kind, match=own), hosts._ends_in_a_sentence():
            raise kind(own)


def test_hosts_that_disagree_are_named_instead_of_waiting_forever(tmp_path, monkeypatch):
    answers = {"other": 0}
    monkeypatch.setattr(hosts, "gather", lambda value: [value, answers["other"]])
    with pytest.raises(ValueError, match="different parameters or posters"):
        runs.open_run(tmp_path, {"seed": 0})
    monkeypatch.setattr(hosts, "gather", lambda value: [value, int(value > 1) * value])
    runs.open_run(tmp_path, {"seed": 0})
    for name, content in (("settings", '{"seed": 0}'), ("metrics", "{}")):
        (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(ValueError, match="finished on host 0"):
        runs.open_run(tmp_path, {"seed": 0})


def test_hosts_that_could_read_other_pictures_are_named(tmp_path, monkeypatch):
    run = runs.open_run(tmp_path / "run", {"seed": 0})
    (tmp_path / "a.jpg").write_bytes(b"picture")
    path = str(tmp_path / "a.jpg")
    monkeypatch.setattr(hosts, "gather", lambda value: [value, 0])
    with pytest.raises(ValueError, match="different parameters or posters"):
        runs.settle_pictures(run, [path], {path: "damaged"})


def test_each_host_but_the_first_has_a_folder_of_its_own(monkeypatch):
    found = []
    for number in range(2):
        monkeypatch.setattr(hosts, "processes", lambda number=number: (number, 2))
        found.append(runs.own_folder("outputs/model").as_posix())
    assert found == ["outputs/model", "outputs/model/host-1"]


def test_hosts_go_on_from_the_last_epoch_that_all_have(tmp_path, monkeypatch):
    run = runs.Run(tmp_path, {"seed": 0})
    run.begin()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    for epoch in (3, 4):
        model.set_weights([np.full((2, 1), epoch), np.zeros(1)])
        model.save(run.folder / "checkpoints" / f"epoch-{epoch:03d}.keras")
    pd.DataFrame({"epoch": range(5), "val_macro_map": 0.5}).to_csv(run.history_file, index=False)
    monkeypatch.setattr(hosts, "processes", lambda: (0, 2))
    monkeypatch.setattr(hosts, "gather", lambda value: [value, 3])
    assert run.resume(model) == 3 and model.get_weights()[0].max() == 3
    assert run.history()["epoch"].tolist() == [0, 1, 2, 3]
    assert [file.stem for file in run.checkpoints()] == ["epoch-003"]
    monkeypatch.setattr(hosts, "gather", lambda value: [value, 1])
    with pytest.raises(ValueError, match="RESTART=True"):
        run.resume(model)
    monkeypatch.setattr(hosts, "gather", lambda value: [value, 0])
    assert run.resume(model) == 0 and run.checkpoints() == []
