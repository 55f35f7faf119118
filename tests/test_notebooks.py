"""The notebooks as a user runs them: headless, on the drawn sample."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_notebook

from genre_utils import images, machine, models
from genre_utils.__main__ import main
from genre_utils.dataset import load_dataset
from genre_utils.fusion import LogisticFusion
from genre_utils.machine import backend
from genre_utils.saved_model import load_model, save_model
from genre_utils.sources import draw_sample, find_data

NOTEBOOKS = ("explore", "train", "predict")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_both_halves_agree_and_hold_no_outputs(name):
    source = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    generated = jupytext.read(ROOT / "notebooks" / f"{name}.ipynb")
    assert [(c.cell_type, c.source, c.metadata.get("tags")) for c in source.cells] == [
        (c.cell_type, c.source, c.metadata.get("tags")) for c in generated.cells
    ], f"run: jupytext --to ipynb notebooks/{name}.py"
    assert not any(cell.get("outputs") for cell in generated.cells)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_parameters_say_type_and_meaning(name):
    cells = jupytext.read(ROOT / "notebooks" / f"{name}.ipynb").cells
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.fullmatch(r"[A-Z_]+: (str|int|bool) = \S+  # .+", line), line


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_are_short_and_led_in(name):
    cells = jupytext.read(ROOT / "notebooks" / f"{name}.ipynb").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    lengths = sorted(len(cell.source.splitlines()) for cell in code)
    assert lengths[len(lengths) // 2] <= 8
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", f"no sentence before: {cell.source[:60]}"


def test_train_is_a_story_of_few_short_cells_without_guards():
    cells = jupytext.read(ROOT / "notebooks" / "train.py").cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    lines = [[line for line in cell.splitlines() if line.strip()] for cell in code]
    assert len(code) <= 42 and sum(map(len, lines)) <= 210
    assert sorted(map(len, lines))[len(lines) // 2] <= 5
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell))]
    assert sum(isinstance(node, (ast.If, ast.IfExp)) for node in nodes) <= 4
    whole = "\n".join(code)
    assert "finished" not in whole
    assert whole.count(".compile(") == 2 and whole.count(".fit(") == 2
    assert len(re.findall(r"\.compile\(.+, loss\)", whole)) == 2, "one loss for heads and networks"


def after_the_parameters(name: str, **given) -> dict:
    """Run the cell behind a notebook's parameters, with these given; returns its names."""
    cells = [c for c in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells]
    code = [cell for cell in cells if cell.cell_type == "code"]
    first = next(i for i, cell in enumerate(code) if cell.metadata.get("tags"))
    names = {"machine": machine}
    exec(code[first].source, names)
    names |= given
    exec(code[first + 1].source, names)
    return names


@pytest.fixture
def run_cells(monkeypatch):
    """Run a notebook's cells in this process, which has imported Keras before.

    What fails in the first cells needs no kernel of its own to fail in.
    """
    monkeypatch.chdir(ROOT)
    # Devices and precision of this process are those of all tests.
    monkeypatch.setattr(machine, "connect", lambda: "the machine of the tests")

    def run(name: str, **given) -> None:
        names = {}
        for cell in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells:
            if cell.cell_type == "code":
                exec(cell.source, names)
                if "parameters" in cell.metadata.get("tags", []):
                    names |= given

    return run


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_booleans_are_understood_as_papermill_passes_them(name):
    tagged = [c for c in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells if c.metadata]
    parameters = next(c.source for c in tagged if "parameters" in c.metadata.get("tags", []))
    booleans = re.findall(r"^([A-Z_]+): bool", parameters, re.M)
    assert booleans or name == "explore"
    for parameter in booleans:
        for text, meant in {"no": False, "false": False, "0": False, 0: False}.items():
            assert after_the_parameters(name, **{parameter: text})[parameter] is meant
        with pytest.raises(ValueError, match=f"{parameter} is 'maybe'"):
            after_the_parameters(name, **{parameter: "maybe"})
    for parameter in set(booleans) - {"TENSORBOARD"}:
        for text in ("yes", "true", "1", 1):
            assert after_the_parameters(name, **{parameter: text})[parameter] is True
    if name != "predict":
        assert after_the_parameters(name, READ_TEXT=True)["READ_TEXT"] == "yes"
        assert after_the_parameters(name, READ_TEXT="auto")["READ_TEXT"] == "auto"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_mistyped_parameter_stops_in_the_cell_behind_the_parameters(name):
    with pytest.raises(ValueError, match="Unknown parameter OUTPUT. Did you mean 'OUTPUT_DIR'"):
        after_the_parameters(name, OUTPUT="outputs/mine")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_tilde_is_expanded_in_every_path(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    for parameter in ("DATA", "WORDS", "OUTPUT_DIR", "POSTERS", "MODEL_DIR"):
        names = after_the_parameters(name)
        if parameter in names:
            names = after_the_parameters(name, **{parameter: "~/place"})
            assert names[parameter] == "/home/someone/place"


def test_tensorboard_without_the_package_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr(backend, "importable", lambda module: module != "tensorboard")
    with pytest.raises(ValueError, match="TENSORBOARD is True, and tensorboard cannot be imported"):
        after_the_parameters("train", TENSORBOARD="yes")
    after_the_parameters("train", TENSORBOARD="no")


def test_the_address_is_the_same_everywhere():
    sys.path.insert(0, str(ROOT / "notebooks"))
    import address

    path = address.repository(address.ADDRESS.read_text("utf-8"))
    for file in (address.README, *(ROOT / "notebooks" / f"{name}.py" for name in NOTEBOOKS)):
        assert file.read_text("utf-8") == address.filled_in(file, path), (
            f"{file.name} has another address than notebooks/address.txt: run notebooks/address.py"
        )
        assert address.MARKER in file.read_text("utf-8")


def test_one_command_points_a_fork_s_badges_and_set_up_cells_at_it(tmp_path):
    # In a copy: this one may stand in a repository that has its address.
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "genre_utils").symlink_to(ROOT / "genre_utils")  # ruff sorts imports by what it has
    for name in ("README.md", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for file in (ROOT / "notebooks").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())

    def write_address(address: str) -> dict[str, str]:
        command = [sys.executable, folder / "address.py", address]
        subprocess.run(command, check=True, capture_output=True)
        for name in NOTEBOOKS:
            generated = jupytext.read(folder / f"{name}.ipynb").cells
            cells = jupytext.read(folder / f"{name}.py").cells
            assert [cell.source for cell in generated] == [cell.source for cell in cells]
        lint = [sys.executable, "-m", "ruff", "check", "--no-cache", "notebooks"]
        subprocess.run(lint, check=True, cwd=tmp_path)
        files = [tmp_path / "README.md", *(folder / f"{name}.py" for name in NOTEBOOKS)]
        return {file.stem: file.read_text("utf-8") for file in files}

    without = write_address("")
    texts = write_address("https://github.com/someone/poster-genres")
    for name in NOTEBOOKS:
        page = f"someone/poster-genres/blob/main/notebooks/{name}.ipynb)"
        assert texts[name].count(page) == texts["README"].count(page) == 2  # Colab and Kaggle
        assert 'REPOSITORY = "https://github.com/someone/poster-genres"  #' in texts[name]
    assert write_address("https://github.com/other/fork.git/")["train"].count("other/fork") == 3
    ours, theirs = (
        jupytext.read(one / "train.ipynb").cells for one in (ROOT / "notebooks", folder)
    )
    assert [cell.id for cell in theirs] == [cell.id for cell in ours], (
        "a small change is one in git"
    )
    assert write_address("") == without and "someone" not in "".join(without.values())
    for wrong in ("https://example.org/someone/poster-genres", "someone/poster-genres"):
        with pytest.raises(subprocess.CalledProcessError):
            write_address(wrong)


def test_the_set_up_cell_finds_the_package_or_says_what_to_write_where(tmp_path):
    cell = next(
        cell.source
        for cell in jupytext.read(ROOT / "notebooks" / "predict.py").cells
        if "REPOSITORY = " in cell.source
    )
    cell = re.sub('REPOSITORY = ".*?"', 'REPOSITORY = ""', cell)

    def run(cell: str, *options: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *options, "-c", cell]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert run(cell).returncode == 0, "installed, it needs no copy"
    alone = run(cell, "-S", "-E")  # without what is installed
    assert alone.returncode and "REPOSITORY" in alone.stderr and "upload a copy" in alone.stderr
    assert "Traceback" not in alone.stderr
    # A copy that was uploaded beside it is found, whatever its folder is called.
    (tmp_path / "poster-genres-main").mkdir()
    (tmp_path / "poster-genres-main" / "genre_utils").symlink_to(ROOT / "genre_utils")
    uploaded = run(cell.replace("machine.prepare()", "machine.__file__"), "-S", "-E")
    assert "poster-genres-main" in uploaded.stdout, uploaded.stderr


def test_train_says_loudly_that_it_ran_on_the_sample(trained):
    metrics = json.loads((trained / "metrics.json").read_text("utf-8"))
    assert metrics["sample"] is True
    assert "#\nDRAWN SAMPLE POSTERS, NOT REAL ONES\n#" in (trained / "printed.txt").read_text(
        "utf-8"
    )


def test_the_sample_s_planted_rules_are_learned(trained):
    results = json.loads((trained / "metrics.json").read_text("utf-8"))["results"]
    prior = results["genre prior, test"]["macro_map"]
    assert results["efficientnet_lite0, test"]["macro_map"] > prior + 0.3
    assert results["all zeros, test"]["macro_f1"] == 0


@pytest.mark.slow  # the same with words, below, is not
def test_a_finished_training_reports_again_without_training(trained, pictures_alone, tmp_path):
    model = shutil.copytree(trained, tmp_path / "model")
    before = (model / "picture.safetensors").read_bytes()
    head = (model / "picture" / "head.csv").read_bytes()
    results = json.loads((model / "metrics.json").read_text("utf-8"))["results"]
    printed = run_notebook("train", tmp_path, OUTPUT_DIR=str(model), **pictures_alone)
    assert "reporting again" in printed
    assert (model / "picture.safetensors").read_bytes() == before
    assert (model / "picture" / "head.csv").read_bytes() == head
    assert json.loads((model / "metrics.json").read_text("utf-8"))["results"] == results


def test_words_are_learned_and_move_scores(trained_on_words):
    metrics = json.loads((trained_on_words / "metrics.json").read_text("utf-8"))
    results = metrics["results"]
    prior = results["genre prior, test"]["macro_map_all"]
    assert results["words alone, test"]["macro_map_all"] > prior + 0.1
    assert (
        results["efficientnet_lite0 + efficientnet_lite0 and words, test"]["macro_map_all"]
        > prior + 0.2
    )
    assert set(metrics["both against picture alone"]) == {"share", "difference", "interval"}
    history = pd.read_csv(trained_on_words / "words" / "history.csv")
    assert history["epoch"].tolist() == [0, 1]


def test_after_a_last_fit_validation_posters_count_as_learned_from(trained_on_words):
    model = load_model(trained_on_words)
    part = load_dataset(find_data("sample"), limit=120, seed=0).part
    validation = part("validation")["id"].tolist()
    assert model.was_trained_on(validation) == validation
    assert not model.was_trained_on(part("test")["id"])
    results = json.loads((trained_on_words / "metrics.json").read_text("utf-8"))["results"]
    assert not any("validation" in system for system in results)
    assert model.card["training"]["validation_macro_map"] > 0


def test_a_training_on_words_is_finished_and_reads_nothing_twice(
    trained_on_words, on_words, tmp_path
):
    model = shutil.copytree(trained_on_words, tmp_path / "model")
    words = shutil.copy(on_words["WORDS"], tmp_path)
    kept = [model / f"{part}.safetensors" for part in ("picture", "text")]
    kept += [model / "picture" / "head.csv", Path(words)]
    before = [file.read_bytes() for file in kept]

    def figures() -> dict[str, float]:
        results = json.loads((model / "metrics.json").read_text("utf-8"))["results"]
        return {system: result["macro_map_all"] for system, result in results.items()}

    reported = figures()
    where = {"OUTPUT_DIR": str(model), "WORDS": words}
    printed = run_notebook("train", tmp_path, **on_words | where)
    assert "reporting again" in printed and "words on the posters are in" in printed
    assert [file.read_bytes() for file in kept] == before
    assert figures() == pytest.approx(reported)


def test_nothing_is_claimed_when_no_poster_can_be_read(tmp_path, run_cells):
    data = tmp_path / "data"
    (data / "Images").mkdir(parents=True)
    for i in range(9):
        (data / "Images" / f"p{i}.jpg").write_text(f"no picture {i}")
    rows = "".join(f"p{i},{'Drama' if i % 2 else 'War'}\n" for i in range(9))
    (data / "train.csv").write_text("Id,Genre\n" + rows)
    with pytest.raises(ValueError, match="None of the 9 pictures"):
        run_cells("train", DATA=str(data), OUTPUT_DIR=str(tmp_path / "model"))
    assert not (tmp_path / "model" / "settings.json").exists()


def test_fine_tuning_runs_from_the_notebook(tmp_path):
    printed = run_notebook(
        "train",
        tmp_path,
        DATA="sample",
        MODEL="efficientnet_lite0",
        IMG_SIZE=64,
        LIMIT=60,
        EPOCHS=1,
        READ_TEXT="no",
        LAST_FIT=True,
        OUTPUT_DIR=str(tmp_path / "model"),
    )
    for network in ("picture", "second", "last_picture", "last_second"):
        history = pd.read_csv(tmp_path / "model" / network / "history.csv")
        assert history["epoch"].tolist() == [0, 1]
    assert "about" in printed and "minutes" in printed
    model = load_model(tmp_path / "model")
    assert model.image_size == images.enlarged((96, 64))
    validation = load_dataset(find_data("sample"), limit=60, seed=0).part("validation")["id"]
    assert model.was_trained_on(validation) == validation.tolist()
    assert not list((tmp_path / "model").rglob("checkpoints"))
    assert not (tmp_path / "model" / "words").exists(), "no words, no folder of theirs"


def test_explore_runs_on_the_sample(tmp_path, trained_on_words, on_words):
    where = {"OUTPUT_DIR": str(tmp_path / "explore"), "WORDS": on_words["WORDS"]}
    printed = run_notebook("explore", tmp_path, DATA="sample", LIMIT=120, READ_TEXT="yes", **where)
    assert "DRAWN SAMPLE POSTERS, NOT REAL ONES" in printed
    assert len(list((tmp_path / "explore" / "figures").glob("*.png"))) >= 6


def test_predict_draws_each_poster_and_names_the_bad_one(tmp_path, trained, sample_folder):
    posters = tmp_path / "mine"
    posters.mkdir()
    for picture in sorted((sample_folder / "Images").iterdir())[:2]:
        (posters / picture.name).write_bytes(picture.read_bytes())
    (posters / "bad.jpg").write_text("no picture")
    # In 8 bits, of which Keras computes other scores than the command line's.
    model = shutil.copytree(trained, tmp_path / "model")
    (tmp_path / "none.jsonl").touch()
    data = ["--data", str(sample_folder), "--words", str(tmp_path / "none.jsonl")]
    assert main(["export", "--int8", "--model", str(model), *data]) == 0
    printed = run_notebook(
        "predict",
        tmp_path,
        POSTERS=str(posters),
        MODEL_DIR=str(model),
        OUTPUT_DIR=str(tmp_path / "predict"),
    )
    assert "1 of 3 files could not be read" in printed
    table = pd.read_csv(tmp_path / "predict" / "top_genres.csv")
    assert len(table) == 2 * 3 + 1
    figures = [file.name for file in (tmp_path / "predict" / "figures").glob("*.png")]
    assert len(figures) == 2 * 2 and sum("-grad_cam" in name for name in figures) == 2
    command = ["predict", str(posters), "--model", str(model), "--all-genres"]
    assert main([*command, "--csv", str(tmp_path / "command.csv")]) == 0
    scores = pd.read_csv(tmp_path / "predict" / "all_genres.csv")
    expected = pd.read_csv(tmp_path / "command.csv").query("error.isna()")[scores.columns]
    pd.testing.assert_frame_equal(scores, expected.reset_index(drop=True), atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"IMG_SIZE": 0}, "IMG_SIZE is 0"),
        ({"IMG_SIZE": 10_000}, "IMG_SIZE is 10000"),
        ({"MODEL": "resnet9000"}, "MODEL is 'resnet9000'"),
        ({"DATA": "no/such/folder"}, "no/such/folder"),
        ({"BATCH_SIZE": 0}, "BATCH_SIZE is 0"),
        ({"LIMIT": -5}, "LIMIT is -5"),
        ({"EPOCHS": -2}, "EPOCHS is -2"),
        ({"WORD_EPOCHS": -2}, "WORD_EPOCHS is -2"),
        ({"READ_TEXT": "maybe"}, "READ_TEXT is 'maybe'"),
        ({"OUTPUT_DIR": "/dev/null/model"}, "OUTPUT_DIR '/dev/null/model' cannot be written"),
        ({"WORDS": "/dev/null/words.jsonl"}, "WORDS '/dev/null/words.jsonl' cannot be written"),
        ({"RESTART": "perhaps"}, "RESTART is 'perhaps'"),
        ({"LIMIT": 2}, "No labelled poster is left"),
        ({"SECOND_MODEL": "resnet9000"}, "SECOND_MODEL is 'resnet9000'"),
        ({"SECOND_MODEL": "seed_cnn"}, "SECOND_MODEL is 'seed_cnn'"),
    ],
)
def test_wrong_parameters_stop_before_long_work(tmp_path, parameters, sentence, run_cells):
    output = tmp_path / "model"
    with pytest.raises((ValueError, OSError), match=sentence):
        run_cells("train", **{"DATA": "sample", "OUTPUT_DIR": str(output), **parameters})
    assert not output.exists(), "nothing half-written is left behind"


def test_an_error_is_the_last_thing_that_a_headless_run_says(tmp_path):
    from papermill import PapermillExecutionError

    output = tmp_path / "model"
    with pytest.raises(PapermillExecutionError, match="IMG_SIZE is 0"):
        run_notebook("train", tmp_path, DATA="sample", IMG_SIZE=0, OUTPUT_DIR=str(output))
    assert not output.exists()


def test_a_poster_whose_words_could_not_be_read_is_trained_on_without_any():
    from genre_utils import batches, networks, text
    from genre_utils.ocr import Line

    corners = ((0, 0), (9, 0), (9, 9), (0, 9))
    names = {"np": np, "batches": batches, "networks": networks, "text": text}
    names |= {"paths": {"train": np.array(["a.jpg", "b.jpg"])}, "SEED": 0, "word_batch": 2}
    names |= {"labels": {"train": np.eye(2)}, "lines_of": {"b.jpg": [Line("War", 0.9, corners)]}}
    cells = jupytext.read(ROOT / "notebooks" / "train.py").cells
    (cell,) = (cell.source for cell in cells if "def texts_of" in cell.source)
    exec(cell, names)
    tokens, _ = names["texts_of"](("train",), 0)[0]
    assert sorted((row > 0).sum() for row in tokens) == sorted(
        (row > 0).sum() for row in networks.tokenize(["", "War"])
    )


@pytest.mark.parametrize(
    ("labels", "pairs", "sentence"),
    [
        (np.eye(3)[np.arange(30) % 3], [0, 0, 0], "Drama and Horror: 0 posters have both"),
        ([[0, 1, 1]] * 200 + [[1, 0, 1]], [200, 1, 0], "Horror and War: 200 posters have both"),
        (np.ones((5, 1)), [], ""),
    ],
)
def test_a_pair_is_of_two_genres_and_counted_once(labels, pairs, sentence, capsys):
    labels = np.asarray(labels, np.int8)
    genres = ("Drama", "Horror", "War")[: labels.shape[1]]
    names = {"np": np, "pd": pd, "labels": labels, "data": SimpleNamespace(genres=genres)}
    names["counts"] = pd.Series(labels.sum(axis=0, dtype=int), genres)
    for cell in jupytext.read(ROOT / "notebooks" / "explore.py").cells:
        if cell.cell_type == "code" and "pairs" in cell.source:
            exec(cell.source, names)
    assert names["pairs"].tolist() == pairs
    printed = capsys.readouterr().out
    assert printed.startswith(sentence) and bool(printed) == bool(pairs)


def test_predict_takes_a_model_whose_training_is_not_known(tmp_path, run_cells, capsys):
    genres = ("Drama", "Horror", "War")
    fusions = {"picture": LogisticFusion({"picture": np.ones(3)}, np.zeros(3))}
    network = models.build_model("seed_cnn", (96, 80), genres)
    save_model(tmp_path / "model", network, None, fusions, genres, [0.5] * 3, [], {})
    draw_sample(tmp_path / "sample", 2)
    folders = {"MODEL_DIR": str(tmp_path / "model"), "OUTPUT_DIR": str(tmp_path / "predict")}
    run_cells("predict", POSTERS=str(tmp_path / "sample" / "Images"), **folders)
    printed = capsys.readouterr().out
    assert "SCORES MEAN NOTHING" not in printed and "No words were read." in printed
