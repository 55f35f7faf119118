"""Many posters: written as they come, and gone on with after an interruption."""

import contextlib
import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_model import make_small_model

from genre_utils import images
from genre_utils import predictor as predictor_module
from genre_utils.__main__ import main
from genre_utils.apps.batch_prediction import (
    ResumableLog,
    partial_file,
    print_table,
    write_csv_rows,
    write_json_rows,
)
from genre_utils.images import PosterError
from genre_utils.predictor import Predictor, list_posters
from genre_utils.sources.sample import draw_poster
from genre_utils.support import only_writer, progress

COUNT = 40  # more than a batch


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor.load(model, read_text=False)


@pytest.fixture
def posters(tmp_path):
    folder = tmp_path / "posters"
    (folder / "below").mkdir(parents=True)
    for i in range(3):
        draw_poster([["Horror", "Romance", "Western"][i]], np.random.default_rng(i)).save(
            folder / f"{i}.jpg"
        )
    for i in range(3, COUNT - 1):
        os.link(folder / f"{i % 3}.jpg", folder / "below" / f"{i}.jpg")
    (folder / "z.txt").write_text("no poster")
    return folder


def rows_of(file) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text("utf-8").splitlines()))


def test_an_interrupted_command_goes_on_and_ends_the_same(
    posters, model, predictor, tmp_path, monkeypatch
):
    arguments = ["predict", str(posters), "--model", str(model), "--no-text", "--all-genres"]
    assert main([*arguments, "--csv", str(tmp_path / "whole.csv")]) == 0
    log = ResumableLog(tmp_path / "cut.csv.partial", predictor, [str(posters)])
    predictions = log.fill(predictor, [posters])
    for _ in range(35):
        next(predictions)
    kept = log.file.read_text("utf-8").splitlines()
    assert len(kept) == 1 + 35, "a command that is killed loses nothing that it has predicted"
    predictions.close()
    with open(log.file, "a") as file:
        file.write('["torn.jpg", [0.')
    seen = []
    stream = Predictor.stream_named

    def watched(self, items, count):
        assert count == COUNT - 35, "the bar counts what is left"
        for found in stream(self, items, count):
            seen.append(found.poster)
            yield found

    monkeypatch.setattr(Predictor, "stream_named", watched)
    assert main([*arguments, "--csv", str(tmp_path / "cut.csv")]) == 0
    assert len(seen) == COUNT - 35
    whole, cut = map(rows_of, (tmp_path / "whole.csv", tmp_path / "cut.csv"))
    assert [row["poster"] for row in cut] == [row["poster"] for row in whole]
    for genre in predictor.genres:
        figures = [[float(row[genre] or -1) for row in rows] for rows in (cut, whole)]
        np.testing.assert_allclose(*figures, atol=1e-5)
    assert not log.file.exists()


def test_bad_posters_are_tried_again_and_others_than_asked_for_left_out(
    posters, model, predictor, tmp_path, capsys
):
    listed = tmp_path / "list.txt"
    names = ("bad", 0, "worse", 1, 2)
    listed.write_text("\n".join(str(posters / f"{name}.jpg") for name in names))
    log = ResumableLog(tmp_path / "out.json.partial", predictor, [str(listed), os.getcwd()])
    predictions = log.fill(predictor, listed.read_text().splitlines())
    for _ in range(4):
        next(predictions)
    predictions.close()
    os.link(posters / "2.jpg", posters / "bad.jpg")
    names = ("bad", 0, "worse", 2)
    listed.write_text("\n".join(str(posters / f"{name}.jpg") for name in names))
    command = ["predict", "--list", listed, "--model", model, "--no-text", "--top", 1]
    assert main([*map(str, command), "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text("utf-8"))
    found = {os.path.basename(row["poster"]): row["error"] for row in rows}
    assert list(found) == ["0.jpg", "bad.jpg", "worse.jpg", "2.jpg"]
    assert "no such file" in found.pop("worse.jpg") and set(found.values()) == {None}
    printed = capsys.readouterr().err
    assert "2 posters were predicted before" in printed
    assert "not predicted: " in printed and "bad.jpg" not in printed


def test_a_mended_poster_has_one_row_however_often_it_is_stopped(posters, predictor, tmp_path):
    listed = [str(posters / f"{name}.jpg") for name in ("bad", 0, 1, 2)]

    def stopped_after(count):
        log = ResumableLog(tmp_path / "out.csv.partial", predictor)
        predictions = log.fill(predictor, listed)
        for _ in range(count):
            next(predictions)
        predictions.close()
        return [(os.path.basename(one.poster), bool(one.error)) for one in log.read()]

    assert stopped_after(2) == [("bad.jpg", True), ("0.jpg", False)]
    os.link(posters / "2.jpg", listed[0])
    mended = [("0.jpg", False), ("bad.jpg", False)]
    assert stopped_after(1) == mended
    assert stopped_after(1) == [*mended, ("1.jpg", False)]


def test_a_bad_poster_has_a_line_of_its_own_beside_the_bar(posters, model, capsys, monkeypatch):
    bar = progress.bar
    monkeypatch.setattr(progress, "bar", lambda **options: bar(**options, delay=0, mininterval=0))
    assert main(["predict", str(posters), "--model", str(model), "--no-text"]) == 0
    printed = capsys.readouterr().err
    lines = [states.split("\r")[-1] for states in printed.split("\n")]
    assert "predicting:" in printed
    (line,) = [line for line in lines if "not predicted" in line]
    assert line.startswith("not predicted: z.txt: not a picture in a known format")


def test_short_work_prints_its_lines_and_no_bar(posters, model, capsys):
    (posters / "y.jpg").write_text("no poster")
    assert main(["predict", str(posters), "--model", str(model), "--no-text"]) == 0
    why = "not a picture in a known format (JPEG, PNG, WEBP, GIF, BMP)"
    lines = "".join(f"not predicted: {name}: {why}\n" for name in ("y.jpg", "z.txt"))
    assert capsys.readouterr().err.endswith(lines)


@pytest.mark.parametrize(
    "damaged", ['null, ["damaged"]', "[0.5], null", '[0.1, 0.2, 0.3], "bad"', "[" * 99_999]
)
def test_a_log_with_a_line_of_something_else_begins_anew(posters, predictor, tmp_path, damaged):
    file = tmp_path / "cut.csv.partial"
    next(ResumableLog(file, predictor).fill(predictor, [posters]))
    with open(file, "a") as log:
        log.write(f'["1.jpg", {damaged}]\n')
    log = ResumableLog(file, predictor)
    assert log.done.total() == 0
    list(log.fill(predictor, ["none.jpg"]))
    assert [one.poster for one in log.read()] == ["none.jpg"], "errors of this run are its own"


def test_a_log_of_nothing_is_not_spoken_of(predictor, tmp_path, capsys):
    for _ in range(2):
        ResumableLog(tmp_path / "cut.csv.partial", predictor)
    assert capsys.readouterr().err == ""


def test_another_model_or_a_reader_begins_anew(posters, predictor, tmp_path, capsys):
    file = tmp_path / "cut.csv.partial"
    predictions = ResumableLog(file, predictor).fill(predictor, [posters])
    next(predictions)
    predictions.close()
    assert ResumableLog(file, predictor).done.total() == 1
    card = predictor.model.card
    other = Predictor(type(predictor.model)(**{**vars(predictor.model), "card": {"sha256": {}}}))
    assert card["sha256"] and ResumableLog(file, other).done.total() == 0
    assert "begun anew" in capsys.readouterr().err
    list(ResumableLog(file, predictor).fill(predictor, [posters / "0.jpg"]))
    assert ResumableLog(file, Predictor(predictor.model, reader=object())).done.total() == 0


def test_a_log_of_other_posters_or_a_damaged_one_begins_anew(posters, predictor, tmp_path):
    file = tmp_path / "cut.csv.partial"
    predictions = ResumableLog(file, predictor, [str(posters)]).fill(predictor, [posters])
    next(predictions)
    predictions.close()
    assert ResumableLog(file, predictor, ["elsewhere"]).done.total() == 0
    file.write_bytes(b"\xff\xfeno log\n")
    assert ResumableLog(file, predictor, [str(posters)]).done.total() == 0
    assert list(ResumableLog(file, predictor, [str(posters)]).read()) == []


def test_parquet_needs_ray(posters, model, capsys):
    assert main(["predict", str(posters), "--model", str(model), "--parquet", "out"]) == 2
    assert "--parquet goes with --ray" in capsys.readouterr().err


def test_a_list_of_paths_keeps_its_order_and_doubles(posters, model, tmp_path):
    paths = [str(posters / name) for name in ("2.jpg", "0.jpg", "2.jpg", "none.jpg")]
    (tmp_path / "paths.txt").write_text("\n".join(paths) + "\n\n", "utf-8")
    out = tmp_path / "scores.jsonl"
    arguments = ["predict", "--list", str(tmp_path / "paths.txt"), "--model", str(model)]
    assert main([*arguments, "--no-text", "--top", "1", "--json", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["poster"] for row in rows] == paths
    assert rows[0]["score"] == pytest.approx(rows[2]["score"], abs=1e-5)
    assert "no such file" in rows[3]["error"] and rows[3]["genre"] is None


def test_a_list_of_powershell_is_read_and_an_empty_one_is_said(posters, model, tmp_path, capsys):
    arguments = ["predict", "--no-text", "--model", str(model), "--list"]
    for encoding in ("utf-16-le", "utf-16-be", "utf-8"):
        (tmp_path / "list.txt").write_text(f"\ufeff{posters / '0.jpg'}\r\n", encoding)
        assert main([*arguments, str(tmp_path / "list.txt")]) == 0
    (tmp_path / "empty.txt").write_text("\n")
    json_file = tmp_path / "none.json"
    assert main([*arguments, str(tmp_path / "empty.txt"), "--json", str(json_file)]) == 1
    assert "empty.txt names no poster: write a path a line" in capsys.readouterr().err
    assert json.loads(json_file.read_text("utf-8")) == []


def test_a_list_names_files_by_their_bytes(posters, model, tmp_path):
    name = os.fsencode(posters / "caf") + b"\xe9.jpg "
    os.link(posters / "0.jpg", name)
    (tmp_path / "list.txt").write_bytes(name + b"\r\n")
    command = ["predict", "--no-text", "--model", str(model), "--list", str(tmp_path / "list.txt")]
    assert main(command) == 0


@pytest.mark.parametrize("given", [["--list", "../list.txt"], ["0.jpg", "1.jpg"]])
def test_work_is_resumed_only_in_the_folder_that_its_paths_are_in(
    posters, model, tmp_path, capsys, monkeypatch, given
):
    (tmp_path / "list.txt").write_text("0.jpg\n1.jpg\n")
    (tmp_path / "elsewhere").mkdir()
    for name in ("0.jpg", "1.jpg"):
        os.link(posters / "2.jpg", tmp_path / "elsewhere" / name)
    command = ["predict", "--no-text", "--model", str(model), *given]
    command += ["--csv", str(tmp_path / "a.csv")]
    stream = Predictor.stream_named

    def cut(self, items, count):
        yield next(stream(self, items, count))
        raise RuntimeError("a power cut")

    for folder, printed in (("posters", "predicted before"), ("elsewhere", "begun anew")):
        monkeypatch.chdir(posters)
        monkeypatch.setattr(Predictor, "stream_named", cut)
        with pytest.raises(RuntimeError, match="a power cut"):
            main(command)
        monkeypatch.setattr(Predictor, "stream_named", stream)
        monkeypatch.chdir(tmp_path / folder)
        assert main(command) == 0
        assert printed in capsys.readouterr().err


def test_a_pipe_is_a_list_and_a_table(posters, model, tmp_path):
    names, table = tmp_path / "names", tmp_path / "table"
    for pipe in (names, table):
        os.mkfifo(pipe)
    paths = [str(posters / name) for name in ("0.jpg", "none.jpg")]
    write = ["sh", "-c", 'printf "%s\\n" "$1" "$2" > "$0"', str(names), *paths]
    others = [subprocess.Popen(write), subprocess.Popen(["cat", table], stdout=subprocess.PIPE)]
    command = [sys.executable, "-m", "genre_utils", "predict", "--list", names, "--csv", table]
    try:
        subprocess.run([*command, "--model", model, "--no-text"], check=True, timeout=120)
        written = others[1].communicate(timeout=20)[0].decode()
    finally:  # without the fix, each waits for the other
        for other in others:
            other.kill()
    assert [row["poster"] for row in csv.DictReader(written.splitlines())][::3] == paths


@pytest.mark.parametrize("table", ["-", "/dev/stdout"])
def test_a_file_is_standard_input_and_a_pipe_standard_output(posters, model, tmp_path, table):
    listed, paths = tmp_path / "list.txt", [str(posters / name) for name in ("0.jpg", "none.jpg")]
    listed.write_text("\n".join(paths))
    command = [sys.executable, "-m", "genre_utils", "predict", "--list", "-", "--csv", table]
    command += ["--model", model, "--no-text", "--top", "1"]
    with open(listed) as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [row["poster"] for row in csv.DictReader(done.stdout.splitlines())] == paths
    assert not list(Path("/dev").glob("*.partial"))


def test_what_a_terminal_would_obey_is_printed_as_codes(model, tmp_path, capsys, monkeypatch):
    draw_poster(["Horror"], np.random.default_rng(0)).save(tmp_path / "good\x1b[2J.jpg")
    (tmp_path / "bad\x1b[2J.jpg").write_text("no picture")
    read = images.read_poster

    def reason_with_code(source, name):
        try:
            return read(source, name)
        except PosterError as error:
            raise PosterError(name, f"{error.reason}\x1b[2J") from None

    monkeypatch.setattr(predictor_module, "read_poster", reason_with_code)
    assert main(["predict", str(tmp_path), "--model", str(model), "--no-text"]) == 0
    printed = capsys.readouterr()
    assert "good\\x1b[2J.jpg" in printed.out and "\x1b" not in printed.out
    told = printed.err[printed.err.index("not predicted") :].splitlines()[0]
    assert told.startswith("not predicted: bad\\x1b[2J.jpg: not a picture")
    assert told.endswith("\\x1b[2J")
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "\x1b[2J.xlsx").touch()
    assert main(["evaluate", "--data", str(tmp_path / "only"), "--model", str(model)]) == 2
    assert "\\x1b[2J.xlsx', which is not read" in (printed := capsys.readouterr().err)
    assert "\x1b" not in printed


def test_json_to_an_output_that_is_not_utf_8_is_json(posters, model):
    os.rename(posters / "0.jpg", posters / "é\N{CLAPPER BOARD}.jpg")
    command = [sys.executable, "-m", "genre_utils", "predict", posters / "é\N{CLAPPER BOARD}.jpg"]
    command += ["--no-text", "--model", model, "--json", "-"]
    for encoding in ("cp1252", "utf-8"):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        rows = json.loads(done.stdout.decode("utf-8"))
        assert rows[0]["poster"].endswith("é\N{CLAPPER BOARD}.jpg")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    printed = subprocess.run(command[:-2], env=environment, capture_output=True, check=True).stdout
    assert rb"\xe9\U0001f3ac.jpg" in printed, "without --json a table, in a terminal of few letters"


def test_json_goes_into_an_output_without_an_encoding():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        write_json_rows(iter([{"poster": "é"}]), "-")
    assert json.loads(out.getvalue()) == [{"poster": "é"}]


def test_a_genre_is_no_formula_in_the_header_of_a_table(tmp_path):
    write_csv_rows(
        iter([{"poster": "a", "=1+1": 0.5}]), ("poster", "=1+1"), str(tmp_path / "a.csv")
    )
    assert rows_of(tmp_path / "a.csv") == [{"poster": "a", "'=1+1": "0.5"}]


def test_a_genre_moves_no_cursor_in_the_header_of_a_printed_table(capsys):
    print_table([{"poster": "a", "\x1b[2J": 0.5}])
    assert capsys.readouterr().out == "poster \\x1b[2J\n     a   0.500\n"


def predict(posters, model, *more) -> int:
    arguments = ["predict", str(posters), "--model", str(model), "--no-text", "--top", "1"]
    return main([*arguments, *map(str, more)])


def test_what_the_command_writes_is_no_poster_finished_or_not(posters, model):
    csv, lines = posters / "genres.csv", posters / "below" / "genres.jsonl"
    for _ in range(2):  # the second time they are there already, beside what a killed run leaves
        assert predict(posters, model, "--csv", csv, "--json", lines) == 0
        assert len(rows_of(csv)) == COUNT
        assert len(lines.read_text("utf-8").splitlines()) == COUNT
        for left in (".genres.csv.lock", ".genres.partial.csv", "genres.csv.partial"):
            assert not (posters / left).exists(), left
            (posters / left).write_text("")
    lines.unlink()
    others = ["below/genres.csv", "other.csv"]
    for other in others:
        (posters / other).write_text("somebody else's")
    assert predict(posters, model, "--csv", csv) == 0
    assert [row["poster"] for row in rows_of(csv) if row["error"]] == [*others, "z.txt"]


def test_a_second_command_that_writes_the_same_file_is_refused(posters, model, tmp_path, capsys):
    csv = tmp_path / "genres.csv"
    before = "poster,rank,genre,score,error\nof before,,,,\n"
    csv.write_text(before)
    with only_writer(csv):
        assert predict(posters, model, "--csv", csv) == 2
        assert predict(posters, model, "--json", csv) == 2
        (tmp_path / "link.csv").symlink_to(csv)
        assert predict(posters, model, "--csv", tmp_path / "link.csv") == 2
    with only_writer(partial_file(csv)):  # the log of the one is the table of the other
        assert predict(posters, model, "--csv", csv) == 2
    assert capsys.readouterr().err.count("Another command is writing") == 4
    assert csv.read_text() == before and not list(tmp_path.glob("*.partial"))
    assert predict(posters, model, "--csv", csv) == 0


def test_a_pattern_in_quotes_stands_for_its_pictures(posters, model, tmp_path, capsys):
    csv = tmp_path / "genres.csv"
    assert predict(posters / "**" / "*.jpg", model, "--csv", csv) == 0
    assert len(rows_of(csv)) == COUNT - 1
    assert predict(posters / "none*.jpg", model) == 1
    assert "none*.jpg: there is no such file" in capsys.readouterr().err
    assert predict(posters / "[01].jpg", model, "--csv", csv) == 0
    assert [row["poster"] for row in rows_of(csv)] == [str(posters / f"{i}.jpg") for i in (0, 1)]
    os.rename(posters / "0.jpg", posters / "[01].jpg")  # a file of that name is that file
    assert predict(posters / "[01].jpg", model, "--csv", csv) == 0
    assert [row["poster"] for row in rows_of(csv)] == [str(posters / "[01].jpg")]


def test_a_jpeg_without_its_end_marker_is_predicted_and_that_is_said(
    posters, model, tmp_path, capsys
):
    whole = (posters / "0.jpg").read_bytes()
    (tmp_path / "end.jpg").write_bytes(whole[:-2])
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    assert predict(tmp_path / "end.jpg", model) == 0
    assert "end.jpg: the end marker of this JPEG is missing" in capsys.readouterr().err
    assert predict(tmp_path / "cut.jpg", model) == 1
    assert "the file ends before the picture does" in capsys.readouterr().err


def test_a_disk_that_is_full_is_named_with_the_log(posters, model, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for owner, name in ((Path, "write_text"), (Predictor, "picture_outputs")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            assert predict(posters, model, "--csv", tmp_path / "a.csv") == 2
        assert "a.csv.partial cannot be written: the disk is full" in capsys.readouterr().err


def test_no_posters_at_all_is_wrong_use(capsys):
    assert main(["predict"]) == 2
    assert main(["predict", "--list", "nowhere.txt"]) == 2
    assert "nowhere.txt" in capsys.readouterr().err


def test_a_folder_is_listed_in_order_with_what_is_below(posters):
    names = [name for name, _ in list_posters(posters)]
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert len(names) == COUNT and names[0] == "0.jpg" and names[-1] == "z.txt"
