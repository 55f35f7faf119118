"""Pictures that mean harm, or only look so: each is predicted or named, and none stops the rest."""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import odd_pictures
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_pictures import EITHER, NAMED, PREDICTED
from PIL import Image

from genre_utils import images
from genre_utils.__main__ import main
from genre_utils.images import PosterError, read_poster
from genre_utils.predictor import list_posters
from genre_utils.support import jpeg, limits

SOURCES = odd_pictures.sources()

# Half a minute in CI; 10 minutes by hand with FUZZ_EXAMPLES=100000.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2500"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The folder of odd pictures, and what each must come to."""
    folder = tmp_path_factory.mktemp("odd") / "pictures"
    return folder, odd_pictures.make_odd_pictures(folder)


def test_what_is_no_file_is_not_even_opened(odd, monkeypatch):
    folder, _ = odd
    monkeypatch.setattr(images.Image, "open", lambda *_, **__: pytest.fail("opened it"))
    for name in ("pipe.jpg", "socket.jpg", "zeros.jpg.png"):
        with pytest.raises(PosterError, match="a device or a pipe"):
            read_poster(folder / name)


@pytest.mark.parametrize("folder", ("locked", "locked.jpg"))
def test_a_folder_that_may_not_be_opened_is_named_once(folder, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir()
    scan, access = os.scandir, os.access

    def refuse(path):
        if str(path).endswith(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    # As anyone but root would see it.
    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda p, m: "locked" not in str(p) and access(p, m))
    ((name, path),) = list_posters(tmp_path)
    assert name == folder
    with pytest.raises(PosterError, match="a folder that may not be opened"):
        read_poster(path)


def test_there_are_many_and_each_is_read_or_named(odd):
    folder, made = odd
    assert len(made) >= 200
    wrong = {}
    for name, expected in made.items():
        try:
            rgb = read_poster(folder / name)
            came = PREDICTED
            assert rgb.dtype == np.uint8 and rgb.shape[2] == 3 and rgb.size, name
        except PosterError as error:
            came = NAMED
            assert error.reason and error.name == str(folder / name)
        if expected not in (came, EITHER):
            wrong[name] = came
    assert not wrong


def test_every_entry_of_a_folder_is_listed_once(odd):
    folder, made = odd
    listed = [os.path.relpath(path, folder) for _, path in list_posters(folder)]
    assert sorted(listed) == sorted(made)


def check_accounts(table: pd.DataFrame, made: dict[str, str]) -> None:
    """Check that a table tells of each file what it must."""
    assert sorted(table["poster"]) == sorted(made)
    came = table.set_index("poster")["error"].isna().map({True: PREDICTED, False: NAMED})
    assert {n: came[n] for n, expected in made.items() if expected not in (came[n], EITHER)} == {}


def test_the_command_accounts_for_every_file_and_ends_well(odd, trained, tmp_path, capsys):
    folder, made = odd
    file = tmp_path / "table.json"
    arguments = ["--model", str(trained), "--all-genres", "--json", str(file)]
    assert main(["predict", str(folder), *arguments]) == 0
    check_accounts(pd.read_json(file, convert_axes=False, dtype={"poster": str}), made)
    printed = [row for row in capsys.readouterr().err.split("\n") if "not predicted" in row]
    # On a slow machine the bar stands before the first of them.
    named = [row[row.index("not predicted") :] for row in printed]
    assert not any("\x1b" in row or "\r" in row for row in named)
    assert "not predicted: pipe.jpg: this is a device or a pipe" in "\n".join(named)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is Linux'")
def test_words_are_read_on_all_of_them_in_bounded_time_and_memory(odd):
    """In a process of its own, whose memory is its own; at most 10 s of computing a picture.

    A picture is decoded and read in one thread, whose computing does not grow on a busy machine.
    """
    folder, made = odd
    code = """
import json, sys, time
from genre_utils.predictor import Predictor
predictor, told, seconds = Predictor.load(), {}, {}
read = predictor._read
def timed(item):
    start = time.thread_time()
    found = read(item)
    seconds[item[0]] = time.thread_time() - start
    return found
predictor._read = timed
for found in predictor.stream(sys.argv[1]):
    told[found.poster] = found.error
slowest = max(seconds, key=seconds.get)
# Not `ru_maxrss`, in which the memory of the process that started this one counts, too.
peak = next(int(row.split()[1]) for row in open("/proc/self/status") if row.startswith("VmHWM"))
peak = peak * 1024 / 1e9
print(json.dumps([told, slowest, seconds[slowest], peak]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    told, slowest, seconds, gigabytes = json.loads(done.stdout.splitlines()[-1])
    check_accounts(pd.DataFrame(told.items(), columns=["poster", "error"]), made)
    assert seconds < 10 and gigabytes < 1.0, (slowest, seconds, gigabytes)


def test_a_cut_picture_that_somebody_else_opened_is_named():
    content = odd_pictures.save(odd_pictures.picture(), "JPEG")
    with (
        Image.open(io.BytesIO(content[: len(content) // 2])) as opened,
        pytest.raises(
            PosterError, match="cut: this picture of mode RGB cannot be read .*truncated"
        ),
    ):
        read_poster(opened, "cut")


# Large pictures


def test_a_large_picture_is_shrunk_whatever_its_mode(monkeypatch):
    monkeypatch.setattr(limits, "KEPT_PIXELS", 1200)
    image = odd_pictures.picture()
    palette = image.quantize(200)
    for sort, kind, options in (
        (image, "PNG", {}),
        (image, "JPEG", {"quality": 95}),
        (image, "JPEG", {"quality": 95, "exif": odd_pictures.orientation(3)}),
        (palette, "PNG", {}),
        (palette, "PNG", {"transparency": bytes([255] * 200)}),
        (odd_pictures.with_alpha(image), "PNG", {}),
        (image.convert("LA"), "PNG", {}),
        (image.convert("L"), "PNG", {"transparency": 0}),
        (Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG", {}),
        (image.convert("CMYK"), "JPEG", {"quality": 95}),
    ):
        content = odd_pictures.save(sort, kind, **options)
        small = read_poster(content)
        assert small.shape == (45, 30, 3), (sort.mode, kind)
        with monkeypatch.context() as patch:
            patch.setattr(limits, "KEPT_PIXELS", 10**6)
            whole = read_poster(content).reshape(45, 2, 30, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - whole).mean() < 4, (sort.mode, kind, options)


def test_a_line_of_a_million_pixels_is_shortened():
    content = odd_pictures.save(Image.new("L", (1, 1_000_000), 7), "PNG")
    rgb = read_poster(content)
    assert rgb.shape == (20_000, 1, 3) and (rgb == 7).all()


def test_a_photograph_is_decoded_at_a_part_of_its_size(monkeypatch):
    asked = []
    monkeypatch.setattr(
        images.JpegImageFile, "draft", lambda self, mode, size: asked.append(size), raising=True
    )
    monkeypatch.setattr(limits, "KEPT_PIXELS", 600)
    content = odd_pictures.save(odd_pictures.picture(), "JPEG")
    read_poster(content)
    assert asked == [(20, 30)]
    read_poster(content[:-2])  # without its end marker
    assert set(asked) == {(20, 30)} and len(asked) > 2


def test_a_long_jpeg_loses_none_of_its_width(monkeypatch):
    monkeypatch.setattr(limits, "LONGEST_SIDE", 100)
    content = odd_pictures.save(odd_pictures.picture(20, 250), "JPEG")
    assert read_poster(content).shape == (84, 20, 3)


def test_one_large_picture_is_decoded_at_a_time(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    at_work, most = [], []
    convert = images._to_rgb

    def slowly(image, name):
        at_work.append(name)
        most.append(len(at_work))
        time.sleep(0.02)
        rgb = convert(image, name)
        at_work.remove(name)
        return rgb

    monkeypatch.setattr(images, "_to_rgb", slowly)
    content = odd_pictures.save(odd_pictures.picture(), "PNG")

    def read_four() -> int:
        most.clear()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_poster, [content] * 4, "abcd"))
        return max(most)

    assert read_four() > 1  # small ones side by side
    monkeypatch.setattr(limits, "KEPT_PIXELS", 600)
    assert read_four() == 1


def count_scans(content: bytes) -> int:
    return sum(marker == jpeg._SCAN for marker, _ in jpeg._segments(content))


def test_passes_of_a_thumbnail_do_not_count():
    thumbnail = odd_pictures.save(odd_pictures.picture(8, 8), "JPEG", progressive=True)
    comment = b"\xff\xfe" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    content = odd_pictures.save(odd_pictures.picture(), "JPEG")
    assert count_scans(content[:2] + comment + content[2:]) == 1
    for passes in (odd_pictures.many_passes, odd_pictures.hidden_passes):
        assert count_scans(passes(800, 50)) > 50


def test_a_jpeg_too_long_to_count_is_refused(monkeypatch):
    monkeypatch.setattr(jpeg, "LARGEST_JPEG", 1000)
    with pytest.raises(PosterError, match="is no poster"):
        read_poster(odd_pictures.save(odd_pictures.picture(), "JPEG") + b"\0" * 1000)


def test_folders_may_nest_a_thousand_deep(tmp_path):
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    try:
        assert [source for _, source in list_posters(tmp_path)] == [str(tmp_path)]  # it is empty
    finally:  # too deep for pytest, which empties its folders by recursion
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


# Damage at random


@st.composite
def damaged(draw) -> bytes:
    """A good file with some bytes changed, cut off, put in or taken out."""
    content = bytearray(draw(st.sampled_from(SOURCES)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 1, 2, 4, 64]))
        content[place : place + length] = draw(st.binary(max_size=4))
    content = bytes(content[: draw(st.integers(0, len(content))) or None])
    return odd_pictures.repair_png(content) if draw(st.booleans()) else content


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(damaged())
def test_damage_ends_in_pixels_or_in_a_poster_error(content):
    try:
        rgb = read_poster(content, "damaged")
    except PosterError as error:
        assert error.name == "damaged" and error.reason
    else:
        assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size
