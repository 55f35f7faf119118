import os
from pathlib import Path

import pandas as pd
import pytest

from genre_utils.__main__ import main
from genre_utils.support.files import printable, replacing, write_csv


def test_no_text_in_a_csv_is_a_formula(tmp_path):
    marks = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"]
    table = pd.DataFrame({"poster": [*marks, "a=b", "x\r=y\nz", None], "=score": [-0.5] * 8})
    write_csv(tmp_path / "table.csv", table)
    rows = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert rows.columns.tolist() == ["poster", "'=score"]
    assert rows["poster"].tolist() == [f"'{mark}" for mark in marks] + ["a=b", "x\\r=y\nz", ""]
    assert set(rows["'=score"]) == {"-0.5"}
    assert table["poster"][0] == "=1+1"  # the table itself stays


def test_tables_of_the_command_are_harmless_as_csv_and_exact_as_json(trained, tmp_path, capsys):
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "=HYPERLINK(1).jpg").write_bytes(b"no picture")
    (tmp_path / "posters" / "-2.jpg").write_bytes(b"no picture")
    csv, json = tmp_path / "a.csv", tmp_path / "a.json"
    arguments = ["--model", str(trained), "--csv", str(csv), "--json", str(json)]
    assert main(["predict", str(tmp_path / "posters"), *arguments]) == 1
    assert pd.read_csv(csv)["poster"].tolist() == ["'-2.jpg", "'=HYPERLINK(1).jpg"]
    assert pd.read_json(json)["poster"].tolist() == ["-2.jpg", "=HYPERLINK(1).jpg"]


def test_only_what_a_terminal_would_obey_is_replaced():
    assert printable("café 🎬 七人.jpg") == "café 🎬 七人.jpg"
    assert printable("a\nb\x1b[2J\u202ec") == "a\\nb\\x1b[2J\\u202ec"


def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("new", "newer"):
        with replacing(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink() and target.read_text() == text
    with replacing(Path(os.devnull)) as temporary:
        temporary.write_text("nothing")
    assert not Path(os.devnull).is_file()


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "table.csv"
    write_csv(file, pd.DataFrame({"a": [1]}))
    before = file.read_bytes()
    with (
        pytest.raises(OSError, match="table.csv cannot be written: the disk is full"),
        replacing(file) as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(28, os.strerror(28))
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["table.csv"]
    with pytest.raises(PermissionError), replacing(file):
        raise PermissionError(13, "no")
