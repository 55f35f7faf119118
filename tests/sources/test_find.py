"""Finding the data: every place, every wrong turn, and archives that mean harm."""

from __future__ import annotations

import inspect
import os
import socket
import stat
import sys
import tempfile
import threading
import time
import types
import urllib.request
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from genre_utils import sources
from genre_utils.sources import (
    download,
    extract_posters,
    find,
    find_data,
    find_layout,
    has_internet,
    sample,
)
from genre_utils.support import DataError

HEADER = "Id,Genre,Action,Drama\n"


def make_posters(folder: Path, csv: str = "train.csv", images: str = "Images") -> Path:
    """Lay out one poster and its table; the pictures beside the table when `images` is empty."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    (folder / images / "tt1.jpg").write_bytes(b"picture")
    (folder / csv).write_text(HEADER)
    return folder


def make_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


POSTERS = {"master/train.csv": HEADER.encode(), "master/Images/tt1.jpg": b"picture"}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty machine: no data, no Kaggle, no Drive, no kagglehub, no internet."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv(sources.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(find, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setattr(find, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(download, "has_internet", lambda: False)
    monkeypatch.setitem(sys.modules, "kagglehub", None)

    drawing = types.ModuleType("genre_utils.sources.sample")
    drawing.__file__ = __file__
    drawing.draw_sample = lambda folder, posters=320, seed=0: make_posters(folder)
    monkeypatch.setitem(sys.modules, "genre_utils.sources.sample", drawing)
    monkeypatch.setattr(sources, "sample", drawing, raising=False)
    return tmp_path


@pytest.fixture
def cache(machine: Path) -> Path:
    return machine / "cache" / "poster-genres"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch):
    """Serve bytes in place of GitHub's archive, announcing `length` bytes."""
    servers = []

    def start(body: bytes, length: int | str | None = None, status: int = 200) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                if length != "not announced":
                    self.send_header("Content-Length", str(length or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_HEAD(self):
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/master.zip"
        monkeypatch.setattr(download, "ARCHIVE_URL", url)
        monkeypatch.setattr(download, "PROBE_URL", url)
        monkeypatch.setattr(download, "has_internet", lambda: True)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# The order of the places


def test_places_are_tried_in_order(machine, cache, serve, monkeypatch):
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())
    # Each round adds the next better place, and everything worse stays in reach.
    assert find_data().folder == cache / "movies-poster-dataset"
    for better in (
        machine / "drive" / "films",
        machine / "drive",
        machine / "kaggle" / "datasets" / "someone" / "movie-classifier",
        machine / "kaggle" / "a-classifier" / "Multi_Label_dataset",
        machine / "work" / "data",
    ):
        make_posters(better)
        assert find_data().folder == better
    monkeypatch.setenv(sources.VARIABLE, str(make_posters(machine / "variable")))
    assert find_data().folder == machine / "variable"
    assert find_data(str(make_posters(machine / "given"))).folder == machine / "given"


def test_posters_may_lie_two_folders_down_in_drive(machine):
    own = make_posters(machine / "drive" / "study" / "films")
    assert find_data().folder == own


def test_source_tells_where_everything_lies(machine):
    source = find_data(str(make_posters(machine / "given")))
    assert source.csv == machine / "given" / "train.csv"
    assert source.images == machine / "given" / "Images"
    assert "DATA" in source.description and str(machine / "given") in source.description
    assert not source.is_sample


def test_empty_machine_gets_the_sample_and_is_told_loudly(cache):
    source = find_data()
    assert source.is_sample
    assert source.csv.is_relative_to(cache)
    assert "NO REAL POSTERS" in source.description and "internet" in source.description
    for remedy in ("DATA", "POSTER_GENRES_DATA", sources.KAGGLE_PAGE, sources.GITHUB_PAGE):
        assert remedy in source.description


@pytest.mark.parametrize("by_variable", [False, True])
def test_sample_on_request_beats_data_in_reach(machine, monkeypatch, by_variable):
    make_posters(machine / "work" / "data")
    if by_variable:
        monkeypatch.setenv(sources.VARIABLE, "sample")
    assert find_data("" if by_variable else "sample").is_sample


def test_interrupted_drawing_does_not_pass_for_the_sample(cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources, "sample", sample)
        patch.setattr(sample, "draw_poster", interrupted)
        with pytest.raises(KeyboardInterrupt):
            find_data("sample")
    assert list(cache.iterdir()) == []
    assert find_data("sample").is_sample


def test_half_a_sample_is_drawn_anew_and_a_whole_one_is_kept(cache):
    folder = find_data("sample").folder
    (folder / "mine").touch()
    assert find_data("sample").folder == folder and (folder / "mine").exists()
    (folder / "train.csv").unlink()
    assert find_data("sample").csv.exists() and not (folder / "mine").exists()


def test_another_version_of_the_sample_is_drawn_anew(machine, monkeypatch):
    monkeypatch.setattr(find, "__file__", str(machine / "find.py"))
    folders = []
    for version in ("one", "two", "one"):
        (machine / "sample.py").write_text(version)
        folders.append(find_data("sample").folder)
    assert folders[0] == folders[2] != folders[1]


def test_the_sample_is_announced_loudly_and_own_posters_are_not(machine):
    assert "\nDRAWN SAMPLE POSTERS, NOT REAL ONES\n" in find_data("sample").announcement
    source = find_data(str(make_posters(machine / "given")))
    assert source.announcement == source.description and source.subtitle == ""


def test_stranger_in_a_mounted_place_is_not_taken_for_posters(machine):
    expenses = make_posters(machine / "drive", csv="expenses.csv", images="")
    (expenses / "expenses.csv").write_text("date,amount\n")
    plants = make_posters(machine / "kaggle" / "plants", images="images")
    (plants / "train.csv").write_text("image_id,healthy\n")
    assert find_data().is_sample


@pytest.mark.parametrize(
    "header", ["\ufeffGenre;id\n", '"id","Drama","Western"\n', "id,genre1,genre2\n"]
)
def test_any_table_of_genres_counts_in_a_mounted_place(machine, header):
    own = make_posters(machine / "kaggle" / "own")
    (own / "train.csv").write_text(header, "utf-8")
    assert find_data().folder == own


# What a person names


@pytest.mark.parametrize("setting", ["DATA", "POSTER_GENRES_DATA"])
def test_named_place_that_is_not_there_is_an_error(machine, monkeypatch, setting):
    make_posters(machine / "work" / "data")
    monkeypatch.setenv(sources.VARIABLE, "no/such/folder" if setting != "DATA" else "")
    with pytest.raises(DataError, match=f"^{setting} is 'no/such/folder', but there is no such"):
        find_data("no/such/folder" if setting == "DATA" else "")


def test_named_csv_takes_the_pictures_beside_it(machine):
    folder = make_posters(machine / "given", csv="films.CSV")
    (folder / "other.csv").write_text(HEADER)
    source = find_data(str(folder / "films.CSV"))
    assert (source.csv, source.images) == (folder / "films.CSV", folder / "Images")


def test_a_path_from_here_is_found_and_a_wrong_one_says_where_it_was_looked_for(machine):
    make_posters(machine / "given")
    source = find_data("../given/train.csv")
    assert source.csv.is_absolute() and source.csv.samefile(machine / "given" / "train.csv")
    with pytest.raises(DataError, match=f"no such file or folder in {machine / 'work'};"):
        find_data("given")


def test_home_is_expanded(machine, monkeypatch):
    monkeypatch.setenv("HOME", str(machine))
    monkeypatch.setenv("USERPROFILE", str(machine))
    make_posters(machine / "given")
    assert find_data("~/given").folder == machine / "given"


def test_several_tables_are_named(machine):
    folder = make_posters(machine / "given", csv="b.csv")
    (folder / "a.csv").write_text(HEADER)
    with pytest.raises(DataError, match="'a.csv', 'b.csv'.*give the path of one"):
        find_data(str(folder))
    folder.rename(machine / "set")
    folder.mkdir()
    (machine / "set").rename(folder / "set")
    with pytest.raises(DataError, match="several tables stand .*'set/a.csv', 'set/b.csv'"):
        find_data(str(folder))


def test_a_named_folder_that_may_not_be_opened_says_so(machine, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="which cannot be opened .Permission denied."):
        find_data(str(machine / "work"))


def test_several_fitting_folders_are_named(machine):
    make_posters(machine / "given" / "north")
    make_posters(machine / "given" / "south")
    with pytest.raises(DataError, match="several folders fit .'north', 'south'."):
        find_data(str(machine / "given"))


@pytest.mark.parametrize(
    ("missing", "message"), [("Images/tt1.jpg", "no pictures"), ("train.csv", "there is no table")]
)
def test_named_folder_without_posters_or_table_says_which(machine, missing, message):
    folder = make_posters(machine / "given")
    (folder / missing).unlink()
    with pytest.raises(DataError, match=message):
        find_data(str(folder))


def test_empty_folder_lonely_table_and_other_files_are_errors(machine):
    (machine / "given").mkdir()
    with pytest.raises(DataError, match="which is empty"):
        find_data(str(machine / "given"))
    (machine / "given" / "films.csv").write_text(HEADER)
    with pytest.raises(DataError, match="no pictures beside it"):
        find_data(str(machine / "given" / "films.csv"))
    archive = make_zip(machine / "posters.zip", POSTERS)
    with pytest.raises(DataError, match="not a CSV file"):
        find_data(str(archive))


# Layouts


@pytest.mark.parametrize("below", ["", "Multi_Label_dataset"])
@pytest.mark.parametrize("csv", ["train.csv", "films.csv"])
@pytest.mark.parametrize("images", ["Images", "IMAGES", "posters", ""])
def test_layouts(tmp_path, below, csv, images):
    folder = make_posters(tmp_path / "set" / below, csv, images)
    found = find_layout(tmp_path / "set")
    assert found is not None
    assert found[0] == folder / csv
    assert found[1].samefile(folder / images)


def test_layout_prefers_train_csv_and_images(tmp_path):
    folder = make_posters(tmp_path / "set")
    make_posters(folder, csv="test.csv", images="posters")
    make_posters(folder, images="")
    assert find_layout(folder) == (folder / "train.csv", folder / "Images")


def test_layout_prefers_them_in_any_case_and_of_two_tables_that_which_names_genres(tmp_path):
    folder = make_posters(tmp_path / "set", csv="Train.CSV", images="images")
    make_posters(folder, csv="test.csv", images="Posters")
    assert find_layout(folder) == (folder / "Train.CSV", folder / "images")
    (folder / "test.csv").rename(folder / "train.tsv")
    (folder / "train.tsv").write_text("Id\tTitle\n")
    assert find_layout(folder) == (folder / "Train.CSV", folder / "images")


def test_layout_two_folders_down_is_not_found(tmp_path):
    make_posters(tmp_path / "set" / "one" / "two")
    assert find_layout(tmp_path / "set") is None


def test_layout_ignores_what_a_mac_leaves_behind(tmp_path):
    folder = make_posters(tmp_path / "set" / "films", csv="films.csv")
    (folder / "._films.csv").write_text("shadow")
    make_posters(tmp_path / "set" / "__MACOSX")
    assert find_layout(tmp_path / "set") == (folder / "films.csv", folder / "Images")


def test_layout_outlives_broken_links(tmp_path):
    folder = make_posters(tmp_path / "set")
    try:
        (folder / "loop").symlink_to(folder / "loop")
    except OSError:
        pytest.skip("this system makes no links")
    assert find_layout(folder) == (folder / "train.csv", folder / "Images")


# The cache folder


def test_cache_folder_that_cannot_be_made_becomes_a_temporary_one(machine, monkeypatch):
    (machine / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(machine))
    folder = sources.cache_folder()
    assert folder.is_dir() and folder.parent == machine
    assert find_data().is_sample

    def refuse(*_):
        raise OSError("no room")

    monkeypatch.setattr(download, "check_writable", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "full"))
    assert sources.cache_folder() == folder

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert sources.cache_folder() == folder


def test_cache_folder_defaults_to_home(machine, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: machine / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert sources.cache_folder() == machine / "home" / ".cache" / "poster-genres"


# The download


def test_download_is_found_again_without_internet(machine, cache, serve, monkeypatch, capsys):
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())
    first = find_data()
    assert (first.images / "tt1.jpg").read_bytes() == b"picture"
    assert "downloading" in first.description and not first.is_sample
    assert [path.name for path in cache.iterdir()] == ["movies-poster-dataset"]
    out, err = capsys.readouterr()
    assert out == "" and "Downloading posters" in err

    monkeypatch.setattr(
        find.download, "has_internet", lambda: pytest.fail("asked for the internet")
    )
    again = find_data()
    assert again.csv == first.csv and "earlier download" in again.description


@pytest.mark.parametrize("trouble", ["cut", "refused", "not a zip", "spoilt", "without posters"])
def test_failed_download_leaves_nothing_and_falls_to_the_sample(machine, cache, serve, trouble):
    path = machine / "posters.zip"
    with zipfile.ZipFile(path, "w") as archive:  # stored, not deflated
        for name, content in POSTERS.items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    if trouble == "cut":
        serve(whole, length=len(whole) + 1000)
    elif trouble == "refused":
        serve(b"no", status=404)
    elif trouble == "not a zip":
        serve(b"<html>log in</html>")
    elif trouble == "spoilt":
        serve(whole.replace(b"picture", b"pictura"))  # the checksum stays
    else:
        serve(make_zip(path, {"master/README.md": b""}).read_bytes())
    with pytest.raises(DataError):
        sources.download_posters(cache)
    assert list(cache.iterdir()) == []
    source = find_data()
    assert source.is_sample and "internet is unreachable" not in source.description
    assert [path.name for path in cache.iterdir()] == [source.folder.name]


def test_cut_is_told_by_the_length_alone(machine, cache, serve):
    whole = make_zip(machine / "posters.zip", POSTERS).read_bytes()
    serve(whole, length=len(whole) + 1)
    with pytest.raises(DataError, match=f"cut after {len(whole)} of {len(whole) + 1} bytes"):
        sources.download_posters(cache)


def test_a_length_that_is_not_announced_is_not_missed(machine, cache, serve):
    whole = make_zip(machine / "posters.zip", POSTERS).read_bytes()
    serve(whole, length="not announced")
    assert find_layout(sources.download_posters(cache)) is not None


def test_interrupted_download_leaves_nothing(machine, cache, serve, monkeypatch):
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())

    def interrupted(archive, folder):
        extract_posters(archive, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "extract_posters", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sources.download_posters(cache)
    assert list(cache.iterdir()) == []


def test_what_a_killed_download_left_is_not_taken_for_the_posters(machine, cache, serve):
    left = cache / ".download-killed" / "unpacked" / "Images"
    left.mkdir(parents=True)
    (left / "tt1.jpg").write_bytes(b"half a pict")
    (left.parent / "train.csv").write_bytes(POSTERS["master/train.csv"])
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())
    found = find_data()
    assert "downloading" in found.description
    assert (found.images / "tt1.jpg").read_bytes() == b"picture"


def test_leftovers_of_killed_downloads_are_removed_and_others_spared(machine, cache, serve):
    killed, at_work = cache / ".download-killed", cache / ".download-at-work"
    for folder in (killed, at_work):
        folder.mkdir(parents=True)
        (folder / "posters.zip").write_bytes(b"half")
    yesterday = time.time() - 86_400
    for path in (killed / "posters.zip", killed, at_work):
        os.utime(path, (yesterday, yesterday))
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())
    sources.download_posters(cache)
    assert not killed.exists() and at_work.exists()


def test_a_download_that_stalls_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(download, "_STALLED_AFTER", 0.2)
    over = threading.Event()

    def begin_and_stall():
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
            over.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=begin_and_stall, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(download, "ARCHIVE_URL", url)
        with pytest.raises(DataError, match="timed out"):
            sources.download_posters(cache)
        over.set()
    assert list(cache.iterdir()) == []


def test_what_stands_half_in_the_place_of_the_posters_gives_way(machine, cache, serve):
    (cache / "movies-poster-dataset" / "Images").mkdir(parents=True)
    (cache / "movies-poster-dataset" / "Images" / "tt1.jpg").write_bytes(b"half a pict")
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())
    assert (sources.download_posters(cache) / "Images" / "tt1.jpg").read_bytes() == b"picture"


def test_endless_download_is_stopped(cache, serve, monkeypatch):
    monkeypatch.setattr(download, "MAX_UNPACKED", 1000)
    serve(bytes(2000))
    with pytest.raises(DataError, match="sends more than"):
        sources.download_posters(cache)


def install_kagglehub(monkeypatch, dataset_download) -> None:
    hub = types.SimpleNamespace(dataset_download=dataset_download)
    monkeypatch.setitem(sys.modules, "kagglehub", hub)


def test_kagglehub_comes_first_and_is_found_again(machine, cache, monkeypatch):
    asked = []

    def dataset_download(name):
        asked.append(name)
        return str(make_posters(machine / "hub" / "Multi_Label_dataset").parent)

    install_kagglehub(monkeypatch, dataset_download)
    monkeypatch.setattr(download, "has_internet", lambda: True)
    assert find_data().folder == machine / "hub" / "Multi_Label_dataset"
    monkeypatch.setattr(download, "has_internet", lambda: False)
    assert find_data().folder == machine / "hub" / "Multi_Label_dataset"
    assert asked == ["raman77768/movie-classifier"]


def test_a_note_of_kagglehub_s_place_that_is_damaged_is_passed_over(machine, cache):
    cache.mkdir(parents=True)
    make_posters(machine / "work")
    for content in (b"\xff", b"a\0b", b""):
        (cache / "kagglehub-folder.txt").write_bytes(content)
        assert find_data().is_sample


@pytest.mark.parametrize("moment", ["extract_posters", "os.replace"])
def test_of_two_downloads_at_once_the_first_to_end_counts(
    machine, cache, serve, monkeypatch, moment
):
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())

    def other_was_first(archive, target):
        (make_posters(cache / "movies-poster-dataset") / "theirs").touch()
        if moment == "os.replace":
            raise OSError("Directory not empty")
        extract_posters(archive, target)

    monkeypatch.setattr(f"genre_utils.sources.download.{moment}", other_was_first)
    assert (sources.download_posters(cache) / "theirs").exists()
    assert [path.name for path in cache.iterdir()] == ["movies-poster-dataset"]


@pytest.mark.parametrize("trouble", ["raises", "moved"])
def test_github_steps_in_for_kagglehub(machine, cache, serve, monkeypatch, trouble):
    def dataset_download(name):
        if trouble == "raises":
            raise RuntimeError("403")
        return str(machine / "work")

    install_kagglehub(monkeypatch, dataset_download)
    serve(make_zip(machine / "posters.zip", POSTERS).read_bytes())
    assert sources.download_posters(cache) == cache / "movies-poster-dataset"


# Archives


def refuse(archive: Path, message: str) -> None:
    """Check that an archive is refused before a byte of it is written."""
    target = archive.parent / "unpacked"
    with pytest.raises(DataError, match=message):
        extract_posters(archive, target)
    assert not target.exists()


def test_only_the_table_and_the_posters_are_taken(tmp_path):
    others = {
        "master/setup.py": b"",
        "master/Images/notes.txt": b"",
        "master/Images/._tt1.jpg": b"",
        "master/Images/more/tt9.jpg": b"",
        "master/Images/tt8.jpg/": b"",
        "master/logo.png": b"",
    }
    archive = make_zip(tmp_path / "a.zip", POSTERS | others | {"master/Images/tt2.PNG": b"two"})
    folder = zipfile.ZipInfo("master/Images/")
    folder.external_attr = (stat.S_IFDIR | 0o755) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(folder, b"")
    extract_posters(archive, tmp_path / "out")
    files = {f.relative_to(tmp_path / "out").as_posix() for f in (tmp_path / "out").rglob("*.*")}
    assert files == {"train.csv", "Images/tt1.jpg", "Images/tt2.PNG"}
    assert (tmp_path / "out" / "Images" / "tt2.PNG").read_bytes() == b"two"


@pytest.mark.parametrize(
    "name",
    [
        "../Images/tt2.jpg",
        "Images/../../tt2.jpg",
        "Images\\..\\tt2.jpg",
        "/Images/tt2.jpg",
        "\\Images\\tt2.jpg",
        "C:/Images/tt2.jpg",
        "Images/C:tt2.jpg",
        "../read.me",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", POSTERS | {name: b"evil"})
    refuse(archive, r"tt2\.jpg' (leads out|is an absolute)|read\.me' leads out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = make_zip(tmp_path / "a.zip", POSTERS)
    link = zipfile.ZipInfo("master/Images/tt2.jpg")
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    refuse(archive, "'master/Images/tt2.jpg' is a link or a device")


def test_encrypted_entries_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"master/Images/tt0.jpg": b"", **POSTERS})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flags in the first local header, and in the first central one:
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refuse(archive, "'master/Images/tt0.jpg' is encrypted")


def test_an_unknown_way_of_packing_is_one_sentence(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS)
    content = bytearray(archive.read_bytes())
    content[8] = 98  # the method in the first local header, and in the first central one:
    content[content.index(b"PK\x01\x02") + 10] = 98
    archive.write_bytes(content)
    with pytest.raises(DataError, match="not a whole zip file"):
        extract_posters(archive, tmp_path / "out")


def test_packed_data_that_are_damaged_are_one_sentence(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS)
    content = bytearray(archive.read_bytes())
    content[30 + len("master/train.csv")] = 0xFF  # the first byte behind the first header
    archive.write_bytes(content)
    with pytest.raises(DataError, match="not a whole zip file"):
        extract_posters(archive, tmp_path / "out")


def test_bomb_is_refused_by_its_ratio(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS | {"master/Images/tt2.jpg": bytes(10_000_001)})
    refuse(archive, "'master/Images/tt2.jpg' unpacks to more than 200 times")


def test_a_bomb_of_many_files_is_refused_by_its_sum(tmp_path, monkeypatch):
    bombs = {f"master/Images/tt{i}.jpg": bytes(9_000_000) for i in range(2, 6)}
    archive = make_zip(tmp_path / "a.zip", POSTERS | bombs)
    monkeypatch.setattr(download, "MAX_UNPACKED", 30_000_000)
    refuse(archive, "would unpack to 36000029 bytes")


def test_small_file_may_shrink_as_it_likes(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS | {"master/Images/tt2.jpg": bytes(1_000_000)})
    extract_posters(archive, tmp_path / "out")
    assert (tmp_path / "out" / "Images" / "tt2.jpg").stat().st_size == 1_000_000


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [("MAX_UNPACKED", 20, "would unpack to 29 bytes"), ("MAX_ENTRIES", 1, "2 entries, over 1")],
)
def test_limits_on_size_and_number(tmp_path, monkeypatch, limit, value, message):
    archive = make_zip(tmp_path / "a.zip", POSTERS)
    monkeypatch.setattr(download, limit, value)
    refuse(archive, message)
    monkeypatch.setattr(download, limit, value + 9)
    extract_posters(archive, tmp_path / "unpacked")


def test_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS | {"master/Images/tt2.jpg": bytes(5_000_000)})
    content = archive.read_bytes().replace((5_000_000).to_bytes(4, "little"), b"\x10\0\0\0")
    archive.write_bytes(content)
    with pytest.raises(DataError, match="not a whole zip"):
        extract_posters(archive, tmp_path / "out")
    assert (tmp_path / "out" / "Images" / "tt2.jpg").stat().st_size <= 16


def test_two_entries_of_one_name_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS | {"other/Images/tt1.jpg": b"another"})
    with pytest.raises(DataError, match="Two entries of a.zip are called 'tt1.jpg'"):
        extract_posters(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_is_unpacked_over_no_file(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS)
    extract_posters(archive, tmp_path / "out")
    with pytest.raises(DataError, match="train.csv is there already: give an empty folder"):
        extract_posters(archive, tmp_path / "out")


def test_a_damaged_name_in_an_archive_is_one_sentence(tmp_path):
    archive = make_zip(tmp_path / "a.zip", POSTERS | {"master/Images/é.jpg": b"x"})
    content = archive.read_bytes()
    archive.write_bytes(content.replace("é".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match="not a whole zip file"):
        extract_posters(archive, tmp_path / "out")


@pytest.mark.parametrize("lonely", POSTERS)
def test_archive_without_table_or_pictures_is_refused(tmp_path, lonely):
    archive = make_zip(tmp_path / "a.zip", {lonely: POSTERS[lonely]})
    refuse(archive, "does not hold train.csv and pictures")


# The internet


def test_server_that_answers_is_the_internet(serve):
    serve(b"")
    assert has_internet(timeout=5)


def test_refusal_comes_from_the_internet_too(serve):
    serve(b"", status=403)
    assert has_internet(timeout=5)


def test_proxy_is_used(serve, monkeypatch):
    serve(b"")
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", download.PROBE_URL.removesuffix("/master.zip"))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies it began with
    monkeypatch.setattr(download, "PROBE_URL", "http://nowhere.invalid/")
    assert has_internet(timeout=5)


def test_closed_port_is_no_internet(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(download, "PROBE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert not has_internet(timeout=5)


def test_server_that_never_answers_is_no_internet(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(download, "PROBE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not has_internet(timeout=0.5)
        assert time.monotonic() - start < 5


def test_hanging_name_lookup_ends_in_time(monkeypatch):
    asked, released = threading.Event(), threading.Event()

    def hang(*_, **__):
        asked.set()
        released.wait(20)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    assert not has_internet(timeout=0.5)
    assert time.monotonic() - start < 5
    released.set()
    assert asked.wait(20)  # on a busy machine the thread may have come late


def test_default_limit_is_under_ten_seconds():
    assert inspect.signature(has_internet).parameters["timeout"].default < 10
