"""Two thousand posters on Ray's workers, one of which is killed half-way."""

import errno
import importlib.util
import json
import os
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from small_model import GENRES, make_small_model

from genre_utils.__main__ import main

pytest.importorskip("ray", reason="pip install '.[ray]'")
POSTERS = 2000


@pytest.fixture
def many(sample_folder, tmp_path):
    """A folder of links to the drawn sample's pictures, and one file that is none."""
    pictures = sorted((sample_folder / "Images").iterdir())
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(POSTERS - 1):
        os.symlink(pictures[i % len(pictures)], folder / f"{i:04d}.jpg")
    (folder / "broken.jpg").write_text("no picture")
    return folder


def kill_a_worker(killed: list[int]) -> None:
    """Kill one of Ray's workers as soon as two are at work on posters."""
    while not killed:
        time.sleep(0.2)
        for process in psutil.process_iter(["cmdline"]):
            name = " ".join(process.info["cmdline"] or [])
            if name.startswith("ray::") and "MapWorker" in name and process.cpu_times().user > 2:
                process.kill()
                killed.append(process.pid)
                return


@pytest.mark.slow
def test_a_killed_worker_costs_no_poster_and_no_figure(many, tmp_path):
    import ray

    model = str(make_small_model(tmp_path / "model"))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(killed,), daemon=True)
    killer.start()
    arguments = ["predict", str(many), "--model", model, "--no-text"]
    try:
        assert main([*arguments, "--ray", "--parquet", str(tmp_path / "parquet")]) == 0
    finally:
        ray.shutdown()
    assert killed, "no worker was at work"
    assert main([*arguments, "--all-genres", "--json", str(tmp_path / "plain.json")]) == 0
    plain = pd.DataFrame(json.loads((tmp_path / "plain.json").read_text("utf-8")))
    found = pd.read_parquet(tmp_path / "parquet")
    assert len(found) == POSTERS and found["poster"].is_unique
    plain, found = (table.set_index("poster").sort_index() for table in (plain, found))
    assert (found["error"] != "").sum() == 1 and "known format" in found["error"]["broken.jpg"]
    genres = [name for name in plain.columns if name != "error"]
    figures = (found[genres].to_numpy(float), plain[genres].to_numpy(float))
    np.testing.assert_allclose(*figures, atol=1e-5)


def test_of_several_folders_each_poster_is_named_with_its_own(tmp_path):
    import fsspec

    from genre_utils.apps import on_ray

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"")
    fsspec.filesystem("memory").pipe("/b/1.jpg", b"")
    folders = [str(tmp_path / "a"), "memory://b"]
    alone = [name for folder in folders for name, _ in on_ray._list([folder])]
    assert alone == ["1.jpg", "1.jpg"]
    names = [name for name, _ in on_ray._list(folders)]
    assert names == [str(tmp_path / "a" / "1.jpg"), "memory:///b/1.jpg"]


def test_what_cannot_be_fetched_is_named_with_the_reason(sample_folder, tmp_path):
    from genre_utils.apps.on_ray import PredictBatch

    picture = next((sample_folder / "Images").iterdir())
    sources = [picture.as_uri(), (tmp_path / "gone.jpg").as_uri(), "nowhere://bucket/a.jpg"]
    batch = {"poster": np.array(["good", "gone", "far"]), "source": np.array(sources)}
    rows = PredictBatch(str(make_small_model(tmp_path / "model")), False)(batch)
    good, gone, far = rows["error"]
    assert not good and "FileNotFoundError" in gone and "nowhere" in far
    assert not np.isnan(rows[GENRES[0]][0]) and np.isnan(rows[GENRES[0]][1:]).all()


@pytest.mark.parametrize("kind", ["{}", "ray://{}"])
def test_an_address_where_nothing_listens_is_named_at_once(kind, sample_folder, tmp_path, capsys):
    with socket.socket() as bound:  # it is taken, and nothing listens there
        bound.bind(("127.0.0.1", 0))
        address = kind.format(f"127.0.0.1:{bound.getsockname()[1]}")
        ray = ["--ray", "--ray-address", address]
        data, out = str(sample_folder), str(tmp_path / "out")
        start = time.monotonic()
        assert main(["predict", data, *ray, "--parquet", out]) == 2
        assert f"No Ray cluster answers at {address} (" in capsys.readouterr().err
        assert main(["read", "--data", data, *ray, "--words", f"{out}.jsonl"]) == 2
    printed = capsys.readouterr().err
    assert f"answers at {address} (" in printed and "give --ray-address what" in printed
    assert time.monotonic() - start < 60


def test_what_no_worker_could_use_is_refused_before_ray_starts(
    sample_folder, tmp_path, capsys, monkeypatch
):
    from genre_utils.apps import on_ray

    monkeypatch.setattr(on_ray, "start", lambda address: pytest.fail("Ray was started"))
    model = make_small_model(tmp_path / "model")
    (tmp_path / "table.csv").touch()
    command = ["predict", str(sample_folder / "Images"), "--ray", "--parquet"]

    def refusal(parquet: str, model: str) -> str:
        options = ["--model", str(tmp_path / model), "--no-text"]
        assert main([*command, str(tmp_path / parquet), *options]) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "table.csv cannot be written (Not a directory)" in refusal("table.csv", "model")
    assert "holds no trained model" in refusal("out", "nowhere")
    (model / "text.safetensors").unlink()  # which `--no-text` does without
    with open(model / "picture.safetensors", "ab") as file:
        file.write(b"x")
    assert "picture.safetensors is not the file that model.json" in refusal("out", "model")
    card = json.loads((model / "model.json").read_text())
    card["sha256"] |= {"../secret": ""}
    (model / "model.json").write_text(json.dumps(card))
    assert "names a file that no model has: '../secret'" in refusal("out", "model")


@pytest.mark.parametrize("address", ["cluster.invalid:6379", "127.0.0.1:99999", "[::1]:1"])
def test_what_is_no_address_is_named_too(address):
    from genre_utils.apps import on_ray

    with pytest.raises(ValueError, match="leave it out to work on this machine"):
        on_ray.start(address)


def test_a_full_disk_is_one_sentence(sample_folder, tmp_path, monkeypatch, capsys):
    import ray

    from genre_utils.apps import on_ray

    def full(output, **_):
        cause = OSError(errno.ENOSPC, "No space left on device")
        raise ray.exceptions.RayTaskError("Write", "many lines", cause)

    monkeypatch.setattr(on_ray, "start", lambda address: None)
    monkeypatch.setattr(on_ray, "_map", lambda *_, **__: SimpleNamespace(write_parquet=full))
    out = str(tmp_path / "out")
    assert main(["predict", str(sample_folder / "Images"), "--ray", "--parquet", out]) == 2
    printed = capsys.readouterr().err
    assert f"{out} cannot be written (No space left on device)" in printed
    assert "many lines" not in printed


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_the_core_does_not_know_ray(missing, tmp_path, monkeypatch, capsys):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == missing else known(name)
    )
    assert main(["predict", str(tmp_path), "--ray", "--parquet", str(tmp_path / "out")]) == 2
    assert "pip install '.[ray]'" in capsys.readouterr().err
