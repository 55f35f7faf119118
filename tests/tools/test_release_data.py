"""What the release learns from: nothing off limits, and a sentence where something is missing."""

import gzip
import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPLITS = ROOT / "genre_utils" / "splits"
TEST_ID = (SPLITS / "imdb_test_ids.txt").read_text().split()[0]
VALIDATION_ID = (SPLITS / "imdb_validation_ids.txt").read_text().split()[0]
FORBIDDEN = "tt9000001"


def write_table(file, header, *rows):
    text = "\n".join([header, *rows]) + "\n"
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)


def write_posters(folder, ids):
    (folder / "Images").mkdir(parents=True)
    write_table(folder / "train.csv", "Id,Genre", *(f"{poster},Drama|War" for poster in ids))
    for poster in ids:
        (folder / "Images" / f"{poster}.jpg").write_bytes(b"")
    corners = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.2], [0.1, 0.2]]
    lines = [{"id": poster, "t": [["WORDS", 0.9, corners]]} for poster in ids]
    readings = "\n".join(map(json.dumps, lines)).encode()
    (folder / "poster_text.jsonl.gz").write_bytes(gzip.compress(readings))


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Two folders of posters, three tables of films, and a call that loads what is asked for."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "release"))
    data = importlib.import_module("data")
    write_posters(tmp_path / "posters", ["tt1", TEST_ID, VALIDATION_ID])
    write_posters(tmp_path / "more", ["tt2", FORBIDDEN, TEST_ID])
    films = tmp_path / "films"
    films.mkdir()
    write_table(
        films / "wikipedia.csv.gz",
        "Id,title,year,genres,cast",
        ",Nobody's Film,1999,Drama,A B|C D",
        ",The Validated,1999,Drama,A B",
        ",Too Old,1920,Drama,A B",
        ",Forbidden,1999,Drama,C D",
        ",FORBIDDEN!,1999,Drama,C D",
    )
    write_table(
        films / "imdb_titles.csv.gz",
        "Id,title,year,genres",
        f"{VALIDATION_ID},The Validated,1999,Drama",
        f"{FORBIDDEN},Forbidden,1999,Drama",
        "tt3,Third,2001,War",
    )
    write_table(films / "imdb_5000.csv.gz", "Id,title,year,genres,actors,director")
    (tmp_path / "off.txt").write_text(f"{FORBIDDEN}\n")

    def load(*folders):
        options = ["--posters", "posters", "--off-limits", "off.txt", "--out", "out"]
        options += [word for name in folders for word in (f"--{name}", name)]
        monkeypatch.chdir(tmp_path)
        return data.load(data.arguments("").parse_args(options))

    return load


def test_nothing_off_limits_is_learned_from_as_picture_title_or_text(load):
    data = load("more", "films")
    assert sorted(data.train) == ["tt1", "tt2"]
    assert data.validation == [VALIDATION_ID]
    assert set(data.lines) == {"tt1", "tt2", VALIDATION_ID}
    assert sorted(film.title for film in data.films) == ["Nobody's Film", "Third"]


def test_a_genre_that_a_table_cannot_know_is_left_out_of_the_loss_for_its_films(load):
    by_title = {film.title: film for film in load("films").films}
    assert by_title["Nobody's Film"].known.sum() == 20
    assert by_title["Third"].known.sum() == 24


def test_without_films_and_further_posters_the_public_ones_are_left(load):
    data = load()
    assert data.train == ["tt1"] and data.films == []


def test_labels_without_a_picture_are_counted_and_named(load, tmp_path, capsys):
    (tmp_path / "more" / "Images" / "tt2.jpg").unlink()
    assert load("more").train == ["tt1"]
    assert "1 labels without a picture, such as tt2, are left out" in capsys.readouterr().out


def test_another_table_and_a_missing_one_get_a_sentence(load, tmp_path):
    table = tmp_path / "films" / "imdb_titles.csv.gz"
    write_table(table, "tconst,primaryTitle,startYear,genres", "tt3,Third,2001,War")
    with pytest.raises(SystemExit, match="has no column 'Id': it needs Id, title, year, genres"):
        load("films")
    table.unlink()
    with pytest.raises(SystemExit, match="imdb_titles.csv.gz does not exist"):
        load("films")
