"""What the release learns from: nothing off limits, and a sentence where something is missing."""

import gzip
import importlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genre_utils.genres import IMDB_GENRES

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
        ",Of No Year,,Drama,C D",
        ",Of No Genre,1999,,C D",
        ",?,1999,Drama,C D",
        "tt3,Third,2001,War,E F",
        "tt4,Fourth,2001,War,E F",
    )
    write_table(
        films / "imdb_titles.csv.gz",
        "Id,title,year,genres",
        f"{VALIDATION_ID},The Validated,1999,Drama",
        f"{FORBIDDEN},Forbidden,1999,Drama",
        "tt3,Third,2001,War",
        "tt4,Fourth,2001,War|Telenovela",
    )
    write_table(
        films / "imdb_5000.csv.gz",
        "Id,title,year,genres,actors,director",
        "tt4,Fourth,2001,War,G H|I J,K L",
        "tt5,Fifth,1950,Drama,,",
    )
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
    titles = {film.title for film in data.films}
    assert titles == {"Nobody's Film", "Third", "Fourth", "Fifth"}


def test_a_genre_that_a_table_cannot_know_is_left_out_of_the_loss_for_its_films(load):
    films = {film.id: film for film in load("films").films}
    unknown = {IMDB_GENRES[i] for i in np.flatnonzero(films[""].known == 0)}
    assert unknown == {"Music", "News", "Reality-TV", "Short"}
    assert films["tt3"].known.sum() == 24


def test_a_film_has_the_names_of_the_table_that_has_most_and_genres_of_ours(load):
    films = {film.id: film for film in load("films").films}
    assert films["tt3"].names == ["E F"]  # Wikipedia's
    assert films["tt4"].names == ["G H", "I J", "K L"]
    assert films["tt5"].names == []
    assert films["tt4"].labels.sum() == 1 and films["tt4"].labels[IMDB_GENRES.index("War")] == 1


def test_genres_that_are_none_of_ours_are_no_labels(load, tmp_path):
    table = tmp_path / "posters" / "train.csv"
    table.write_text(table.read_text().replace("tt1,Drama|War", "tt1,Drama|Telenovela"))
    table = tmp_path / "more" / "train.csv"
    table.write_text(table.read_text().replace("tt2,Drama|War", "tt2,Telenovela"))
    data = load("more")
    assert data.train == ["tt1"]
    assert data.labels["tt1"].sum() == 1


def test_a_film_is_written_with_some_of_its_names_and_never_without_any_word(load):
    film = {film.id: film for film in load("films").films}["tt4"]
    assert film.names == ["G H", "I J", "K L"]
    release = importlib.import_module("data")
    written = [release.as_on_a_poster(film, random.Random(i)) for i in range(200)]
    assert all(written) and len(set(written)) > 30
    assert any("Fourth" not in text for text in written)
    assert any(text.startswith("Fourth ") for text in written)
    assert any(text.endswith(" Fourth") for text in written)
    assert any(glued in text for text in written for glued in ("GH", "IJ", "KL"))
    names = [f"{letter} B" for letter in "CDEFGHIJ"]
    many, none = replace(film, names=names), replace(film, names=[])
    counts = [release.as_on_a_poster(many, random.Random(i)).count("B") for i in range(200)]
    assert {*counts} == {*range(6)}
    assert {release.as_on_a_poster(none, random.Random(i)) for i in range(200)} == {"Fourth"}


def test_a_poster_s_text_is_what_was_read_on_it_and_empty_without_a_reading(load):
    data = load("more")
    unread = replace(data, lines={"tt1": data.lines["tt1"]})
    assert importlib.import_module("data").texts(unread, ["tt2", "tt1"]) == ["", "WORDS"]
    assert data.lines["tt1"][0].confidence == 0.9


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
    sentence = "imdb_titles.csv.gz has no column 'Id': it needs Id, title, year, genres"
    with pytest.raises(SystemExit, match=sentence):
        load("films")
    table.unlink()
    with pytest.raises(SystemExit, match="imdb_titles.csv.gz does not exist"):
        load("films")
    (tmp_path / "posters" / "poster_text.jsonl.gz").unlink()
    with pytest.raises(SystemExit, match="poster_text.jsonl.gz does not exist: it holds the words"):
        load()
    (tmp_path / "off.txt").unlink()
    with pytest.raises(SystemExit, match="off.txt does not exist: give a file of ids"):
        load()
