"""The table of more posters: what may not be seen is left out, and everything left out is named."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TEST_ID = (ROOT / "genre_utils/splits/imdb_test_ids.txt").read_text().split()[0]


def noise(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (12, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((182, 268), Image.Resampling.BICUBIC)


@pytest.fixture
def clones(tmp_path):
    """Clones with ten posters, one of them the enlarged twin of a test poster, and a bad one."""
    folder = tmp_path / "clones" / "spoon" / "posters"
    folder.mkdir(parents=True)
    for n in range(10):
        noise(n).save(folder / f"{n}.jpg")
    for n in range(20, 24):
        noise(99).save(folder / f"{n}.jpg")  # a placeholder
    (folder / "30.jpg").write_text("<html>")
    beside = tmp_path / "public"
    beside.mkdir()
    noise(0).resize((300, 441)).save(beside / f"{TEST_ID}.jpg")
    return tmp_path


def run(folder, rows, header=("Id", "file", "Genre")):
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    (folder / "off.txt").write_text("tt0000001\n")
    options = ["--labels", "labels.csv", "--clones", "clones", "--off-limits", "off.txt"]
    command = [sys.executable, str(ROOT / "tools/more_posters.py"), *options]
    command += ["--beside", "public", "--out", "out"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def row(n: int) -> tuple[str, str, str]:
    return f"tt{n:07d}", f"somebody/spoon:posters/{n}.jpg", "Drama|War"


def test_what_may_not_be_seen_is_left_out_and_named(clones):
    outside = ("tt0000040", "somebody/spoon:../../public/" + f"{TEST_ID}.jpg", "Drama")
    rows = [*map(row, [*range(10), *range(20, 24), 30, 31, 5]), outside]
    rows.append((TEST_ID, "somebody/spoon:posters/6.jpg", "Drama"))
    done = run(clones, rows)
    assert done.returncode == 0, done.stderr
    with open(clones / "out" / "train.csv") as table:
        kept = [line["Id"] for line in csv.DictReader(table)]
    assert kept == [f"tt{n:07d}" for n in range(2, 10)]
    assert sorted(file.stem for file in (clones / "out" / "Images").iterdir()) == kept
    names = json.loads((clones / "out" / "report.json").read_text())["names"]
    assert names["off limits, by id"] == ["tt0000001", TEST_ID]
    assert names["twins of a poster that is off limits"] == ["tt0000000"]
    assert names["labels without a picture in the clones"] == ["tt0000031", "tt0000040"]
    assert names["ids that stood before"] == ["tt0000005"]
    assert names["pictures that cannot be read"][0].startswith("30.jpg: ")
    (placeholders,) = [value for key, value in names.items() if key.startswith("placeholders")]
    assert len(placeholders) == 4


def test_another_table_and_missing_clones_get_a_sentence(clones):
    done = run(clones, [("tt1", "Drama")], header=("imdbId", "Genre"))
    needed = "labels.csv has no column 'Id': it needs Id, file, Genre, and has imdbId, Genre"
    assert done.returncode == 1 and needed in done.stderr
    done = run(clones, [("tt0000050", "somebody/other:posters/1.jpg", "Drama")])
    assert done.returncode == 1 and "clone the repositories" in done.stderr
    (clones / "clones").rename(clones / "elsewhere")
    done = run(clones, [row(1)])
    assert done.returncode == 1 and "clones does not exist" in done.stderr


def test_missing_and_empty_files_get_a_sentence(clones, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.chdir(clones)
    tool = importlib.import_module("more_posters")
    Path("labels.csv").write_text("Id,file,Genre\n")
    good = ["--labels", "labels.csv", "--clones", "clones", "--beside", "public", "--out", "out"]
    for option in ("--labels", "--off-limits", "--beside"):
        monkeypatch.setattr(sys, "argv", ["more_posters.py", *good, option, "nowhere"])
        with pytest.raises(SystemExit, match="nowhere does not exist"):
            tool.main()
    monkeypatch.setattr(sys, "argv", ["more_posters.py", *good])
    with pytest.raises(SystemExit, match="None of the 0 pictures is below clones"):
        tool.main()
    Path("labels.csv").write_text("")
    with pytest.raises(SystemExit, match="has no column 'Id': .*, and has none"):
        tool.main()
    assert not Path("out").exists()


def test_twins_in_the_clones_and_other_spellings_are_left_out(clones):
    folder = clones / "clones" / "spoon" / "posters"
    noise(7).save(folder / f"{TEST_ID}.PNG")
    noise(7).resize((40, 60)).resize((182, 268)).save(folder / "7.jpg", quality=5)
    (folder / "23.jpg").unlink()  # three films may share a picture
    again = [(name, "somebody/spoon:posters/1.jpg", "Drama") for name in ("1", "TT0000001")]
    done = run(clones, [*map(row, [*range(2, 10), 20, 21, 22]), *again])
    assert done.returncode == 0, done.stderr
    report = json.loads((clones / "out" / "report.json").read_text())
    assert report["names"]["twins of a poster that is off limits"] == ["tt0000007"]
    assert report["names"]["off limits, by id"] == ["1", "TT0000001"]
    kept = [2, 3, 4, 5, 6, 8, 9, 20, 21, 22]
    assert report["posters"] == len(kept)
    table = (clones / "out" / "train.csv").read_text().splitlines()
    assert table == ["Id,Genre", *(f"tt{n:07d},Drama|War" for n in kept)]
    for n in kept:
        copied = clones / "out" / "Images" / f"tt{n:07d}.jpg"
        assert copied.read_bytes() == (folder / f"{n}.jpg").read_bytes()


def test_other_posters_differ_in_twice_the_bits_of_a_twin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("more_posters")
    for n in range(30):
        noise(n).save(tmp_path / f"{n}.png")
    prints = [tool.fingerprint(file).astype(int) for file in tmp_path.glob("*.png")]
    pairs = ((a, b) for i, a in enumerate(prints) for b in prints[:i])
    assert min(np.abs(a - b).sum() for a, b in pairs) > 2 * tool.NEAR
