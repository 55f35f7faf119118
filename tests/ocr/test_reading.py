import gzip
import json
import os
import socket
import struct
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont

from genre_utils.__main__ import main
from genre_utils.images import PosterError
from genre_utils.ocr import Line, Reader, WordCache, read_posters, reading
from genre_utils.ocr import reader as rapid
from genre_utils.ocr.cache import hash_file, import_readings, round_corners
from genre_utils.ocr.reader import detector_side
from genre_utils.support import DataError

CORNERS = ((0.1, 0.2), (0.9, 0.2), (0.9, 0.3), (0.1, 0.3))
LINE = Line("LET US PREY", 0.987, CORNERS)


def draw(*lines: str, size=(300, 440), font=None, start=60, step=90) -> Image.Image:
    """Draw a dark poster with centred lines of light text."""
    image = Image.new("RGB", size, "#203040")
    pen = ImageDraw.Draw(image)
    for i, text in enumerate(lines):
        at = (size[0] / 2, start + step * i)
        pen.text(at, text, "#f4e8c8", font or ImageFont.load_default(34), anchor="mm")
    return image


def words(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


class FakeReader:
    """Reads nothing but how bright a picture is, and notes what it was given."""

    name = "fake 1"

    def __init__(self, stop_after: int | None = None):
        self.given: list[int] = []
        self.stop_after = stop_after

    def settings(self, rgb: np.ndarray) -> str:
        return self.name

    def read(self, rgb: np.ndarray, name: str = "poster") -> list[Line]:
        if self.stop_after is not None and len(self.given) >= self.stop_after:
            raise KeyboardInterrupt
        self.given.append(int(rgb[0, 0, 0]))
        if rgb[0, 0, 0] == 255:
            raise PosterError(name, "too bright")
        return [Line(f"grey {rgb[0, 0, 0]}", 0.9, CORNERS)]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


@pytest.fixture
def one_worker(monkeypatch):
    monkeypatch.setattr(reading, "workers", lambda: 1)


@pytest.fixture
def posters(tmp_path) -> list[str]:
    """Eight plain pictures of different greys."""
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for i, path in enumerate(paths):
        Image.new("RGB", (20, 30), (i, i, i)).save(path)
    return [str(path) for path in paths]


# What is read


def test_words_and_their_places_are_read(reader):
    lines = reader.read(np.asarray(draw("THE GRAVE", "do not open")))
    assert [text.lower() for text in words(lines)] == ["the grave", "do not open"]
    for line, middle in zip(lines, (60 / 440, 150 / 440), strict=True):
        assert 0.5 <= line.confidence <= 1
        (left, top), (right, _), (_, bottom), _ = line.corners
        assert (left + right) / 2 == pytest.approx(0.5, abs=0.03)
        assert (top + bottom) / 2 == pytest.approx(middle, abs=0.02)
        assert line.corners == tuple((round(x, 4), round(y, 4)) for x, y in line.corners)


def test_colours_reach_the_library_in_its_order(reader, monkeypatch):
    seen = spy_on(reader, monkeypatch)
    reader.read(np.full((300, 200, 3), (200, 100, 0), np.uint8))
    assert seen[0][0, 0].tolist() == [0, 100, 200]


def test_a_poster_without_text_is_an_empty_reading(reader):
    assert reader.read(np.asarray(draw())) == []


def test_a_larger_copy_is_read_in_the_same_words(reader):
    small = draw("MIDNIGHT", "ASYLUM", "lock every door")
    large = small.resize((1200, 1760), Image.Resampling.BICUBIC)
    a, b = (reader.read(np.asarray(image)) for image in (small, large))
    assert words(a) == words(b) and len(a) == 3
    for one, other in zip(a, b, strict=True):
        assert np.allclose(one.corners, other.corners, atol=0.02)


def test_a_poster_is_read_alike_after_one_of_another_size():
    small = np.asarray(draw("ASYLUM", "lock every door", size=(180, 264)))
    used = Reader()
    used.read(np.asarray(draw("MIDNIGHT")))
    lines = used.read(small)
    assert lines == Reader().read(small) and len(lines) == 2


def test_wide_lines_are_read_alone_in_the_same_words(reader, monkeypatch):
    picture = np.asarray(draw("MIDNIGHT", "ASYLUM", "lock every door"))
    together = reader.read(picture)
    monkeypatch.setattr(rapid, "_WIDE", 0)
    alone = reader.read(picture)
    assert words(alone) == words(together) and len(alone) == 3
    for one, other in zip(alone, together, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


def test_pictures_reach_the_library_small_and_not_too_long(reader, monkeypatch):
    seen = spy_on(reader, monkeypatch)
    for height, width in ((440, 300), (1760, 1200), (4, 9000), (9000, 4), (1, 1)):
        reader.read(np.zeros((height, width, 3), np.uint8))
    assert seen[0].shape == (440, 300, 3)  # as the public posters are: untouched
    assert seen[1].shape[0] / seen[1].shape[1] == pytest.approx(1760 / 1200, rel=0.01)
    for canvas in seen:
        height, width, _ = canvas.shape
        assert height * width <= 153_000
        assert max(height, width) <= 3 * min(height, width) + 3


def test_places_are_fractions_of_the_picture_without_its_border(reader):
    banner = draw("a long way home", size=(1000, 60), start=30)
    (line,) = reader.read(np.asarray(banner))
    assert "home" in line.text
    (left, top), _, (right, bottom), _ = line.corners
    assert top < 0.4 and bottom > 0.6 and (left + right) / 2 == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (31, 30), (1, 900), (2000, 3)])
def test_tiny_and_thin_pictures_are_read(reader, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert all(len(line.text) for line in reader.read(noise))


def test_strange_texts_are_read(reader):
    from matplotlib import get_data_path

    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 26)
    foreign = draw("Всё о любви", "Η επιστροφή", "عودة", font=font)
    page = draw(*["all work and no play"] * 17, font=font, start=15, step=25)
    upside_down = draw("THE GRAVE").rotate(180)
    assert len(reader.read(np.asarray(page))) >= 15
    for image in (foreign, upside_down):
        assert isinstance(reader.read(np.asarray(image)), list)


def test_what_the_library_raises_becomes_a_named_reason(reader, monkeypatch):
    def fail(picture, side):
        raise RuntimeError("Traceback\nassertion failed")

    monkeypatch.setattr(reader, "_idle", [fail])
    with pytest.raises(PosterError, match="x.jpg: .*assertion failed"):
        reader.read(np.zeros((9, 9, 3), np.uint8), "x.jpg")
    assert reader._idle == [fail]  # given back, for the next picture

    def fail_silently(picture, side):
        raise MemoryError

    monkeypatch.setattr(reader, "_idle", [fail_silently])
    with pytest.raises(PosterError, match=r"cannot be read \(MemoryError\)"):
        reader.read(np.zeros((9, 9, 3), np.uint8))


def test_threads_share_a_reader(reader):
    from concurrent.futures import ThreadPoolExecutor

    images = [np.asarray(draw(text)) for text in ("ONE", "TWO", "SIX", "TEN")]
    with ThreadPoolExecutor(4) as pool:
        assert [words(lines) for lines in pool.map(reader.read, images)] == [
            ["ONE"],
            ["TWO"],
            ["SIX"],
            ["TEN"],
        ]


def test_no_connection_is_made(monkeypatch, capfd):
    def refuse(*_):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert words(Reader().read(np.asarray(draw("OFFLINE")))) == ["OFFLINE"]
    assert capfd.readouterr() == ("", "")  # nor is anything printed


def test_a_missing_model_is_not_fetched(monkeypatch):
    monkeypatch.setattr(rapid, "_RECOGNIZER", "PP-OCRv99_rec_huge.onnx")
    with pytest.raises(ImportError, match="lacks the model PP-OCRv99_rec_huge.onnx"):
        Reader()


def test_importing_the_module_imports_no_reader():
    code = (
        "import sys; from genre_utils.ocr import reader, reading;"
        "assert not {'rapidocr', 'onnxruntime', 'cv2', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What is kept


def test_the_cache_gives_back_what_was_put(tmp_path):
    strange = Line('Ünïcode " \\ \n \u2028 七人の侍', 1.0, CORNERS)
    file = tmp_path / "new folder" / "below" / "words.jsonl"
    cache = WordCache(file)
    cache.put("a" * 64, [LINE, strange], "fake 1")
    cache.put("b" * 64, [], "fake 1")
    for again in (cache, WordCache(file)):
        assert again.get("a" * 64) == [LINE, strange]
        assert again.get("b" * 64) == [] and again.get("c" * 64) is None
        assert len(again) == 2 and again.damaged == []
    entry = json.loads(file.read_bytes().split(b"\n")[0])
    assert list(entry) == ["sha256", "reader", "lines"] and entry["reader"] == "fake 1"
    assert entry["lines"][0] == ["LET US PREY", 0.987, [0.1, 0.2, 0.9, 0.2, 0.9, 0.3, 0.1, 0.3]]


def test_damaged_lines_are_named_and_the_rest_is_used(tmp_path, capsys):
    file = tmp_path / "words.jsonl"
    cache = WordCache(file)
    for letter in "abcdefghijk":
        cache.put(letter * 64, [LINE], "fake 1")
    rows = file.read_bytes().split(b"\n")
    rows[1] = rows[1][:50]
    rows[2] = b"\xff\x00" + rows[2][2:]
    rows[3] = rows[3].replace(b"0.987", b"98.7")
    rows[4] = rows[4].replace(b"0.1, ", b"", 1)  # seven coordinates
    rows[5] = rows[5].replace(b"0.1", b"Infinity", 1)
    rows[6] = b"[1, 2]"
    rows[7] = rows[7].replace(b"PREY", b"\\ud800")  # half a character
    rows[8] = json.dumps(json.loads(rows[8]) | {"lines": ""}).encode()  # not: no words
    rows[9] = rows[9].replace(b"jj", b"j", 1)  # no hash
    file.write_bytes(b"\n".join(rows))
    again = WordCache(file)
    assert again.damaged == [2, 3, 4, 5, 6, 7, 8, 9, 10] and len(again) == 2
    assert [letter for letter in "abcdefghijk" if again.get(letter * 64) is not None] == ["a", "k"]
    printed = capsys.readouterr().err
    assert f"{file}" in printed and "2, 3, 4, 5, 6, 7, 8, 9, 10." in printed


def test_a_damaged_first_line_and_blank_ones_hide_no_other(tmp_path):
    file = tmp_path / "words.jsonl"
    for letter in "abc":
        WordCache(file).put(letter * 64, [LINE], "fake 1")
    _, *rows = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n\n".join([b"torn", *rows]))
    again = WordCache(file)
    assert again.damaged == [1] and len(again) == 2 and again.settings("c" * 64) == "fake 1"


def test_lines_that_mean_harm_are_damaged_lines(tmp_path):
    file = tmp_path / "words.jsonl"
    WordCache(file).put("a" * 64, [LINE], "fake 1")
    deep = b'{"sha256": "' + b"b" * 64 + b'", "lines": ' + b"[" * 100_000
    huge = json.dumps({"sha256": "c" * 64, "lines": [["WAR", 0.9, [10**400] * 8]]}).encode()
    file.write_bytes(file.read_bytes() + deep + b"\n" + huge + b"\n")
    again = WordCache(file)
    assert again.damaged == [2, 3] and len(again) == 1


def test_half_a_character_does_not_stop_the_words_from_being_kept(tmp_path):
    file = tmp_path / "words.jsonl"
    WordCache(file).put("a" * 64, [Line("\ud800WAR", 0.9, CORNERS)], "fake 1")
    assert WordCache(file).get("a" * 64) == [Line("?WAR", 0.9, CORNERS)]


def test_a_torn_last_line_is_left_alone(tmp_path):
    file = tmp_path / "words.jsonl"
    for letter in "ab":
        WordCache(file).put(letter * 64, [LINE], "fake 1")
    file.write_bytes(file.read_bytes()[:-30])
    cache = WordCache(file)
    assert cache.damaged == [2] and cache.get("b" * 64) is None
    for letter in "bc":
        cache.put(letter * 64, [LINE], "fake 1")
    again = WordCache(file)
    assert len(again) == 3 and again.damaged == [2]


def test_two_caches_on_one_file_write_whole_lines(tmp_path):
    file = tmp_path / "words.jsonl"
    one, other = WordCache(file), WordCache(file)
    for i in range(20):
        (one, other)[i % 2].put(f"{i:064}", [LINE] * 30, "fake 1")
    assert len(WordCache(file)) == 20


def test_another_file_is_refused(tmp_path):
    for content in (b"Id,Genre\ntt1,Drama\n", gzip.compress(b"{}\n")):
        file = tmp_path / "other"
        file.write_bytes(content)
        with pytest.raises(DataError, match="no file of words"):
            WordCache(file)
        assert file.read_bytes() == content


DISK_OF_300_BYTES = """
import resource, sys
from genre_utils.ocr import WordCache
cache = WordCache(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
for letter in "abc":
    try:
        cache.put(letter * 64, [], "fake 1")
    except OSError as error:
        print(len(cache), error)
        break
"""


def test_words_that_the_disk_does_not_take_whole_are_not_kept(tmp_path):
    command = [sys.executable, "-c", DISK_OF_300_BYTES, str(tmp_path / "words.jsonl")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("2 ") and "words.jsonl cannot be written: the disk is full" in printed
    again = WordCache(tmp_path / "words.jsonl")
    assert len(again) == 2 and again.damaged == [3]


# Reading many


def test_an_interrupted_run_goes_on_and_reads_nothing_twice(posters, tmp_path, one_worker):
    file = tmp_path / "words.jsonl"
    first = FakeReader(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        read_posters(posters, WordCache(file), first)
    assert len(first.given) == 3 and len(WordCache(file)) == 3
    second = FakeReader()
    done = read_posters(posters, WordCache(file), second)
    assert sorted(first.given + second.given) == list(range(8))
    assert done.new == 5 and not done.unreadable
    assert {path: words(lines) for path, lines in done.lines.items()} == {
        path: [f"grey {i}"] for i, path in enumerate(posters)
    }
    third = FakeReader()
    again = read_posters(posters, WordCache(file), third)
    assert third.given == [] and again.new == 0 and again.lines == done.lines


def test_an_interrupt_does_not_wait_for_the_rest(posters, tmp_path, one_worker):
    class Interrupted(FakeReader):
        def read(self, rgb, name="poster"):
            if len(self.given) == 1:
                self.given.append(-1)
                raise KeyboardInterrupt
            if self.given:
                time.sleep(0.5)
            return super().read(rgb, name)

    fake = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        read_posters(posters, WordCache(tmp_path / "words.jsonl"), fake)
    assert len(fake.given) < 5


def test_a_killed_process_loses_nothing_it_has_read(posters, tmp_path):
    code = """
import os, sys
from genre_utils.ocr import reading
class Killed:
    name, left = "fake 1", 3
    def settings(self, rgb):
        return self.name
    def read(self, rgb, name="poster"):
        Killed.left -= 1
        if Killed.left < 0:
            os.kill(os.getpid(), 9)
        return []
reading.workers = lambda: 1
reading.read_posters(sys.argv[2:], reading.WordCache(sys.argv[1]), Killed())
"""
    file = tmp_path / "words.jsonl"
    killed = subprocess.run([sys.executable, "-c", code, str(file), *posters])
    assert killed.returncode == -9
    assert len(WordCache(file)) == 3 and WordCache(file).damaged == []


def test_identical_pictures_are_read_once(posters, tmp_path):
    twin = tmp_path / "twin.png"
    twin.write_bytes((tmp_path / "4.png").read_bytes())
    fake = FakeReader()
    done = read_posters([*posters, str(twin)], WordCache(tmp_path / "words.jsonl"), fake)
    assert sorted(fake.given) == list(range(8)) and done.new == 8
    assert words(done.lines[str(twin)]) == words(done.lines[posters[4]]) == ["grey 4"]


def test_a_device_is_not_read_for_its_hash():
    with pytest.raises(PosterError, match="a device or a pipe"):
        hash_file(os.devnull)


def test_bad_pictures_are_named(posters, tmp_path):
    Image.new("RGB", (20, 30), "white").save(tmp_path / "bright.png")
    (tmp_path / "notes.jpg").write_text("not a picture")
    bad = [str(tmp_path / name) for name in ("bright.png", "notes.jpg", "none.jpg", "")]
    cache = WordCache(tmp_path / "words.jsonl")
    done = read_posters([*posters, *bad], cache, FakeReader())
    assert list(done.lines) == posters and done.new == 8
    assert [done.unreadable[path] for path in bad] == [
        "too bright",
        "not a picture in a known format (JPEG, PNG, WEBP, GIF, BMP)",
        "there is no such file",
        "this is a folder, not a picture",
    ] and len(cache) == 8


def test_the_estimate_reads_a_few_and_keeps_them(posters, tmp_path, monkeypatch, one_worker):
    monkeypatch.setattr(reading, "PROBE", 3)
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(reading.time, "perf_counter", lambda: next(clock))
    fake, cache = FakeReader(), WordCache(tmp_path / "words.jsonl")
    # Two of the three were on the clock, 2 seconds each, and five are left.
    assert reading.estimate_seconds(posters, cache, fake) == 10
    assert fake.given == [0, 3, 7] and len(cache) == 3, "spread over all"
    read_posters(posters, cache, fake)
    assert sorted(fake.given) == list(range(8))
    assert reading.estimate_seconds(posters, cache) == 0


def test_without_rapidocr_one_sentence_says_so(posters, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    file = tmp_path / "words.jsonl"
    with pytest.raises(ImportError, match="pip install rapidocr"):
        read_posters(posters, WordCache(file))
    read_posters(posters, WordCache(file), FakeReader())
    assert read_posters(posters, WordCache(file)).new == 0  # what was read needs no reader


def test_a_picture_that_cannot_be_decoded_needs_no_reader(posters, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    cache = WordCache(tmp_path / "words.jsonl")
    read_posters(posters[1:], cache, FakeReader())
    read, why = reading.decide("auto", posters, cache)
    assert not read and why.count("not read") == 1 and "pip install rapidocr onnxruntime" in why
    Path(posters[0]).write_bytes(b"no picture")
    read, why = reading.decide("auto", posters, cache)
    assert read and "as far as they can be read" in why
    done = read_posters(posters, cache)
    assert len(done.lines) == 7 and list(done.unreadable) == posters[:1]


def test_posters_on_which_no_word_was_found_are_not_read_on_without_being_asked(posters, tmp_path):
    cache = WordCache(tmp_path / "words.jsonl")
    for path in posters:
        cache.put(hash_file(path), [], "nobody")
    read, why = reading.decide("auto", posters, cache)
    assert not read and "those tried for it have none" in why
    assert reading.decide("yes", posters, cache)[0]
    cache.put(hash_file(posters[0]), [Line("WAR", 1.0, ((0, 0),) * 4)], "nobody")
    assert reading.decide("auto", posters, cache)[0]


def test_words_are_not_added_to_other_json(tmp_path):
    file = tmp_path / "model.json"
    file.write_text('{\n "a": 1\n}\n')
    with pytest.raises(DataError, match="is no file of words"):
        WordCache(file)
    file.write_text('{"sha')  # of a run that was killed at its first line
    assert len(WordCache(file)) == 0


# Readings made elsewhere


@pytest.fixture
def readings(posters) -> tuple[dict[str, str], list[str]]:
    """The paths by id, and the lines of a file of readings."""
    pixels = [[2, 6], [18, 6], [18, 9], [2, 9]]
    entries = [{"id": f"tt{i}", "t": [[f"title {i}", 0.95, pixels]]} for i in range(6)]
    entries += [{"id": "tt6", "t": []}, {"id": "stranger", "t": []}]
    paths = {f"tt{i}": path for i, path in enumerate(posters)}
    return paths, [json.dumps(entry) for entry in entries]


def test_a_bad_picture_stops_no_import_and_a_full_disk_does(readings, tmp_path, monkeypatch):
    paths, rows = readings
    file = tmp_path / "readings"
    file.write_text("\n".join(rows))
    bomb = (
        b"BM"
        + struct.pack("<LLL", 0, 0, 54)
        + struct.pack("<LllHHLLllLL", 40, *[40_000] * 2, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    (tmp_path / "bomb.bmp").write_bytes(bomb)
    paths["tt2"] = str(tmp_path / "bomb.bmp")
    assert import_readings(file, paths, WordCache(tmp_path / "words.jsonl")) == 6

    def full(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(WordCache, "put", full)
    with pytest.raises(OSError, match="the disk is full"):
        import_readings(file, paths, WordCache(tmp_path / "other.jsonl"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_readings_are_imported_once(readings, tmp_path, pack, capsys):
    paths, rows = readings
    file = tmp_path / "readings"
    file.write_bytes(pack("\n".join(rows).encode()))
    cache = WordCache(tmp_path / "words.jsonl")
    assert import_readings(file, paths, cache) == 7
    assert cache.get(hash_file(paths["tt3"])) == [Line("title 3", 0.95, CORNERS)]
    assert cache.get(hash_file(paths["tt6"])) == []
    assert cache.get(hash_file(paths["tt7"])) is None
    assert b'"rapidocr 3.10.0"' in cache.file.read_bytes() and capsys.readouterr().err == ""
    assert import_readings(file, paths, cache) == 0


def test_bad_lines_of_an_import_are_named(readings, tmp_path, capsys):
    paths, rows = readings
    paths["tt5"] = str(tmp_path / "none.jpg")
    rows[1:4] = ['{"id": "tt1"}', rows[2][:-9], '{"id": ["tt3"], "t": []}']
    file = tmp_path / "readings.jsonl"
    file.write_text("\n".join(rows))
    cache = WordCache(tmp_path / "words.jsonl")
    assert import_readings(file, paths, cache) == 3
    assert "2, 3, 4." in capsys.readouterr().err
    assert import_readings(file, {"another": paths["tt0"]}, cache) == 0
    file.write_text("Id,Genre\n")
    with pytest.raises(DataError, match="no file of readings"):
        import_readings(file, paths, cache)


@pytest.mark.parametrize("damage", [lambda b: b[:-1000], lambda b: b[:-8] + bytes(8)])
def test_a_cut_import_is_used_as_far_as_it_goes(readings, tmp_path, capsys, damage):
    paths, rows = readings
    noise = np.random.default_rng(0).integers(32, 127, 200_000, np.uint8).tobytes().decode()
    rows.append(json.dumps({"id": noise, "t": []}))  # so that the cut falls behind the others
    file = tmp_path / "readings.gz"
    file.write_bytes(damage(gzip.compress("\n".join(rows).encode())))
    assert import_readings(file, paths, WordCache(tmp_path / "words.jsonl")) == 7
    assert "cut or damaged after line 8" in capsys.readouterr().err


def test_a_place_is_in_the_picture():
    pixels = np.array([[-1, 0], [41, 0], [41, 25], [-1, 25]])
    assert round_corners(pixels, (40, 50)) == ((0, 0), (1, 0), (1, 0.5), (0, 0.5))


# The command


@pytest.fixture
def data(tmp_path) -> str:
    folder = tmp_path / "data"
    (folder / "Images").mkdir(parents=True)
    rows = []
    for i, title in enumerate(("THE GRAVE", "SILENT", "")):
        draw(title).save(folder / "Images" / f"tt{i}.png")
        rows.append((f"tt{i}", ["['Horror']", "['Drama', 'War']", "['War']"][i]))
    (folder / "Images" / "tt3.png").write_bytes(b"no picture")
    table = pd.DataFrame([*rows, ("tt3", "['Drama']")], columns=["Id", "Genre"])
    table.to_csv(folder / "train.csv", index=False)
    return str(folder)


def test_the_command_reads_a_data_set_once(data, tmp_path, capsys):
    file = tmp_path / "outputs" / "words.jsonl"
    assert main(["read", "--data", data, "--words", str(file)]) == 0
    printed = capsys.readouterr()
    assert "4 posters: 3 read now, 0 read before, 1 cannot be read" in printed.out
    assert "not read: tt3.png: not a picture" in printed.err
    sha256 = hash_file(os.path.join(data, "Images", "tt0.png"))
    assert words(WordCache(file).get(sha256)) == ["THE GRAVE"]
    before = file.read_bytes()
    assert main(["read", "--data", data, "--words", str(file)]) == 0
    assert "0 read now, 3 read before" in capsys.readouterr().out
    assert file.read_bytes() == before


def test_the_command_imports_and_reads_the_rest(data, tmp_path, capsys, monkeypatch):
    fake = FakeReader()
    monkeypatch.setattr(reading, "Reader", lambda: fake)
    readings = tmp_path / "readings.jsonl"
    readings.write_text('{"id": "tt0", "t": []}\n{"id": "tt1", "t": []}\n')
    monkeypatch.chdir(tmp_path)  # where the words go when nothing else is said
    assert main(["read", "--data", data, "--import", str(readings)]) == 0
    assert "4 posters: 1 read now, 2 read before" in capsys.readouterr().out
    assert main(["read", "--data", data, "--import", str(tmp_path / "none.jsonl")]) == 2
    assert "--import is" in (printed := capsys.readouterr().err) and "no such file" in printed
    assert len(fake.given) == 1 and len(WordCache(tmp_path / "outputs" / "words.jsonl")) == 3


def test_the_command_s_exit_codes(data, tmp_path, capsys, monkeypatch):
    file = str(tmp_path / "words.jsonl")
    arguments = ["read", "--data", data, "--words", file]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "rapidocr", None)
        assert main(arguments) == 2
    assert "pip install rapidocr" in capsys.readouterr().err
    assert main(["read", "--data", str(tmp_path / "none"), "--words", file]) == 2
    assert main([*arguments, "--import", str(tmp_path / "none.jsonl")]) == 2
    assert main(["read", "--data", data, "--words", str(tmp_path)]) == 2
    for i in range(3):
        (tmp_path / "data" / "Images" / f"tt{i}.png").write_bytes(b"no picture either %d" % i)
    assert main(arguments) == 1
    assert "Traceback" not in capsys.readouterr().err


def spy_on(reader: Reader, monkeypatch) -> list[np.ndarray]:
    """Put an engine in the reader's hands that finds nothing; gives what it is shown."""
    seen: list[np.ndarray] = []
    monkeypatch.setattr(reader, "_idle", [lambda bgr, side: seen.append(bgr)])
    return seen


@pytest.mark.parametrize(
    ("choice", "minutes", "answer", "sentence"),
    [
        ("no", 0, False, "not read"),
        ("auto", 0, True, "are in"),
        ("auto", 2, True, "2.0 minutes"),
        ("auto", 12, False, "READ_TEXT='yes'"),
        ("yes", 30, True, "30.0 minutes"),
    ],
)
def test_words_are_read_unless_it_takes_too_long(
    tmp_path, monkeypatch, choice, minutes, answer, sentence
):
    monkeypatch.setattr(reading, "estimate_seconds", lambda *_: 60 * minutes)
    read, why = reading.decide(choice, [], WordCache(tmp_path / "words.jsonl"))
    assert read is answer and sentence in why


def test_as_many_are_read_side_by_side_as_there_are_cores_and_no_more_than_eight(monkeypatch):
    found = []
    for cores in (None, 2, 64):
        monkeypatch.setattr(reading.os, "cpu_count", lambda cores=cores: cores)
        found.append(reading.workers())
    assert found == [1, 2, 8]


def test_a_folder_or_nothing_is_no_file_of_words(tmp_path):
    for wrong in ("", tmp_path):
        with pytest.raises(DataError, match="give the name of a file"):
            WordCache(wrong)


def test_words_that_could_not_be_read_are_not_said_to_be_kept(posters, tmp_path, monkeypatch):
    class Failing(FakeReader):
        def read(self, rgb, name="poster"):
            raise PosterError(name, "too dark")

    monkeypatch.setattr(reading, "Reader", Failing)
    read, why = reading.decide("auto", posters, WordCache(tmp_path / "words.jsonl"))
    assert read and "as far as they can be read" in why


def test_a_broken_reader_stops_only_those_who_insist(tmp_path, monkeypatch):
    def broken(*_):
        raise ImportError("rapidocr does not start: no libGL; install it anew.")

    monkeypatch.setattr(reading, "estimate_seconds", broken)
    cache = WordCache(tmp_path / "words.jsonl")
    read, why = reading.decide("auto", ["a.jpg"], cache)
    assert not read and "libGL" in why
    with pytest.raises(ImportError, match="libGL"):
        reading.decide("yes", ["a.jpg"], cache)
    with pytest.raises(ValueError, match="READ_TEXT is 'maybe'"):
        reading.decide("maybe", [], cache)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(440, 300, 416), (268, 182, 320), (89, 60, 320), (3000, 2000, 416), (16, 2000, 320)],
)
def test_the_detector_sees_a_poster_little_larger_than_it_is(height, width, side):
    assert detector_side(np.zeros((height, width, 3), np.uint8)) == side


def test_a_reading_says_with_which_settings_it_was_made(reader, tmp_path):
    draw("THE GRAVE").save(tmp_path / "a.png")
    cache = WordCache(tmp_path / "words.jsonl")
    read_posters([str(tmp_path / "a.png")], cache, reader)
    (row,) = (tmp_path / "words.jsonl").read_text("utf-8").splitlines()
    assert json.loads(row)["reader"] == f"rapidocr {version('rapidocr')}, detector 416"


def test_readings_of_other_settings_stay_until_they_are_made_anew(posters, tmp_path):
    paths = posters[:2]
    cache = WordCache(tmp_path / "words.jsonl")
    old = FakeReader()
    read_posters(paths, cache, old)

    new = FakeReader()
    new.name = "fake 2"
    assert read_posters(paths, cache, new).new == 0 and new.given == []
    assert read_posters(paths, cache, new, anew=True).new == 2 and sorted(new.given) == [0, 1]
    again = WordCache(tmp_path / "words.jsonl")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    done = read_posters([*paths, str(tmp_path / "bad.jpg")], again, new, anew=True)
    assert done.new == 0 and list(done.unreadable) == [str(tmp_path / "bad.jpg")]


def test_reading_anew_without_rapidocr_says_so(posters, tmp_path, monkeypatch):
    cache = WordCache(tmp_path / "words.jsonl")
    read_posters(posters, cache, FakeReader())
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ImportError, match="pip install rapidocr"):
        read_posters(posters, cache, anew=True)
