"""Tables and folders as people have them: the right labels, or one sentence that says why not."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import genre_utils
from genre_utils.dataset import split_posters
from genre_utils.sources.pictures import last_part, normal_id
from genre_utils.support import DataError

FILMS = [f"tt{86001 + 7 * i:07d}" for i in range(40)]
GENRES = [
    [["Comedy"], ["Drama"], ["Drama", "War"], ["Comedy", "Sci-Fi"], ["War"]][i % 5]
    for i in range(40)
]
ALL = ("Comedy", "Drama", "Sci-Fi", "War")
ONE_HOT = [",".join(str(int(name in g)) for name in ALL) for g in GENRES]


@pytest.fixture
def load(tmp_path):
    """Write a table and pictures, and load both; returns the data."""

    def load(table: str | bytes, pictures=None, name: str = "train.csv"):
        pictures = [f"Images/{film}.jpg" for film in FILMS] if pictures is None else pictures
        for number, picture in enumerate(pictures):
            file = tmp_path / picture
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                shade = Image.new("RGB", (20, 30), (number, 2 * number % 256, 7))
                shade.save(file, "PNG" if file.suffix == ".png" else "JPEG")
        (tmp_path / name).write_bytes(table if isinstance(table, bytes) else table.encode())
        return genre_utils.load_dataset(str(tmp_path))

    return load


def labels_of(data) -> dict[str, list[str]]:
    rows = data.posters.to_dict("records")
    return {Path(row["path"]).stem.lower(): [g for g in data.genres if row[g]] for row in rows}


def finding(data, start: str) -> list[str]:
    (names,) = (names for what, names in data.audit.findings.items() if what.startswith(start))
    return names


def names_table(cells, ids=FILMS, header="Id,Genre") -> str:
    quoted = (str(cell).replace('"', '""') for cell in cells)
    return header + "\n" + "".join(f'{i},"{c}"\n' for i, c in zip(ids, quoted, strict=False))


def marks_table(cells=ONE_HOT, header="Id,Comedy,Drama,Sci-Fi,War") -> str:
    return header + "\n" + "".join(f"{i},{c}\n" for i, c in zip(FILMS, cells, strict=True))


TRUTH = dict(zip(FILMS, GENRES, strict=True))


# Cells of names


@pytest.mark.parametrize(
    "write",
    [
        "/".join,
        ";".join,
        " & ".join,
        " and ".join,
        " - ".join,
        " / ".join,
        " > ".join,
        "\n".join,
        "，".join,
        " ".join,
        lambda g: "{" + ",".join(g) + "}",
        lambda g: str(set(g)),
        lambda g: str(g).replace(",", ""),
        lambda g: f"array({g}, dtype=object)",
        lambda g: json.dumps(g),
        lambda g: json.dumps([{"id": 7, "name": x} for x in g]),
        lambda g: str([{"name": x.replace("Sci-Fi", "Science Fiction")} for x in g]),
        lambda g: str({f"/m/{n}": x for n, x in enumerate(g)}),
        lambda g: str([{"genre": x} for x in g]),
        "".join,
        lambda g: " ".join(f"#{x}" for x in g),
        lambda g: ", ".join(x.lower() for x in g) + ",",
        lambda g: "|".join(f" {x.upper().replace('-', ' ')} " for x in g),
        lambda g: f"'{g[0]}'" if len(g) == 1 else ";".join(g),
        lambda g: "; ".join(g) if "War" in g else " | ".join(g),
        " et ".join,
        " &amp; ".join,
        "~".join,
        "::".join,
    ],
)
def test_every_usual_way_to_write_genres_gives_the_same_labels(load, write):
    data = load(names_table(map(write, GENRES)))
    assert labels_of(data) == TRUTH and data.genres == ALL


@pytest.mark.parametrize(
    "column", ["genres", "label", "tags", "Category", "listed_in", "genre_ids"]
)
def test_columns_of_genres_are_known_by_name(load, column):
    table = names_table(["|".join(g) for g in GENRES], header=f"Id,{column}")
    if column == "genre_ids":
        with pytest.raises(DataError, match="no 0/1 columns and no column named"):
            load(table)
    else:
        assert labels_of(load(table)) == TRUTH


def test_numbered_columns_are_one(load):
    rows = [[*g, "", ""][:3] for g in GENRES]
    for names in (
        ["genre_1", "genre_2", "Genre 3"],
        ["primary_genre", "Secondary Genre", "tertiary_genre"],
        ["genre[0]", "genre[1]", "genre[2]"],
    ):
        table = pd.DataFrame(rows, FILMS, names).to_csv(index_label="Id")
        assert labels_of(load(table)) == TRUTH


def test_of_a_main_genre_and_all_genres_all_count(load):
    rows = {"genre": [g[0] for g in GENRES], "genres": ["|".join(g) for g in GENRES]}
    data = load(pd.DataFrame(rows, FILMS).to_csv(index_label="Id"))
    assert labels_of(data) == TRUTH and finding(data, "columns not used") == ["'genre'"]


def test_one_genre_in_several_spellings_is_one_and_said_once(load):
    spellings = ["Drama", "drama", " DRAMA", "Drama.", "Film Noir", "film-noir", "Sci Fi", "Gialli"]
    more = ["Science Fiction", "gialli", "sport", "Sports", "Kitsch", "kitsch", "kitsch"]
    data = load(names_table([*more, *spellings * 4]))
    assert data.genres == ("Drama", "Sci-Fi", "Sport", "Film-Noir", "Gialli", "kitsch")
    joined = finding(data, "spellings of genres")
    assert {"drama = Drama", "gialli = Gialli", "Science Fiction = Sci-Fi"} <= {*joined}
    assert "Kitsch = kitsch" in joined, "the commoner one counts"
    assert len(joined) == len({*joined})


def test_a_mistyped_genre_is_asked_for_and_never_changed(load):
    cells = ["Comdey", "Drama", "Comedy|Cowboys", "Sci Fy|Drama", "Comdey", *GENRES[5:]]
    data = load(names_table(map(str, cells)))
    assert {"Comdey", "Cowboys", "Sci Fy"} <= {*data.genres}
    asked = finding(data, "genres that may be mistyped")
    assert asked == ["Comdey (2): is Comedy meant?", "Sci Fy (1): is Sci-Fi meant?"]
    assert not finding(load(names_table(GENRES)), "genres that may be mistyped")
    data = load(names_table(["Heist", "Hiest", "Noirish", *["Heist"] * 9, *["Kitsch"] * 9]))
    assert not finding(data, "genres that may be mistyped")
    rows = "tt0086001,1,0,0\ntt0086002,0,0,1\ntt0086003,0,0,1\n"
    data = load(f"Id,Kult A,Kult B,Drama\n{rows}")
    assert not finding(data, "genres that may be mistyped")
    data = load(names_table(["Hiest", "Noirish", *["Heist"] * 11, *["Kitsch"] * 11]))
    assert finding(data, "genres that may be mistyped") == ["Hiest (1): is Heist meant?"]


@pytest.mark.parametrize(
    "missing",
    [
        "-",
        "?",
        "unknown",
        "(no genres listed)",
        "TBD",
        "N/A",
        "tba",
        "\\N",
        "[]",
        "nan",
        "Unclassified",
    ],
)
def test_words_for_no_genre_are_no_genre(load, missing):
    data = load(names_table([missing, *["|".join(g) for g in GENRES[1:]]]))
    assert labels_of(data) == TRUTH | {FILMS[0]: []}
    assert finding(data, "posters without a real genre") == [FILMS[0]]


def test_a_slash_between_strange_names_is_a_separator_where_both_stand_elsewhere(load):
    data = load(names_table(["Anime/Mecha", "Anime/Isekai", "Mecha/Isekai", "Anime"] * 10))
    assert data.genres == ("Anime", "Isekai", "Mecha")
    assert labels_of(data)[FILMS[1]] == ["Anime", "Isekai"]


@pytest.mark.parametrize("mark", ["~", ":", "_", " "])
def test_other_marks_part_strange_names_that_stand_elsewhere_and_it_is_said(load, mark):
    data = load(names_table([f"Anime{mark}Mecha", "Anime", "Mecha", "Martial Arts"] * 10))
    assert data.genres == ("Anime", "Martial Arts", "Mecha")
    assert labels_of(data)[FILMS[0]] == ["Anime", "Mecha"]
    assert finding(data, "names that were parted") == [f"Anime{mark}Mecha = Anime, Mecha"]


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (["Foo/Bar"] * 20 + ["Drama"] * 20, "line 2: 'Foo/Bar' in the column 'Genre' may be one"),
        (["Drama"] * 20 + ["Western - Spaghetti"] * 20, "line 22: 'Western - Spaghetti'"),
        (["Comedy (Romantic)"] * 20 + ["Drama"] * 20, "20 of 40 cells .* 'Comedy .Romantic.'"),
        (["18, 10752", "35"] * 20, "cannot be read, such as line 2, '18, 10752'"),
        ([f"a story of {i} men" for i in range(40)], "gives 40 genres for 40 posters"),
    ],
)
def test_what_is_no_list_of_genres_is_refused_and_shown(load, cells, sentence):
    with pytest.raises(DataError, match=sentence):
        load(names_table(cells))


def test_many_genres_that_nobody_knows_are_genres_where_each_has_several_posters(load):
    data = load(names_table([f"Kult{letter}" for letter in "abcdefghijkl" for _ in range(3)]))
    assert len(data.genres) == 12


def test_one_cell_that_cannot_be_read_leaves_its_poster_out_and_no_other(load):
    data = load(names_table(["['Drama'", *["|".join(g) for g in GENRES[1:]]]))
    assert labels_of(data) == {film: g for film, g in TRUTH.items() if film != FILMS[0]}
    assert finding(data, "genre cells that cannot be read") == ["line 2: \"['Drama'\""]


# 0/1 columns


@pytest.mark.parametrize("odd", ["nan", "x", "2", "0.5", "?"])
def test_an_odd_cell_leaves_out_its_poster_and_keeps_the_genre(load, odd):
    cells = [*ONE_HOT]
    cells[3] = cells[3].replace("0", odd, 1)
    data = load(marks_table(cells))
    assert labels_of(data) == {film: g for film, g in TRUTH.items() if film != FILMS[3]}
    assert finding(data, "0/1 cells that are neither") == [f"line 5: Drama {odd!r}"]


def test_an_odd_cell_of_a_strange_genre_leaves_out_its_poster_alone(load):
    cells = [*ONE_HOT[:3], "1,?,1,0", *ONE_HOT[4:]]
    data = load(marks_table(cells, "Id,Comedy,Heist,Sci-Fi,War"))
    assert "Heist" in data.genres and FILMS[3] not in labels_of(data) and len(data.posters) == 39


def test_scores_under_the_name_of_a_genre_are_refused_beside_its_names_too(load):
    rows = "".join(f"{film},0.7,{'|'.join(g)}\n" for film, g in TRUTH.items())
    with pytest.raises(DataError, match="line 2: the column 'War' holds '0.7', neither 0 nor 1"):
        load(f"Id,War,Genre\n{rows}")


def test_a_column_of_odd_cells_is_refused(load):
    with pytest.raises(DataError, match="line 2: the column 'Comedy' holds '0.9', neither 0"):
        load(
            marks_table(
                [c.replace("1", "0.9", 1) if i % 3 == 0 else c for i, c in enumerate(ONE_HOT)]
            )
        )


@pytest.mark.parametrize(
    ("on", "off"),
    [("yes", "no"), ("TRUE", "FALSE"), ("1.0", "0.00"), ("x", ""), ("✓", ""), ("T", "F")],
)
def test_other_ways_to_say_yes_and_no(load, on, off):
    cells = [",".join(on if mark == "1" else off for mark in c.split(",")) for c in ONE_HOT]
    assert labels_of(load(marks_table(cells))) == TRUTH


def test_crosses_mark_genres_that_nobody_knows_too(load):
    cells = [c.replace("1", "x").replace("0", "") for c in ONE_HOT]
    data = load(marks_table(cells, "Id,Comedy,Heist,Sci-Fi,War"))
    assert data.genres == ("Comedy", "Sci-Fi", "War", "Heist")
    assert data.posters["Heist"].sum() == 16


def test_a_column_of_zeros_and_blanks_is_no_genre(load):
    rows = [f"{c},{'0' if i % 3 else ''}" for i, c in enumerate(ONE_HOT)]
    data = load(marks_table(rows, "Id,Comedy,Drama,Sci-Fi,War,Awards"))
    assert data.genres == ALL and labels_of(data) == TRUTH


def test_many_rows_with_blanks_beside_zeros_are_refused(load):
    cells = [c.rsplit(",", 1)[0] if i % 8 == 2 else c for i, c in enumerate(ONE_HOT)]
    with pytest.raises(DataError, match="5 rows .* blank, such as line 4: War. Write 0"):
        load(marks_table(cells))


@pytest.mark.parametrize(
    ("end", "header", "sentence"),
    [
        (";", "War", "line 2: the column 'War' holds '0;', neither 0 nor 1 as the columns"),
        (",1", "War,War.1", "two columns named 'War', of which pandas called one 'War.1'"),
    ],
)
def test_no_genre_is_lost_or_doubled_among_0_1_columns(load, end, header, sentence):
    with pytest.raises(DataError, match=sentence):
        load(marks_table([c + end for c in ONE_HOT], f"Id,Comedy,Drama,Sci-Fi,{header}"))


@pytest.mark.parametrize("name", ["{}_genre", "{} Genre", "Genre: {}", "is_{}", "label.{}"])
def test_columns_named_for_a_genre_are_that_genre(load, name):
    header = ",".join(["Id", *(name.format(genre) for genre in ALL)])
    assert labels_of(load(marks_table(header=header))) == TRUTH


def test_flags_are_left_out_and_strange_genres_are_named(load):
    rows = [f"{c},1,{i % 2},{i % 5 % 2},{i % 3 % 2}" for i, c in enumerate(ONE_HOT)]
    header = "Id,comedy,genre_Drama,SciFi,War,Is_Test,adult,Label,heist"
    data = load(marks_table(rows, header))
    assert data.genres == (*ALL[:3], "War", "heist")
    assert finding(data, "0/1 columns that are no genres") == ["Is_Test", "Label", "adult"]
    assert finding(data, "0/1 columns taken as genres that IMDb") == ["heist"]
    assert "SciFi = Sci-Fi" in finding(data, "spellings of genres")


@pytest.mark.parametrize("form", ["genre_{}", "is_{}", "{} genre"])
def test_a_strange_genre_loses_what_is_around_the_known_ones(load, form):
    header = ",".join(form.format(name) for name in ("Comedy", "Heist", "Sci-Fi", "War"))
    assert set(load(marks_table(header=f"Id,{header}")).genres) == {
        "Comedy",
        "Heist",
        "Sci-Fi",
        "War",
    }


def test_what_is_no_name_without_its_affix_keeps_it(load):
    names = ("Comedy", "poster", "1", "War")
    data = load(marks_table(header=",".join(["Id", *(f"genre_{name}" for name in names)])))
    assert set(data.genres) == {"Comedy", "genre_poster", "genre_1", "War"}


def test_a_strange_0_1_column_beside_a_column_of_genres_is_said(load):
    rows = [f'{c},1,"{"|".join(g)}"' for c, g in zip(ONE_HOT, GENRES, strict=True)]
    data = load(marks_table(rows, f"Id,{','.join(ALL)},heist,Genre"))
    assert labels_of(data) == TRUTH
    assert finding(data, "0/1 columns that are no genre in 'Genre' (not used)") == ["heist"]
    assert finding(data, "0/1 columns taken as genres that IMDb") == []
    assert finding(data, "columns not used") == []


def test_columns_of_known_genres_win_over_tags(load):
    rows = [f'{c},"war, keyword {i}, based on a novel"' for i, c in enumerate(ONE_HOT)]
    for column in ("tags", "Keywords", "labels"):
        data = load(marks_table(rows, f"Id,{','.join(ALL)},{column}"))
        assert labels_of(data) == TRUTH and finding(data, "columns not used") == [f"'{column}'"]


def test_tags_that_are_others_than_the_genres_are_no_contradiction(load):
    rows = "".join(f"{film},{'|'.join(g)},heist|based on a novel\n" for film, g in TRUTH.items())
    data = load(f"Id,Genre,tags\n{rows}")
    assert labels_of(data) == TRUTH and finding(data, "columns not used") == ["'tags'"]


def test_a_main_genre_beside_the_columns_is_said(load):
    rows = [f"{c},{g[0]}" for c, g in zip(ONE_HOT, GENRES, strict=True)]
    data = load(marks_table(rows, f"Id,{','.join(ALL)},Genre"))
    assert labels_of(data) == TRUTH
    printed = finding(data, "rows whose 'Genre' names fewer")
    assert len(printed) == 16 and printed[0] == "line 4: Drama / Drama, War"


def test_where_the_names_are_always_some_of_the_columns_the_columns_count(load):
    all_of = [["Comedy", "Drama", "War"] if len(g) == 2 else g for g in GENRES]
    cells = [",".join(str(int(name in g)) for name in ALL) for g in all_of]
    rows = [f"{c},{'|'.join(g[:2])}" for c, g in zip(cells, all_of, strict=True)]
    data = load(marks_table(rows, f"Id,{','.join(ALL)},Genre"))
    assert labels_of(data) == dict(zip(FILMS, all_of, strict=True))
    assert len(finding(data, "rows whose 'Genre' names fewer")) == 16


def test_a_genre_without_a_column_and_a_column_without_a_poster_are_genres(load):
    listed = [["Comedy", "Heist"] if g == ["Comedy"] else g for g in GENRES]
    listed[2] = ["Drama"]  # and its columns say War, too
    rows = [f"{c},0,{'|'.join(g)}" for c, g in zip(ONE_HOT, listed, strict=True)]
    data = load(marks_table(rows, f"Id,{','.join(ALL)},Western,Genre"))
    assert data.genres == ("Comedy", "Drama", "Sci-Fi", "War", "Western", "Heist")
    truth = dict(zip(FILMS, listed, strict=True))
    assert labels_of(data) == {film: g for film, g in truth.items() if film != FILMS[2]}
    assert finding(data, "rows whose 'Genre' contradicts") == ["line 4: Drama / Drama, War"]


def test_a_name_that_contradicts_the_columns_is_left_out_with_both(load):
    listed = ["|".join(g) for g in GENRES]
    listed[1] = "War"
    rows = [f"{c},{names}" for c, names in zip(ONE_HOT, listed, strict=True)]
    data = load(marks_table(rows, f"Id,{','.join(ALL)},Genre"))
    assert labels_of(data) == {film: g for film, g in TRUTH.items() if film != FILMS[1]}
    assert finding(data, "rows whose 'Genre' contradicts") == ["line 3: War / Drama"]
    rows = [f"{c},{names}" for c, names in zip(ONE_HOT, listed[1:] + listed[:1], strict=True)]
    with pytest.raises(DataError, match="column 'Genre' and the 0/1 columns contradict"):
        load(marks_table(rows, f"Id,{','.join(ALL)},Genre"))


# Rows


@pytest.mark.parametrize("end", [",", ",,", ", "])
def test_commas_at_the_end_of_rows_move_no_label(load, end):
    for some in (1, 2):
        rows = [c + end if i % some == 0 else c for i, c in enumerate(ONE_HOT)]
        assert labels_of(load(marks_table(rows))) == TRUTH


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            "Id,Genre\ntt1,Drama\ntt2,Drama, War\n",
            "line 3 has 3 cells and the header has 2: put quotes",
        ),
        ("Id;Genre\ntt1;Drama\ntt2;Drama;War\n", "line 3 has 3 .* holds a semicolon"),
        (marks_table([f"{c},7" for c in ONE_HOT]), "line 2 has 6 cells and the header has 5"),
        ('Id,Genre\ntt1,"Drama\ntt2,War\ntt3,War\n', "line 2: a quote is opened and not closed"),
        ('Id,Genre\ntt1,"Drama\ntt2,"War"\ntt3,War\n', "line 2: a quote is opened and not closed"),
        (b"PK\x03\x04 rest of a workbook", "is an Excel workbook or a zip file, whatever its name"),
        (b"\xd0\xcf\x11\xe0 rest of an older one", "is an Excel workbook, whatever its name"),
        (b"PAR1 rest of the columns", "is a Parquet file, whatever its name"),
        (b"<!DOCTYPE html><html>sign in</html>", "is a web page, whatever its name"),
        (b"\xef\xbb\xbf<html>sign in</html>", "is a web page, whatever its name"),
        ("tt0086001,Drama\ntt0086008,War\n", "has no header: its first line is a poster's"),
        ("p1.jpg,Drama|War\np2.jpg,War\n", "has no header"),
    ],
)
def test_a_table_whose_cells_cannot_be_told_apart_is_one_sentence(load, table, sentence):
    with pytest.raises(DataError, match=sentence):
        load(table)


def test_excel_s_hint_on_the_separator_is_no_header(load):
    text = "sep=;\nId;Genre\n" + "".join(f"{i};{'|'.join(g)}\n" for i, g in TRUTH.items())
    assert labels_of(load(text)) == TRUTH
    with pytest.raises(DataError, match="line 3: 'Foo/Bar'"):
        load(text.replace("Comedy", "Foo/Bar", 1))


def test_blanks_after_commas_and_quotes_in_imdb_s_tables_are_read(load):
    text = "Id, Genre\n" + "".join(f'{i}, "{", ".join(g)}"\n' for i, g in TRUTH.items())
    assert labels_of(load(text)) == TRUTH


def test_a_tsv_is_a_table_in_which_a_quote_is_a_letter(load):
    titles = ['"Giliap', "Rome", '"Q" Show', 'Last"']
    rows = [f"{i}\t{titles[n % 4]}\t0\t{','.join(g)}\n" for n, (i, g) in enumerate(TRUTH.items())]
    table = "tconst\tprimaryTitle\tisAdult\tgenres\n" + "".join(rows)
    assert labels_of(load(table, name="title.basics.tsv")) == TRUTH


@pytest.mark.parametrize("columns", [("Id", "Title", "Genre"), ("Title", "Genre", "Id")])
def test_no_row_is_lost_between_two_stray_quotes(load, columns, tmp_path):
    titles = {3: '"Crocodile', 9: '12" Single', 12: '"', 15: 'Dundee"'}
    cells = [(film, titles.get(i, "Rome"), CELLS[i]) for i, film in enumerate(FILMS)]
    rows = [dict(zip(("Id", "Title", "Genre"), row, strict=True)) for row in cells]
    lines = ["\t".join(columns), *("\t".join(row[c] for c in columns) for row in rows)]
    assert labels_of(load("\n".join(lines), name="train.tsv")) == TRUTH
    if columns[2] == "Genre":  # in a CSV a quoted cell of several lines is fine
        (tmp_path / "train.tsv").unlink()
        with pytest.raises(DataError, match="line 5: a quote is opened and not closed"):
            load("\n".join(lines).replace("\t", ","))


@pytest.mark.parametrize(("name", "mark"), [("train.tsv", "\t"), ("train.csv", ",")])
def test_a_cell_of_several_lines_may_hold_tabs_and_end_in_blanks(load, name, mark):
    texts = ["One.\n\tTwo.", "A\nB\nC\tD", "\n", "plain"]
    blank = "  " * (mark == ",")
    rows = [(film, f'"{texts[i % 4]}"{blank}', CELLS[i]) for i, film in enumerate(FILMS)]
    table = "\n".join(mark.join(row) for row in [("Id", "Plot", "Genre"), *rows])
    assert labels_of(load(table, name=name)) == TRUTH


def test_one_row_a_genre_is_merged(load):
    pairs = [(film, name) for film, g in TRUTH.items() for name in g]
    data = load("Id,Genre\n" + "".join(f"{i},{name}\n" for i, name in pairs))
    assert labels_of(data) == TRUTH
    assert len(finding(data, "posters of several rows")) == 16


def test_a_few_rows_of_other_genres_are_no_join(load):
    data = load(names_table([g[0] for g in GENRES]) + f"{FILMS[1]},War\n")
    assert finding(data, "posters whose rows contradict") == [f"{FILMS[1]}: Drama / War"]
    assert FILMS[1] not in labels_of(data) and not finding(data, "posters of several rows")


def test_rows_that_contradict_each_other_are_named_with_both(load):
    good = names_table(["|".join(g) for g in GENRES])
    data = load(good + f"{FILMS[2]},Comedy\n{FILMS[1]},Drama\n{FILMS[0]},\n")
    assert labels_of(data) == {film: g for film, g in TRUTH.items() if film != FILMS[2]}
    assert finding(data, "posters whose rows contradict") == [f"{FILMS[2]}: Drama, War / Comedy"]
    assert finding(data, "rows whose id stood before") == [FILMS[0], FILMS[1]]
    with pytest.raises(DataError, match="line 2 .Comedy. and line 42 .Comedy, War."):
        load(good + names_table([f"{'|'.join(g)}|War" for g in GENRES]).split("\n", 1)[1])


def test_one_picture_with_many_sets_of_genres_is_named(load, tmp_path):
    (tmp_path / "Images").mkdir()
    for film in FILMS[:6]:
        Image.new("RGB", (9, 9), "gray").save(tmp_path / "Images" / f"{film}.jpg")
    data = load(names_table(["|".join(g) for g in GENRES]))
    assert finding(data, "pictures with many different sets") == [f"{FILMS[0]} (5 sets)"]


# Ids and files

CELLS = ["|".join(g) for g in GENRES]


@pytest.mark.parametrize(
    "file", ["Images/tt{}.jpg", "Images/{}.jpg", "posters/a/b/c/d/tt{}.jpeg", "tt{}.png"]
)
@pytest.mark.parametrize(
    "write",
    [
        lambda i: int(i[2:]),
        lambda i: f"{int(i[2:])}.0",
        lambda i: i[2:],
        str.upper,
        lambda i: f"{i}.JPG",
        lambda i: rf"C:\posters\{i}.jpg",
        lambda i: f"/content/drive/MyDrive/x/{i}.jpg",
        lambda i: f"https://example.org/p/{i}.jpg?size=300&v=1",
        lambda i: f"http://www.imdb.com/title/{i}/",
        lambda i: f"https://www.imdb.com/title/{i}/?ref_=x",
    ],
)
def test_ids_in_any_spelling_find_their_pictures(load, write, file):
    pictures = [file.format(film[2:]) for film in FILMS]
    data = load(names_table(CELLS, map(write, FILMS), "imdb_link,Genre"), pictures)
    assert {normal_id(film): g for film, g in labels_of(data).items()} == TRUTH
    assert not finding(data, "rows without a picture")


@pytest.mark.parametrize(
    "column", ["poster_path", "Imdb Link", "image_name", "img-name", "filmtitle"]
)
def test_columns_of_ids_are_known_by_name_or_by_what_they_find(load, column):
    assert labels_of(load(names_table(CELLS, header=f"{column},Genre"))) == TRUTH


def test_a_column_of_ids_that_finds_nothing_gives_way_to_one_that_names_the_files(load):
    rows = [f"9{i:04},{film},{'|'.join(GENRES[i])}\n" for i, film in enumerate(FILMS)]
    assert labels_of(load("id,filmtitle,Genre\n" + "".join(rows))) == TRUTH


def test_of_two_id_columns_the_one_that_writes_the_files_names_counts(load):
    numbers = [str(int(film[2:])) for film in FILMS[1:] + FILMS[:1]]  # another catalogue's
    rows = [f"{n},{i},{'|'.join(g)}\n" for n, (i, g) in zip(numbers, TRUTH.items(), strict=True)]
    assert labels_of(load("id,imdb_id,Genre\n" + "".join(rows))) == TRUTH


def test_a_running_number_does_not_win_over_the_pictures_names(load):
    pictures = [f"Images/{i}.jpg" for i in range(40)]
    rows = [f"{i},{39 - i}.jpg,{'|'.join(g)}\n" for i, g in enumerate(GENRES)]
    truth = {str(39 - i): sorted(g) for i, g in enumerate(GENRES)}
    assert labels_of(load("Id,filename,Genre\n" + "".join(rows), pictures)) == truth
    swapped = [",".join(row.split(",")[i] for i in (1, 0, 2)) for row in rows]
    assert labels_of(load("filename,poster,Genre\n" + "".join(swapped), pictures)) == truth
    both = "".join(row.replace(".jpg", "") for row in rows)
    with pytest.raises(DataError, match=r"line 2: .*'id' \('0'\) and 'poster' \('39'\) name two"):
        load("id,poster,Genre\n" + both, pictures)


def test_a_picture_in_another_folder_than_the_row_says_is_another_s(load):
    pictures = [f"Images/{place}.jpg" for place in ("a/1", "a/2", "a/3", "b/1", "c/b/1")]
    table = 'filename,Genre\na/1.jpg,Drama\nb/2.jpg,War\nb/1.jpg,War\n"a\\3.jpg",Drama\n,War\n'
    data = load(table, pictures)
    labels = {
        Path(p).parts[-2:]: bool(drama) for p, drama in data.posters[["path", "Drama"]].values
    }
    assert labels == {("a", "1.jpg"): True, ("b", "1.jpg"): False, ("a", "3.jpg"): True}
    assert finding(data, "rows without a picture") == ["b/2.jpg", "line 6"]
    assert finding(data, "pictures without a row") == ["a/2.jpg", "c/b/1.jpg"]


@pytest.mark.parametrize("root", ["posters/", "/home/me/old/", "D:\\old\\", "https://a.org/p/"])
def test_the_folder_of_all_pictures_may_have_another_name(load, root):
    names = [f"{'extra/' * (i % 3 == 0)}{film}.jpg" for i, film in enumerate(FILMS)]
    ids = [root + (name.replace("/", "\\") if "\\" in root else name) for name in names]
    data = load(names_table(CELLS, ids), [f"Images/{name}" for name in names])
    assert labels_of(data) == TRUTH and not finding(data, "rows without a picture")


def test_two_sizes_of_a_picture_are_no_contradiction(load):
    pictures = [f"Images/{size}/{film}.jpg" for size in ("small", "large") for film in FILMS]
    rows = [f"small/{i}.jpg,large/{i}.jpg,{'|'.join(g)}\n" for i, g in TRUTH.items()]
    data = load("path,imagepath,Genre\n" + "".join(rows), pictures)
    assert labels_of(data) == TRUTH


def test_folders_whose_names_differ_in_case_are_told_apart(load):
    names = [f"Images/{folder}/{film}.jpg" for folder in ("a", "A") for film in FILMS[:20]]
    ids = [name.removeprefix("Images/") for name in names]
    data = load(names_table(CELLS, ids), names)
    assert len(data.posters) == 40 and not finding(data, "ids with pictures in two folders")


def test_pictures_whose_names_differ_in_case_are_told_apart(load):
    ids = [name for film in FILMS[:20] for name in (film, film.upper())]
    data = load(names_table(CELLS, ids), [f"Images/{name}.jpg" for name in ids])
    assert [Path(path).stem for path in data.posters["path"]] == ids


def test_a_folder_above_counts_whatever_its_case(load):
    names = [f"Images/{place}/s/{film}.jpg" for place in ("old", "new") for film in FILMS[:20]]
    data = load(names_table(CELLS[:20], [f"Old/s/{film}.jpg" for film in FILMS[:20]]), names)
    assert {Path(path).parts[-3] for path in data.posters["path"]} == {"old"}


def test_a_name_that_begins_with_a_quote_is_found_as_it_stands(load):
    data = load("Id,Genre\n'71.jpg,War\nb.jpg,Drama\n", ["'71.jpg", "71.jpg", "b.jpg"])
    assert labels_of(data) == {"'71": ["War"], "b": ["Drama"]}


def test_pictures_without_an_ending_are_opened(load, tmp_path):
    (tmp_path / "Images").mkdir()
    for film, kind in zip(FILMS, ("PNG", "GIF", "BMP", "WEBP"), strict=False):
        Image.new("RGB", (9, 9)).save(tmp_path / "Images" / film, kind)
    for ids in (FILMS, [film[2:] for film in FILMS]):
        data = load(names_table(CELLS, ids), [f"Images/{film}" for film in FILMS])
        assert labels_of(data) == TRUTH


def test_two_files_for_one_id_are_named(load):
    usual = [f"Images/{film}.jpg" for film in FILMS]
    data = load(
        names_table(CELLS), [*usual, f"Images/{FILMS[0]}.png", f"Images/old/{FILMS[1]}.jpg"]
    )
    assert labels_of(data) == TRUTH
    printed = finding(data, "ids with two pictures")
    assert printed[0] == f"{FILMS[0]}: {FILMS[0]}.jpg and {FILMS[0]}.png"
    assert printed[1] == f"{FILMS[1]}: {FILMS[1]}.jpg and old/{FILMS[1]}.jpg"


def test_two_folders_with_the_same_names_are_both_named_or_told_apart(load):
    names = [f"Images/{folder}/{film}.jpg" for folder in ("a", "b") for film in FILMS[:20]]
    with pytest.raises(DataError, match=r"20 ids stand in two folders.*Images/a' and '.*Images/b'"):
        load(names_table(CELLS[:20]), names)
    ids = [f"b/{film}.jpg" for film in FILMS[:20]]
    data = load(names_table(CELLS[:20], ids), names)
    assert {Path(path).parent.name for path in data.posters["path"]} == {"b"}


def test_of_few_ids_in_two_folders_each_is_left_out_and_said(load):
    names = [f"Images/a/{film}.jpg" for film in FILMS[:20]]
    data = load(names_table(CELLS[:20]), [*names, f"Images/b/{FILMS[0]}.jpg"])
    assert labels_of(data) == {film: TRUTH[film] for film in FILMS[1:20]}
    printed = finding(data, "ids with pictures in two folders")
    assert printed == [f"{FILMS[0]}: a/{FILMS[0]}.jpg and b/{FILMS[0]}.jpg"]
    with pytest.raises(DataError, match="12 ids stand in two folders"):
        load(names_table(CELLS[:20]), [f"Images/b/{film}.jpg" for film in FILMS[:12]])


@pytest.mark.parametrize(
    ("folder", "written"), [("e\u0301", "\xe9"), ("my posters", "my%20posters")]
)
def test_a_folder_s_name_may_be_spelled_as_a_mac_or_an_address_spells_it(load, folder, written):
    names = [f"Images/{place}/{film}.jpg" for place in (folder, "b") for film in FILMS[:20]]
    data = load(names_table(CELLS[:20], [f"{written}/{film}.jpg" for film in FILMS[:20]]), names)
    assert {Path(path).parent.name for path in data.posters["path"]} == {folder}
    assert len(data.posters) == 20


def test_what_is_not_read_beside_a_picture_is_no_second_picture(load):
    usual = [f"Images/{film}.jpg" for film in FILMS]
    data = load(names_table(CELLS), [f"Images/{FILMS[0]}.heic", *usual])
    assert labels_of(data) == TRUTH and not finding(data, "ids with two pictures")


def test_no_picture_found_shows_an_id_beside_a_file(load):
    with pytest.raises(DataError, match=r"has a picture .*'Id' says 'q0', .*40 .*'tt0086001.jpg'"):
        load(names_table(CELLS, [f"q{i}" for i in range(40)]))


def test_other_tables_are_named(load, tmp_path):
    (tmp_path / "extra.csv").write_text(f"Id,label\n{FILMS[0]},Horror\n")
    data = load(names_table(CELLS))
    assert labels_of(data) == TRUTH and finding(data, "other tables") == ["extra.csv"]
    with pytest.raises(DataError, match="Give DATA the path of extra.csv if that is the table"):
        load(f"Id,title\n{FILMS[0]},A film\n")
    (tmp_path / "train.csv").write_text("Id,Genre\n")
    (tmp_path / "train.csv").rename(tmp_path / "films.csv")
    with pytest.raises(DataError, match="'extra.csv', 'films.csv'.*give the path of one"):
        genre_utils.load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["x/1.jpeg", "x/1.json", "x/2.jpeg", "x/2.json", "x/3.json"], "as in MM-IMDb"),
        (
            ["Drama/1.jpg", "Comedy/2.jpg", "war/3.jpg"],
            "a folder for each genre .Comedy, Drama, war",
        ),
        (["posters/1.jpg", "films.xlsx"], "'films.xlsx', which is not read: save the sheet as CSV"),
        (["posters/1.jpg", "FILMS.PARQUET"], "'FILMS.PARQUET', which is not read: save it as CSV"),
        (["posters/1.jpg", "a.json"], "'a.json', which is not read: write a train.csv"),
        (["Drama/1.jpg"], "there is no table; it must hold"),
        (["images/1.jpg", "labels/a.csv"], "no pictures belong to the table 'labels/a.csv'; put"),
        (["a.csv", "notes/b.txt"], "no pictures belong to the table 'a.csv'; put them"),
        (["Drama/1.jpg", "War/2.jpg", "labels/a.csv"], "a folder for each genre .Drama, War"),
        (["train/1.jpg", "train/a.csv", "test/1.jpg", "test/a.csv"], "each split has a table"),
        (["Train/1.jpg", "Train/a.csv", "Dev/1.jpg", "Dev/a.csv"], "each split has a table"),
        (["posters/1.jpg", "notes.md"], "there is no table.*Seen: 'notes.md', 'posters'"),
    ],
)
def test_layouts_that_are_not_read_are_recognised(tmp_path, files, sentence):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("Id,Genre\n")
    with pytest.raises(DataError, match=sentence):
        genre_utils.load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "printed"),
    [
        (b"<!DOCTYPE html><html>429</html>", "40 of them are HTML pages"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "40 of them are HEIC pictures, which are not read"),
    ],
)
def test_when_no_picture_is_one_the_reason_is_the_pictures(load, tmp_path, content, printed):
    load(names_table(CELLS))
    for file in (tmp_path / "Images").iterdir():
        file.write_bytes(content)
    with pytest.raises(DataError, match=f"No picture can be read .*{printed}") as refused:
        genre_utils.load_dataset(str(tmp_path))
    assert "LIMIT" not in str(refused.value)


def test_limit_is_spoken_of_only_where_there_is_one(load):
    data = load(names_table(CELLS))
    broken = data.without(dict.fromkeys(data.posters["path"][:-1], "damaged"))
    with pytest.raises(DataError, match=r"mend the unreadable pictures \(39\)") as refused:
        broken.check_parts()
    assert "LIMIT" not in str(refused.value)
    with pytest.raises(DataError, match="raise LIMIT"):
        genre_utils.load_dataset(str(data.source.folder), 1).check_parts()


def test_the_public_split_is_found_in_any_spelling():
    folder = Path(genre_utils.__file__).parent / "splits"
    shipped = (folder / "imdb_test_ids.txt").read_text().split()[:50]
    labels = pd.DataFrame({"a": [1] * 50}).to_numpy()
    for write in (str, lambda i: str(int(i[2:])), lambda i: f"{i}.jpg"):
        assert set(split_posters([write(i) for i in shipped], shipped, labels)) == {"test"}


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        *(
            (name, "tt0086001")
            for name in ("86001", "86001.0", "0086001", "tt0086001", "TT86001.JPG")
        ),
        ("a/b/Film.One.jpg", "film.one"),
        ("https://example.org/x/tt1.jpg?y=2", "tt0000001"),
        ("https://example.org/x/Film%20One.jpg#top", "film one"),
        ("tt12345678", "tt12345678"),
        ("..", ".."),
    ],
)
def test_an_id_has_one_normal_spelling(written, normal):
    assert normal_id(written) == normal and re.search(r"[/\\]", last_part(written)) is None
