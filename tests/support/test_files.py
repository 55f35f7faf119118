import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from genre_utils.__main__ import main
from genre_utils.support import first_of, picture_hash, write_json
from genre_utils.support.files import lock_file, only_writer, printable, replacing, write_csv

HOLD = """
import sys
from genre_utils.support import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


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


def test_the_first_names_stand_for_all():
    assert first_of("abc", 3) == "a, b, c" and first_of("abcde", 3) == "a, b, c and 2 more"


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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError("Not enough free space to write 800 bytes"),  # NumPy's
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, error):
    file = tmp_path / "table.csv"
    write_csv(file, pd.DataFrame({"a": [1]}))
    before = file.read_bytes()
    with (
        pytest.raises(OSError, match="table.csv cannot be written: the disk is full"),
        replacing(file) as temporary,
    ):
        temporary.write_bytes(b"half")
        raise error
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["table.csv"]
    with pytest.raises(PermissionError), replacing(file):
        raise PermissionError(13, "no")


def test_what_is_no_number_is_no_json_and_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"score": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n "score": 0.5\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_hash_of_a_picture_and_of_its_hash_are_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    whole = hashlib.sha256(b"picture").hexdigest()
    for picture in (tmp_path / "a.jpg", str(tmp_path / "a.jpg"), whole, whole[:12]):
        assert picture_hash(picture) == whole[:12]


def test_a_file_has_one_writer_until_it_ends_or_is_killed(tmp_path):
    file = tmp_path / "genres.csv"
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(file)], text=True, **pipes)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError, match="Another command is writing .*genres.csv"):
        only_writer(file).__enter__()
    other.kill()
    other.communicate()
    with only_writer(file):
        assert lock_file(file).exists()
    assert not lock_file(file).exists(), "nothing is left beside the table"


def test_what_cannot_be_locked_is_written_all_the_same(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path / "no folder" / "genres.csv"):
        with only_writer(file):
            assert not lock_file(file).exists()
