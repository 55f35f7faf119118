import errno
import hashlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from genre_utils import __main__ as command_line
from genre_utils import machine, saved_model, sources
from genre_utils.__main__ import main
from genre_utils.predictor import Predictor
from genre_utils.sources.sample import draw_poster
from genre_utils.support import only_writer

# A container may set it; then Python writes at once what it otherwise writes as it exits.
BUFFERED = {"PYTHONUNBUFFERED": ""}


@pytest.fixture
def posters(tmp_path):
    folder = tmp_path / "my posters"
    folder.mkdir()
    for i, genre in enumerate(["Horror", "Western"]):
        draw_poster([genre], np.random.default_rng(i)).save(folder / f"{genre}.jpg")
    (folder / "notes.txt").write_text("not a poster")
    return folder


def test_predict_writes_the_table_and_lists_the_bad(posters, trained, tmp_path, capsys):
    file = tmp_path / "out.csv"
    assert main(["predict", str(posters), "--model", str(trained), "--csv", str(file)]) == 0
    table = pd.read_csv(file)
    assert table.columns.tolist() == ["poster", "rank", "genre", "score", "error"]
    assert table["poster"].value_counts().to_dict() == {
        "Horror.jpg": 3,
        "Western.jpg": 3,
        "notes.txt": 1,
    }
    assert "notes.txt" in capsys.readouterr().err


def test_all_genres_go_to_standard_output(posters, trained, predictor, capsys):
    arguments = ["predict", str(posters), "--model", str(trained), "--all-genres", "--json", "-"]
    assert main(arguments) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["poster"] for row in rows] == ["Horror.jpg", "Western.jpg", "notes.txt"]
    assert list(rows[0]) == ["poster", *predictor.genres, "error"]
    assert rows[2]["Horror"] is None and rows[0]["error"] is None


def test_without_a_file_the_top_is_printed(posters, trained, capsys):
    arguments = ["predict", str(posters / "Horror.jpg"), "--model", str(trained), "--top", "1"]
    assert main(arguments) == 0
    assert re.search(r"Horror.jpg +1 Horror 0\.\d{3}\n", capsys.readouterr().out)


def test_exit_codes(posters, trained, tmp_path, capsys):
    model = ["--model", str(trained)]
    assert main(["predict", str(posters / "notes.txt"), *model]) == 1
    assert capsys.readouterr().out == "no poster was predicted\n"
    assert main(["predict", str(posters / "none.jpg"), *model]) == 1
    assert main(["predict", str(posters), "--model", str(tmp_path)]) == 2
    assert main(["predict", str(posters), *model, "--top", "0"]) == 2
    assert main(["predict", str(posters), *model, "--csv", str(tmp_path / "no" / "x.csv")]) == 2
    assert main(["evaluate", "--data", str(tmp_path / "no"), *model]) == 2
    words = ["--words", "words.jsonl", "--no-text"]
    assert main(["evaluate", "--data", str(tmp_path), *model, *words]) == 2
    assert main(["evaluate", "--data", str(tmp_path), *model, "--words", "typo.jsonl"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert any("--no-text leaves out" in line for line in errors)
    assert any("typo.jsonl: there is no such file" in line for line in errors)
    assert not any("Traceback" in line for line in errors)
    for wrong in ([], ["evaluate"], ["fly"]):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2


def test_without_a_command_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and not printed.out
    for command in ("predict", "evaluate", "read", "export", "app", "card", "COMMAND --help"):
        assert f"  {command} " in printed.err or f"\n{command} " in printed.err
    assert "give a COMMAND" in printed.err


def test_evaluate_finds_the_notebook_s_figures_again(trained, sample_folder, tmp_path, capsys):
    file = tmp_path / "metrics.json"
    arguments = ["evaluate", "--data", str(sample_folder), "--model", str(trained)]
    assert main([*arguments, "--json", str(file)]) == 0
    result = json.loads(file.read_text("utf-8"))["results"]["model"]
    saved = json.loads((trained / "metrics.json").read_text("utf-8"))["results"]
    for key in ("posters", "macro_map", "top3_recall", "element_accuracy", "macro_f1_tuned"):
        assert result[key] == pytest.approx(saved["efficientnet_lite0, test"][key], abs=1e-6)


def test_evaluate_leaves_out_what_the_model_was_trained_on(
    trained, sample_folder, tmp_path, capsys, predictor
):
    ids = pd.read_csv(sample_folder / "train.csv")["Id"]
    known = predictor.model.was_trained_on(ids)[:3]
    fresh = [poster for poster in ids if poster not in predictor.model.was_trained_on(ids)]
    (tmp_path / "ids.txt").write_text("\n".join([*known, *fresh, "stranger"]))
    file = tmp_path / "metrics.json"
    arguments = ["--model", str(trained), "--ids", str(tmp_path / "ids.txt"), "--json", str(file)]
    assert main(["evaluate", "--data", str(sample_folder), *arguments]) == 0
    written = json.loads(file.read_text("utf-8"))
    assert sorted(written["left_out"]["trained_on"]) == sorted(known)
    assert written["results"]["model"]["posters"] == len(fresh)
    assert "stranger" in capsys.readouterr().err


def test_evaluate_names_genres_that_model_and_data_do_not_share(
    trained, sample_folder, tmp_path, capsys
):
    rows = pd.read_csv(sample_folder / "train.csv", keep_default_na=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "Images").symlink_to(sample_folder / "Images")
    rows[["Id", "Genre"]].assign(
        Genre=rows["Genre"].str.replace("Western", "Cowboys", regex=False)
    ).to_csv(other / "train.csv", index=False)
    assert main(["evaluate", "--data", str(other), "--model", str(trained)]) == 0
    assert "Cowboys, Western" in capsys.readouterr().err


def test_every_command_has_help_with_an_example(capsys):
    for command in ("predict", "evaluate", "read", "export", "app", "card"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert f"python -m genre_utils {command}" in capsys.readouterr().out


def refusal(capsys, *arguments) -> str:
    """What a command says that is refused before a model is loaded."""
    assert main([*map(str, arguments), *(["--model", "no/model"] * (arguments[0] != "read"))]) == 2
    return capsys.readouterr().err


def test_a_link_to_where_nothing_can_be_written_is_refused_before_the_work(
    posters, tmp_path, capsys
):
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "none" / "table.csv")
    assert "there is no folder" in refusal(capsys, "predict", posters, "--csv", link)
    (tmp_path / "none").write_text("")
    assert "cannot be written" in refusal(capsys, "read", "--data", posters, "--words", link)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is full")
def test_a_full_standard_output_is_named(posters):
    command = [sys.executable, "-m", "genre_utils", "predict", posters / "Horror.jpg", "--no-text"]
    with open("/dev/full", "w") as full:
        pipes = {"stdout": full, "stderr": subprocess.PIPE}
        done = subprocess.run(command, **pipes, text=True, env=os.environ | BUFFERED)
    assert "the standard output cannot be written (No space left" in done.stderr


def test_tables_that_would_cost_something_are_refused(posters, tmp_path, capsys):
    horror, names = posters / "Horror.jpg", tmp_path / "paths.txt"
    names.write_text(f"{horror}\n")
    before = horror.read_bytes(), names.read_text()
    for name in (tmp_path / "out", "-"):
        printed = refusal(capsys, "predict", horror, "--csv", name, "--json", name)
        assert f"--csv {name} and --json {name} would be written over each other" in printed
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for other in ("link", "out.partial", "../" + tmp_path.name + "/out"):
        tables = "--csv", tmp_path / "out", "--json", tmp_path / other
        assert "written over each other" in refusal(capsys, "predict", horror, *tables)
    for option in ("--csv", "--json"):
        printed = refusal(capsys, "predict", horror, option, horror)
        assert f"{option} would write over {horror}, which is read" in printed
        printed = refusal(capsys, "predict", posters, option, horror)
        assert f"{option} would write over {horror}, which is a picture" in printed
        for folder in (tmp_path, f"{tmp_path}/new/"):
            printed = refusal(capsys, "predict", horror, option, folder)
            assert f"{option} {folder} cannot be written: it is a folder" in printed
        printed = refusal(capsys, "predict", "--list", names, option, names)
        assert f"{option} would write over {names}, the list that is read" in printed
    printed = refusal(capsys, "evaluate", "--data", posters, "--json", horror)
    assert "--json would write over" in printed and "which is a picture" in printed
    for option in ("--data", "--ids", "--words"):
        given = "evaluate", "--data", posters, option, names, "--json", names
        assert f"--json would write over {names}, which is read" in refusal(capsys, *given)
    assert (horror.read_bytes(), names.read_text()) == before
    labels = tmp_path / "labels.csv"
    for table in ("poster,genre\nHorror.jpg,Horror\n", "Id\nHorror.jpg\n", "Id,Genre\na,b\n"):
        labels.write_text(table)
        printed = refusal(capsys, "predict", horror, "--csv", labels)
        assert f"--csv would write over {labels}, which is a table of something else" in printed
        assert labels.read_text() == table


def test_a_list_that_is_none_gets_the_sentence_that_fits(tmp_path, capsys, monkeypatch):
    assert "a folder: give it without --list" in refusal(capsys, "predict", "--list", tmp_path)
    address = "https://example.org/paths.txt"
    assert "an internet address" in refusal(capsys, "predict", "--list", address)
    assert "an internet address" in refusal(capsys, "predict", "--list", address.upper())
    assert "there is no such file" in refusal(capsys, "predict", "--list", tmp_path / "none.txt")
    monkeypatch.setenv("HOME", str(tmp_path))  # papermill and `--list=~` leave it to us
    assert f"--list is {tmp_path}/none.txt" in refusal(capsys, "predict", "--list=~/none.txt")
    Image.new("RGB", (9, 9)).save(tmp_path / "poster.jpg")
    printed = refusal(capsys, "predict", "--list", tmp_path / "poster.jpg")
    assert "a picture: give it without --list" in printed


def test_a_folder_that_cannot_be_written_names_the_option_that_helps(posters, capsys, monkeypatch):
    plain = tempfile.TemporaryFile

    def read_only(dir=None):
        if dir is None:  # Keras' notices go into one
            return plain()
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    for option in ("--csv", "--json"):
        printed = refusal(capsys, "predict", posters, option, "genres")
        assert "Read-only" in printed and f"give {option} a file in a folder" in printed
    assert "give --json a file" in refusal(capsys, "evaluate", "--data", posters, "--json", "a")
    assert "give --words a file" in refusal(capsys, "read", "--data", posters)
    for command in ("card", "export"):
        assert main([command, "--model", str(posters)]) == 2
        assert "name the copy by --model" in capsys.readouterr().err


def test_a_tilde_in_an_option_is_the_user_s_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    commands = {
        "predict": ["paths", "--list", "--csv", "--json", "--parquet", "--model"],
        "evaluate": ["--data", "--ids", "--words", "--model", "--json"],
        "read": ["--data", "--words", "--import"],
        "export": ["--data", "--words", "--model"],
        "app": ["--model"],
        "card": ["--model"],
    }
    for command, names in commands.items():
        given = [word for name in names for word in (name, "~/a")[not name.startswith("-") :]]
        read = vars(command_line._parser().parse_args([command, *given]))
        values = [value for value in read.values() if "/a" in str(value)]
        assert len(values) == len(names)
        assert all(value in (f"{tmp_path}/a", [f"{tmp_path}/a"]) for value in values)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["predict", "--help"]])
def test_help_and_version_need_no_numpy(arguments):
    code = (
        "import sys; from genre_utils.__main__ import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as stopped: assert stopped.code == 0\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"numpy", "pandas", "sklearn", "PIL", "keras", "onnxruntime", "filelock"}


def test_a_prediction_prints_no_notices_of_libraries(posters, trained):
    command = [sys.executable, "-m", "genre_utils", "predict", str(posters / "Horror.jpg")]
    done = subprocess.run([*command, "--model", str(trained)], capture_output=True, text=True)
    # On a slow machine there is the bar.
    printed = [
        line for line in done.stderr.splitlines() if line.strip() and "predicting" not in line
    ]
    assert (done.returncode, printed) == (
        0,
        ["This model was trained on drawn posters only, the sample."],
    )


def test_ctrl_c_keeps_the_rows_that_are_done(posters, trained, tmp_path, capsys, monkeypatch):
    from genre_utils.predictor import Predictor

    whole = Predictor.stream_named

    def stopped_after_one(self, posters, count):
        yield next(whole(self, posters, count))
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "stream_named", stopped_after_one)
    file = tmp_path / "out.csv"
    arguments = ["predict", str(posters), "--model", str(trained), "--csv", str(file)]
    assert main(arguments) == 130
    assert pd.read_csv(file)["poster"].tolist() == ["Horror.jpg"] * 3
    assert "stopped; 1 posters are predicted. Run the same command again" in capsys.readouterr().err
    assert main(arguments[:-2]) == 130
    told = capsys.readouterr().err
    assert told.endswith("stopped; 1 posters are predicted.\n"), "what is printed is not resumed"


def test_ctrl_c_ends_any_command_with_one_line(monkeypatch, capsys):
    from genre_utils import sources

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "find_data", interrupt)
    assert main(["read", "--data", "anything"]) == 130
    assert capsys.readouterr().err == "poster-genres: stopped.\n"


def test_the_page_names_what_it_needs(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name)
    )
    assert main(["app"]) == 2
    assert "pip install '.[app]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "owner", "next_step"),
    [("app", machine, "import_keras"), ("predict", Predictor, "load")],
)
def test_threads_share_a_heap_chosen_before_there_are_any(
    command, owner, next_step, posters, monkeypatch
):
    if command == "app":
        pytest.importorskip("gradio")
    called = []
    monkeypatch.setattr(machine, "share_heap", lambda: called.append("share_heap"))

    def stop(*_, **__):
        called.append(next_step)
        raise ValueError("far enough")

    monkeypatch.setattr(owner, next_step, stop)
    with socket.socket() as free:  # pages of other tests may be open at the usual port
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    assert main([command, *(["--port", port] if command == "app" else [str(posters)])]) == 2
    assert called == ["share_heap", next_step]


def test_names_that_a_spreadsheet_would_compute_are_neutralised(trained, tmp_path):
    draw_poster(["Horror"], np.random.default_rng(0)).save(tmp_path / "=1+1.jpg")
    file = tmp_path / "out.csv"
    arguments = ["predict", str(tmp_path), "--model", str(trained), "--top", "1"]
    assert main([*arguments, "--csv", str(file)]) == 0
    assert "'=1+1.jpg" in pd.read_csv(file)["poster"].tolist()


def test_it_runs_as_a_module_and_knows_its_version():
    done = subprocess.run(
        [sys.executable, "-m", "genre_utils", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.strip().count(".") == 2


class FakePredictor:
    """A predictor that scores every poster alike, with a card as `save_model` writes it."""

    genres, thresholds = ("Comedy", "Drama"), (0.5, 0.5)

    def __init__(self, card):
        self.model = saved_model.SavedModel(None, None, {}, self.genres, None, (9, 9), card)

    def predict_all(self, paths):
        return pd.DataFrame({"Comedy": 0.5, "Drama": 0.4, "error": [None] * len(paths)})


@pytest.fixture
def films(tmp_path):
    """A folder of twenty films, all of which are listed in a file of ids."""
    (tmp_path / "Images").mkdir()
    ids = [f"tt{86001 + i:07d}" for i in range(20)]
    for number, film in enumerate(ids):
        picture = Image.new("RGB", (9, 9), (10 * number, 0, 0))
        picture.save(tmp_path / "Images" / f"{film}.jpg")
    rows = [f"{int(i[2:])},{'Drama' if n % 2 else 'Comedy'}" for n, i in enumerate(ids)]
    rows += ["99,Drama", "98,-"]
    (tmp_path / "train.csv").write_text("\n".join(["imdbId,Genre", *rows]))
    (tmp_path / "ids.txt").write_text("\n".join(f"{i.upper()}.JPG" for i in ids))
    return tmp_path


def evaluate_films(films, card, monkeypatch) -> dict:
    from genre_utils.predictor import Predictor

    monkeypatch.setattr(Predictor, "load", lambda *_: FakePredictor(card))
    file = films / "metrics.json"
    ids = ["--ids", str(films / "ids.txt"), "--no-text"]
    assert main(["evaluate", "--data", str(films), *ids, "--json", str(file)]) == 0
    return json.loads(file.read_text("utf-8"))["left_out"]


def short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def test_evaluate_knows_a_training_poster_by_its_number_and_by_its_picture(
    films, monkeypatch, capsys
):
    # The first three as older cards and newer ones write ids; the fourth by its picture alone.
    ids = [short(written.encode()) for written in ("tt0086001", "86002", "0086003", "tt9999999")]
    picture = short((films / "Images" / "tt0086004.jpg").read_bytes())
    known = evaluate_films(
        films, {"training_ids": ids, "training_pictures": [picture]}, monkeypatch
    )
    assert known["trained_on"] == ["86001", "86002", "86003", "86004"]
    printed = capsys.readouterr().err
    scored = "16 of 20 posters listed in --ids are scored, on 2 of the model's 2 genres; the data"
    assert f"{scored} hold 20." in printed
    assert (
        "2 rows without a picture (left out)" in printed
        and "lists no training pictures" not in printed
    )
    assert "saved anew under another id" in printed


@pytest.mark.parametrize("imdb", ["imdb_id,tt{:07d}", "imdbId,{}", "link,https://a.org/tt{:07d}/"])
def test_evaluate_knows_a_film_by_an_id_beside_its_picture_s_name(films, monkeypatch, imdb):
    column, written = imdb.split(",")
    lines = (films / "train.csv").read_text().splitlines()[1:21]
    rows = [
        f"tt{number:0>7}.jpg,{written.format(int(number) + 500)},{genre}"
        for number, genre in (line.split(",") for line in lines)
    ]
    (films / "train.csv").write_text("\n".join([f"poster_path,{column},Genre", *rows]))
    known = evaluate_films(
        films, {"training_ids": [short(b"tt0086501")], "training_pictures": []}, monkeypatch
    )
    assert known["trained_on"] == ["tt0086001.jpg"]


def test_ids_of_one_name_in_two_folders_are_told_apart(films, monkeypatch, capsys):
    pictures, rows = sorted((films / "Images").iterdir()), []
    for number, picture in enumerate(pictures):
        (films / "Images" / f"{'ab'[number % 2]}").mkdir(exist_ok=True)
        name = f"{'ab'[number % 2]}/{number // 2}.jpg"
        picture.rename(films / "Images" / name)
        rows.append(f"{name},{'Drama' if number % 3 else 'Comedy'}")
    (films / "train.csv").write_text("\n".join(["file,Genre", *rows]))
    (films / "ids.txt").write_text("a/1.jpg\nb/2.jpg\n")
    evaluate_films(films, {"training_ids": [], "training_pictures": []}, monkeypatch)
    assert "2 of 2 posters listed in --ids are scored" in capsys.readouterr().err


def test_of_genres_that_are_not_shared_no_poster_counts_as_one_without(films, monkeypatch):
    table = (films / "train.csv").read_text().replace(",Genre", ",N/A,Comedy,Drama,Western")
    for genre, marks in (("Comedy", "0,1,0,0"), ("Drama", "0,0,1,0"), ("-", "1,0,0,0")):
        table = table.replace(f",{genre}\n", f",{marks}\n")
    (films / "train.csv").write_text(table.replace(",0,1,0,0\n", ",0,0,0,1\n", 5))
    evaluate_films(films, {"training_ids": [], "training_pictures": []}, monkeypatch)
    found = json.loads((films / "metrics.json").read_text("utf-8"))["results"]
    # 20 posters: 5 comedies, 10 dramas, 5 Westerns; all of them are predicted comedies.
    assert found["all zeros"]["element_accuracy"] == 1 - 15 / 40


UNKNOWN = {"training_ids": [], "training_pictures": []}  # a card that lists nothing


def results_of(films) -> dict:
    return json.loads((films / "metrics.json").read_text("utf-8"))["results"]


def test_evaluate_leaves_out_what_cannot_be_read(films, monkeypatch, capsys):
    whole = FakePredictor.predict_all

    def first_is_bad(self, paths):
        bad = {"Comedy": np.nan, "Drama": np.nan, "error": "too dark"}
        return pd.concat([pd.DataFrame([bad]), whole(self, paths[1:])], ignore_index=True)

    monkeypatch.setattr(FakePredictor, "predict_all", first_is_bad)
    assert evaluate_films(films, UNKNOWN, monkeypatch)["unreadable"] == ["86001"]
    assert results_of(films)["model"]["posters"] == 19
    printed = capsys.readouterr().err
    assert "cannot be read: 86001\n" in printed and "19 of 20 posters" in printed


def test_evaluate_takes_the_thresholds_of_the_genres_it_scores(films, monkeypatch):
    monkeypatch.setattr(FakePredictor, "genres", ("Foo", "Comedy", "Drama"))
    monkeypatch.setattr(FakePredictor, "thresholds", (0.9, 0.3, 0.3))
    evaluate_films(films, UNKNOWN, monkeypatch)
    # Of 20 posters with both genres predicted, ten are of each: precision a half, recall 1.
    assert results_of(films)["model"]["macro_f1_tuned"] == pytest.approx(2 / 3)


def test_evaluate_takes_its_prior_from_training_posters(films, monkeypatch):
    dramas = (films / "ids.txt").read_text().splitlines()[1::2]
    (films / "ids.txt").write_text("\n".join(dramas))
    evaluate_films(films, UNKNOWN, monkeypatch)
    # All ten that are scored are dramas, but only a half of those for training: no genre leads.
    assert results_of(films)["genre prior"]["micro_map"] == 0.5


def test_evaluate_prints_json_alone_or_a_table(films, monkeypatch, capsys):
    found = sources.find_data
    monkeypatch.setattr(sources, "find_data", lambda data: replace(found(data), is_sample=True))
    monkeypatch.setattr(Predictor, "load", lambda *_: FakePredictor(UNKNOWN))
    given = ["evaluate", "--data", films, "--ids", films / "ids.txt", "--no-text", "--json"]
    assert main([*map(str, given), "-"]) == 0
    assert json.loads(capsys.readouterr().out)["sample"] is True
    assert main([*map(str, given), str(films / "metrics.json")]) == 0
    assert capsys.readouterr().out.split()[:3] == ["model", "all", "zeros"]


def test_evaluate_writes_no_file_that_another_command_writes(films, capsys):
    with only_writer(films / "metrics.json"):
        printed = refusal(capsys, "evaluate", "--data", films, "--json", films / "metrics.json")
    assert "Another command is writing" in printed


def test_evaluate_says_what_it_cannot_know(films, monkeypatch, capsys):
    known = evaluate_films(
        films, {"training_ids": [short(b"tt0086001")], "training_pictures": []}, monkeypatch
    )
    assert known["trained_on"] == ["86001"]
    assert "lists no training pictures" in capsys.readouterr().err


def test_read_says_what_is_wrong_with_the_table(films, monkeypatch, capsys):
    done, given = SimpleNamespace(unreadable={}, new=0, lines={"a": []}), []
    monkeypatch.setattr(
        "genre_utils.ocr.read_posters", lambda *_, **named: given.append(named) or done
    )
    words = str(films / "words.jsonl.gz")
    for anew in ([], ["--anew"]):
        assert main(["read", "--data", str(films), "--words", words, *anew]) == 0
        assert given.pop() == {"anew": bool(anew)}
    assert "2 rows without a picture (left out)" in capsys.readouterr().err


def test_what_a_command_reads_is_not_written_over(posters, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    horror, model = posters / "Horror.jpg", tmp_path / "model"
    for file in ("outputs/words.jsonl", "model/model.json", "model/metrics.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    (posters / "train.csv").write_text("Id,Genre\nHorror,Horror\nWestern,Western\n")
    for file in ("model.json", "metrics.json", "settings.json", "picture.safetensors"):
        given = ["predict", horror, "--json", model / file, "--model", model]
        assert main([*map(str, given)]) == 2
        assert "a file of the model: give another name" in capsys.readouterr().err
    printed = refusal(capsys, "predict", posters, "--csv", posters / "train.csv")
    assert "which is a table of something else" in printed
    printed = refusal(capsys, "evaluate", "--data", posters, "--json", "outputs/words.jsonl")
    assert "words.jsonl, which is read" in printed
    printed = refusal(capsys, "evaluate", "--data", posters, "--json", posters / "train.csv")
    assert "train.csv" in printed and "give another name" in printed
    (posters / "train.csv").write_text("poster,Genre,error\nHorror,Horror,\nWestern,Western,\n")
    given = "--no-text", "--data", posters, "--json", posters / "train.csv"
    printed = refusal(capsys, "evaluate", *given)
    assert "train.csv, the table that is read: give another name" in printed


def test_a_file_that_does_not_fit_on_the_disk_is_named(monkeypatch, capsys):
    def full(options):
        raise OSError(errno.ENOSPC, "No space left on device", "table.csv")

    monkeypatch.setattr(command_line.commands, "card", full, raising=False)
    assert main(["card"]) == 2
    assert "No space left on device: 'table.csv'" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "7860.5"])
def test_what_is_no_port_is_refused(port, capsys):
    with pytest.raises(SystemExit):
        main(["app", "--port", port])
    assert f"argument --port: '{port}' is no number from 1 to 65535" in capsys.readouterr().err


def test_an_empty_path_is_refused(capsys):
    for option in ("--model", "--csv", "--list"):
        with pytest.raises(SystemExit):
            main(["predict", "poster.jpg", option, ""])
        assert f"argument {option}: it is empty" in capsys.readouterr().err


@pytest.mark.parametrize("tables", [[], ["--csv", "-", "--json"], ["--json", "-", "--csv"]])
def test_a_reader_that_has_enough_costs_no_table_and_no_word(posters, trained, tmp_path, tables):
    file = tmp_path / "table.json"
    command = [sys.executable, "-m", "genre_utils", "predict", posters, "--model", trained]
    command += [*tables, file] if tables else []
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, env=os.environ | BUFFERED) as process:
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 0 and "not predicted: notes.txt" in told
    assert "poster-genres:" not in told and "Broken" not in told
    assert sorted(tmp_path.glob("*table*")) == [file] * bool(tables)


def test_a_command_works_with_its_output_closed():
    for closed in ("1>&-", "2>&-"):
        command = f"{sys.executable} -m genre_utils card --model nowhere {closed}"
        assert subprocess.run(command, shell=True, timeout=60).returncode == 2


def test_ids_that_are_no_file_are_told_from_missing_ones(films, capsys):
    for ids, why in ((films, "a folder: give a file"), (films / "no", "there is no such file")):
        assert why in refusal(capsys, "evaluate", "--data", films, "--ids", ids)


def test_ids_are_no_picture_and_few_unknown_ones_are_listed(films, monkeypatch, capsys):
    picture = films / "Images" / "tt0086001.jpg"
    printed = refusal(capsys, "evaluate", "--data", films, "--ids", picture)
    assert "a picture: give a file with an id a line" in printed
    ids = (films / "ids.txt").read_text()
    (films / "ids.txt").write_text("\n".join([ids, *(f"no{i}" for i in range(150))]))
    evaluate_films(films, {"training_ids": [], "training_pictures": []}, monkeypatch)
    printed = capsys.readouterr().err
    assert "no0" in printed and "and 50 more" in printed


def test_evaluate_says_that_model_and_data_share_no_genre(films, monkeypatch, capsys):
    from genre_utils.predictor import Predictor

    predictor = FakePredictor({"training_ids": [], "training_pictures": []})
    predictor.genres = ("Foo", "Bar")
    predictor.predict_all = lambda paths: pd.DataFrame(
        {"Foo": 0.5, "Bar": 0.4, "error": [None] * len(paths)}
    )
    monkeypatch.setattr(Predictor, "load", lambda *_: predictor)
    assert main(["evaluate", "--data", str(films), "--no-text"]) == 1
    printed = capsys.readouterr().err
    assert "0 of " in printed and "the model and the data have no genre in common" in printed


@pytest.mark.parametrize("defaults", [True, False])
def test_a_page_is_opened_as_the_options_say(monkeypatch, defaults):
    pytest.importorskip("gradio")
    from genre_utils.apps import page

    called = []

    def noted(answer):
        return lambda *given, **named: called.append((given, named)) or answer

    network = SimpleNamespace(network="network")
    monkeypatch.setattr(Predictor, "load", noted("predictor"))
    monkeypatch.setattr(saved_model, "load_model", noted(network))
    monkeypatch.setattr(page, "launch", noted(None))
    monkeypatch.setattr(socket, "create_server", noted(socket.socket()))
    options = [] if defaults else ["--port", "9", "--host", "::1", "--share", "--no-text"]
    assert main(["app", *options]) == 0
    tried, load, _, launch = called
    place = ("127.0.0.1", 7860) if defaults else ("::1", 9)
    family = socket.AF_INET if defaults else socket.AF_INET6
    assert tried == ((place,), {"family": family})
    assert load == ((saved_model.RELEASED, defaults), {})
    where = ("predictor", place[1], not defaults, place[0])
    assert launch == (where, {"wait": True, "network": "network"})


def test_a_page_that_cannot_be_opened_is_told_before_the_model_is_loaded(monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr("genre_utils.machine.import_keras", lambda: pytest.fail("late"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["app", "--port", port]) == 2
    assert "close the page that is open there" in capsys.readouterr().err
    for host in ("999.1.1.1", "é" * 70):
        assert main(["app", "--host", host]) == 2
        assert f"at {host}, port" in capsys.readouterr().err
    assert main(["app", "--model", "nowhere"]) == 2
    assert "holds no trained model" in capsys.readouterr().err
