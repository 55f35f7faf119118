"""Two thousand posters on Ray's workers, one of which is killed half-way."""

import errno
import importlib.util
import io
import json
import logging
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
from genre_utils.ocr import Line, WordCache, hash_file

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


def test_an_address_of_one_file_or_of_none_is_a_poster():
    import fsspec

    from genre_utils.apps import on_ray

    fsspec.filesystem("memory").pipe("/one/1.jpg", b"")
    for address in ("memory:///one/1.jpg", "memory:///none/1.jpg"):
        assert list(on_ray._list([address])) == [(address, address)]


@pytest.mark.parametrize("why", [ValueError, ImportError])
def test_an_address_that_cannot_be_listed_is_named(monkeypatch, why):
    from genre_utils.apps import on_ray

    def unknown(address):
        raise why("install it")

    monkeypatch.setattr("fsspec.core.url_to_fs", unknown)
    with pytest.raises(ValueError, match="far://bucket cannot be listed: install it."):
        list(on_ray._list(["far://bucket"]))


def test_workers_get_paths_that_are_true_in_any_folder(tmp_path, monkeypatch):
    from genre_utils.apps import on_ray

    (tmp_path / "1.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert list(on_ray._list(["1.jpg"])) == [("1.jpg", str(tmp_path / "1.jpg"))]


def test_ray_starts_once_without_a_dashboard_and_prints_no_error_of_its_own(monkeypatch):
    import ray.data

    from genre_utils.apps import on_ray

    started, printed, log = [], io.StringIO(), logging.getLogger("ray.data")
    monkeypatch.setattr(ray, "init", lambda **options: started.append(options))
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(started))
    monkeypatch.setattr(log, "handlers", [logging.StreamHandler(printed)])
    for _ in range(2):
        on_ray.start(None)
    assert started == [{"address": None, "log_to_driver": False, "include_dashboard": False}]
    log.error("many lines")
    log.warning("slow")
    assert printed.getvalue() == "slow\n"


def test_the_command_counts_what_the_workers_predicted(tmp_path, monkeypatch, capsys):
    from genre_utils.apps import on_ray

    given = []

    def of_workers(items, worker, **options):
        given.append(options)
        return SimpleNamespace(write_parquet=lambda output, **_: None)

    bad = SimpleNamespace(filter=lambda expr: SimpleNamespace(count=lambda: 1))
    monkeypatch.setattr(on_ray, "start", lambda address: None)
    monkeypatch.setattr(on_ray, "_map", of_workers)
    monkeypatch.setattr(on_ray.ray.data, "read_parquet", lambda *_, **__: bad)
    monkeypatch.chdir(make_small_model(tmp_path / "model").parent)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    command = ["predict", "a.jpg", "b.jpg", "--ray", "--parquet", "out", "--model", "model"]
    assert main([*command, "--no-text"]) == 0
    assert "1 posters predicted, 1 not (column error)" in capsys.readouterr().out
    assert given == [{"fn_constructor_args": (str(tmp_path / "model"), False)}]
    assert main(command[:2] + command[3:]) == 1, "the only poster is the one that was not read"


def test_without_posters_ray_does_not_start_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    from genre_utils.apps import on_ray

    monkeypatch.setattr(on_ray, "start", lambda address: pytest.fail("it starts"))
    (tmp_path / "empty.txt").write_text("\n")
    command = ["predict", "--list", str(tmp_path / "empty.txt"), "--no-text", "--ray"]
    assert main([*command, "--parquet", str(tmp_path / "out")]) == 1
    assert "empty.txt names no poster: write a path a line" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class FakeReader:
    """Reads the same words on every poster."""

    name = "fake 1"

    def settings(self, rgb):
        return self.name

    def read(self, rgb):
        return [Line("THE GRAVE", 0.9, ((0.1, 0.2), (0.9, 0.2), (0.9, 0.3), (0.1, 0.3)))]


def test_words_that_workers_read_are_kept_and_bad_posters_named(
    sample_folder, tmp_path, monkeypatch
):
    from genre_utils.apps import on_ray

    def in_one_batch(items, worker):
        table = worker()({"source": np.array([item["source"] for item in items])})
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        return SimpleNamespace(iter_rows=lambda: rows)

    monkeypatch.setattr(on_ray, "start", lambda address: None)
    monkeypatch.setattr(on_ray, "_map", in_one_batch)
    for module in ("genre_utils.ocr.reading", "genre_utils.apps.on_ray"):
        monkeypatch.setattr(f"{module}.Reader", FakeReader)
    good, bad = str(next((sample_folder / "Images").iterdir())), str(tmp_path / "bad.jpg")
    (tmp_path / "bad.jpg").write_text("no picture")
    cache = WordCache(tmp_path / "words.jsonl")
    done = on_ray.read([good, bad], cache)
    assert done.lines == {good: FakeReader().read(None)} and done.new == 1
    assert "not a picture" in done.unreadable[bad]
    assert cache.settings(hash_file(good)) == "fake 1"
    monkeypatch.setattr(FakeReader, "name", "fake 2")
    assert on_ray.read([good], cache).new == 0
    assert on_ray.read([good], cache, anew=True).new == 1


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
    worker = PredictBatch(str(make_small_model(tmp_path / "model")), False)
    assert not worker.predictor.reader, "words are not to be read"
    rows = worker(batch)
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
    assert "holds files already: give a new folder" in refusal("model", "model")
    inside = str(sample_folder / "Images" / "new")
    assert f"{inside} is inside {command[1]}, where its files" in refusal(inside, "model")
    command[-1:-1] = ["--csv", str(tmp_path / "more.csv")]
    assert "give --parquet DIR, and no --csv" in refusal("out", "model")
    del command[-3:-1]
    assert "holds no trained model" in refusal("out", "nowhere")
    (model / "text.safetensors").unlink()  # which `--no-text` does without
    with open(model / "picture.safetensors", "ab") as file:
        file.write(b"x")
    assert "picture.safetensors is not the file that model.json" in refusal("out", "model")
    card = json.loads((model / "model.json").read_text())
    card["sha256"] |= {"../secret": ""}
    (model / "model.json").write_text(json.dumps(card))
    assert "names a file that no model has: '../secret'" in refusal("out", "model")


@pytest.mark.parametrize(
    "address", ["cluster.invalid:6379", "127.0.0.1:99999", "[::1]:1", f"{'x' * 70}:1"]
)
def test_what_is_no_address_is_named_too(address):
    from genre_utils.apps import on_ray

    with pytest.raises(ValueError, match="leave it out to work on this machine"):
        on_ray.start(address)


def test_a_full_disk_is_one_sentence_and_a_bug_is_none(
    sample_folder, tmp_path, monkeypatch, capsys
):
    import ray

    from genre_utils.apps import on_ray

    causes = [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("a bug")]

    def full(output, **_):
        raise ray.exceptions.RayTaskError("Write", "many lines", causes.pop(0))

    monkeypatch.setattr(on_ray, "start", lambda address: None)
    monkeypatch.setattr(on_ray, "_map", lambda *_, **__: SimpleNamespace(write_parquet=full))
    out = str(tmp_path / "out")
    assert main(["predict", str(sample_folder / "Images"), "--ray", "--parquet", out]) == 2
    printed = capsys.readouterr().err
    assert f"{out} cannot be written (No space left on device)" in printed
    assert "many lines" not in printed
    with pytest.raises(ray.exceptions.RayTaskError, match="many lines"):  # to be reported whole
        main(["predict", str(sample_folder / "Images"), "--ray", "--parquet", out])


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_the_core_does_not_know_ray(missing, tmp_path, monkeypatch, capsys):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == missing else known(name)
    )
    read = ["read", "--data", str(tmp_path), "--words", str(tmp_path / "words.jsonl")]
    for command in (["predict", str(tmp_path), "--parquet", str(tmp_path / "out")], read):
        assert main([*command, "--ray"]) == 2
        assert "pip install '.[ray]'" in capsys.readouterr().err
