import contextlib
import errno
import gzip
import io
import pickle
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

from genre_utils.images import (
    PosterError,
    enlarged,
    is_picture,
    picture_size,
    poster_size,
    read_poster,
    resize_poster,
)
from genre_utils.sources.sample import SAMPLE_GENRES, draw_poster
from genre_utils.support import limits


def near(a: np.ndarray, b: np.ndarray) -> float:
    return np.abs(a.astype(int) - b.astype(int)).mean()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_every_format_gives_the_same_picture(picture, encode, kind):
    assert near(read_poster(encode(picture, kind)), picture) < 4


def test_bytes_path_pil_and_array_agree(picture, encode, tmp_path):
    content = encode(picture, "PNG")
    path = tmp_path / "a poster.png"
    path.write_bytes(content)
    binary = content, bytearray(content), memoryview(content)
    for source in (*binary, path, str(path), Image.fromarray(picture), picture):
        np.testing.assert_array_equal(read_poster(source), picture)


def test_gif_gives_its_first_frame(encode):
    red, blue = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    content = encode(red, "GIF", save_all=True, append_images=[blue])
    assert read_poster(content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture, encode, orientation):
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](picture))
    content = encode(stored, "PNG", exif=exif)
    np.testing.assert_array_equal(read_poster(content), picture)


def test_a_damaged_exif_block_leaves_the_pixels_as_stored(picture, encode):
    content = encode(picture, "WEBP", lossless=True, exif=b"Exif\0\0no table of tags")
    np.testing.assert_array_equal(read_poster(content), picture)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(encode, mode):
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0)).convert(mode)
    options = {"transparency": image.getpixel((0, 0))} if mode == "P" else {}
    assert (read_poster(encode(image, "PNG", **options)) == 255).all()


def test_grey_cmyk_and_sixteen_bit_become_rgb(picture, encode):
    grey = picture[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_poster(encode(grey, "PNG")), expected)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert near(read_poster(encode(deep, "PNG")), expected) < 1
    cmyk = Image.fromarray(picture).convert("CMYK")
    assert near(read_poster(encode(cmyk, "JPEG")), picture) < 6


def test_sixteen_bits_of_any_byte_order_and_eight_in_a_wide_mode_are_grey(picture):
    grey = picture[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_poster(deep.astype(">u2")), expected)
    size = grey.shape[::-1]
    swapped = Image.frombytes("I;16B", size, deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_poster(swapped), expected)
    np.testing.assert_array_equal(read_poster(Image.fromarray(grey).convert("I")), expected)
    beyond = Image.fromarray(np.array([[0, 70_000]], np.int32))
    assert read_poster(beyond)[..., 0].tolist() == [[0, 255]]


def test_float_array_up_to_one_is_refused_not_taken_for_black(picture):
    with pytest.raises(PosterError, match="multiply by 255"):
        read_poster(picture / 255)
    with pytest.raises(PosterError, match="run from 0 to 1; .*multiply by 255"):
        read_poster(Image.fromarray(np.float32([[0, 1]])))
    np.testing.assert_array_equal(read_poster(picture.astype(np.float32)), picture)
    assert not read_poster(np.zeros((9, 6, 3))).any(), "a black one"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((0, 5, 3)), r"shape \(0, 5, 3\) has no pixels"),
        (np.zeros(9), r"shape \(9,\) is not \(height, width\) with 3 or 4 channels"),
        (np.zeros((9, 9, 1)), "with 3 or 4 channels"),
        (np.zeros((9, 9, 2)), "with 3 or 4 channels"),
        (np.ones((9, 9), bool), "must be numbers"),
        (Image.new("RGB", (5, 0)), "no pixels"),
        (np.full((9, 9), np.nan), "must be numbers"),
        (np.full((9, 9, 3), np.inf), "must be numbers"),
        (np.full((9, 9), -1), "must be numbers"),
        (Image.fromarray(np.array([[-1, 300]], np.int32)), "must be numbers"),
    ],
)
def test_what_holds_no_pixels_is_refused(source, reason):
    with pytest.raises(PosterError, match=reason):
        read_poster(source)


@pytest.mark.parametrize(("kind", "limit"), [("BMP", "MAX_PIXELS"), ("JPEG", "MAX_JPEG_PIXELS")])
def test_pixels_are_limited_before_they_are_decoded(encode, monkeypatch, kind, limit):
    bomb = encode(Image.new("RGB", (11, 10)), kind)
    monkeypatch.setattr(limits, limit, 100)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded a bomb"))
    with pytest.raises(PosterError, match="over the limit"):
        read_poster(bomb, "bomb")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not a picture", "not a picture in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture in a known format"),
    ],
)
def test_bad_bytes_name_the_poster_and_the_reason(content, reason):
    with pytest.raises(PosterError, match=reason) as caught:
        read_poster(content, "bad.jpg")
    assert caught.value.name == "bad.jpg"


@pytest.mark.parametrize("tenth", range(1, 10))
def test_truncated_jpeg_is_an_error_not_half_a_poster(picture, encode, tenth):
    content = encode(picture, "JPEG")
    with pytest.raises(PosterError):
        read_poster(content[: len(content) * tenth // 10], "cut.jpg")


KINDS = [
    {},
    {"progressive": True},
    {"quality": 100, "subsampling": 0},
    {"restart_marker_blocks": 4},
    {"optimize": True},
]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("left", [0, 1])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read_and_that_is_said(
    picture, encode, options, left, capsys
):
    content = encode(picture, "JPEG", **options)
    whole = read_poster(content)
    assert capsys.readouterr().err == ""
    cut = content[: len(content) - 2 + left]
    np.testing.assert_array_equal(read_poster(cut, "a.jpg"), whole)
    assert capsys.readouterr().err.startswith("a.jpg: the end marker of this JPEG is missing")


def test_a_jpeg_of_the_extended_kind_may_lack_its_end_marker_too(picture, encode):
    content = encode(picture, "JPEG").replace(b"\xff\xc0", b"\xff\xc1", 1)
    np.testing.assert_array_equal(read_poster(content[:-2]), read_poster(content))


@pytest.mark.parametrize("options", KINDS)
def test_a_jpeg_cut_in_its_data_is_refused_wherever_that_changes_a_pixel(encode, options):
    # Flat at its end, where data repeat and a decoder's zeros come close to them.
    poster = draw_poster(["Horror"], np.random.default_rng(0)).convert("RGB").resize((40, 60))
    content = encode(poster, "JPEG", **options)
    whole = read_poster(content)
    lengths = [*range(700, len(content) - 12, 41), *range(len(content) - 12, len(content) - 2)]
    refused = 0
    for length in lengths:
        try:
            np.testing.assert_array_equal(read_poster(content[:length]), whole)
        except PosterError:
            refused += 1
    assert refused >= len(lengths) - 2


def test_no_byte_is_made_up_where_a_jpeg_is_cut(encode):
    for seed, genre in enumerate(SAMPLE_GENRES):
        content = encode(draw_poster([genre], np.random.default_rng(seed)), "JPEG", quality=90)
        whole = read_poster(content)
        np.testing.assert_array_equal(read_poster(content[:-2]), whole)
        for left in range(3, 11):
            with contextlib.suppress(PosterError):
                np.testing.assert_array_equal(read_poster(content[:-left]), whole)


def test_a_cut_jpeg_is_refused_between_scans_and_where_zeros_fill_it_up(picture, encode):
    content = encode(picture, "JPEG", progressive=True)
    scans = [i for i in range(len(content)) if content[i : i + 2] == b"\xff\xda"]
    for cut in scans[1:]:
        with pytest.raises(PosterError, match="damaged"):
            read_poster(content[:cut])
    # All bits of each component's mean, and nothing else of it.
    parts = [content[a:b] for a, b in zip(scans, [*scans[1:], -2], strict=True)]
    means = [part for part in parts if part[5 + 2 * part[4] :][:2] == bytes(2)]
    assert len(means) == 2
    with pytest.raises(PosterError, match="damaged"):
        read_poster(content[: scans[1]] + means[1])
    for size in (100, 100_000):
        with pytest.raises(PosterError, match="damaged"):
            read_poster(encode(picture, "JPEG")[:-20] + bytes(size))


def test_a_jpeg_cut_before_a_restart_marker_is_refused(picture, encode):
    content = encode(picture, "JPEG", restart_marker_blocks=1)
    cuts = [marker.start() for marker in re.finditer(rb"\xff[\xd0-\xd7]", content)]
    assert len(cuts) == 11, "each of the eight markers, and some once more"
    for cut in cuts:
        with pytest.raises(PosterError, match="damaged"):
            read_poster(content[:cut])


def test_a_jpeg_without_its_end_marker_may_have_room_behind_it(picture, encode):
    content = encode(picture, "JPEG")
    np.testing.assert_array_equal(read_poster(content[:-2] + bytes(100)), read_poster(content))


def test_an_open_picture_of_a_strange_mode_or_cut_short_is_one_bad_poster(picture, encode):
    with pytest.raises(PosterError, match="this picture of mode La cannot be read"):
        read_poster(Image.new("La", (9, 9)), "premultiplied")
    cut = Image.open(io.BytesIO(encode(picture, "PNG")[:-60]))
    with pytest.raises(PosterError, match="of mode RGB cannot be read .*truncated"):
        read_poster(cut, "cut short")
    with pytest.raises(PosterError, match=r"the picture is damaged \(.*truncated"):
        read_poster(encode(picture, "PNG")[:-60])


def test_an_open_file_and_a_stream_are_read(picture, encode, tmp_path):
    content = encode(picture, "PNG")
    (tmp_path / "a.png").write_bytes(content)
    with open(tmp_path / "a.png", "rb") as file:
        np.testing.assert_array_equal(read_poster(file), picture)
    np.testing.assert_array_equal(read_poster(io.BytesIO(content)), picture)
    other = SimpleNamespace(read=lambda amount: bytearray(content))  # as some streams answer
    np.testing.assert_array_equal(read_poster(other), picture)
    text = io.StringIO("a.png")
    with pytest.raises(PosterError, match="open it with 'rb'"):
        read_poster(text)


def test_a_damaged_stream_is_one_bad_poster(picture, encode, tmp_path):
    content = encode(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", content)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(content[-20:], bytes(20)))
    with (
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        gzip.open(io.BytesIO(gzip.compress(content)[:-50])) as cut,
    ):
        for stream in (cut, archive.open("a.png")):
            with pytest.raises(PosterError, match="the stream cannot be read"):
                read_poster(stream)


def test_an_empty_folder_and_an_address_get_the_sentence_that_fits(tmp_path):
    (tmp_path / "empty, too").mkdir()
    with pytest.raises(PosterError, match="this is an empty folder"):
        read_poster(tmp_path)
    (tmp_path / "empty, too" / "a.txt").write_text("a")
    with pytest.raises(PosterError, match="this is a folder, not a picture"):
        read_poster(tmp_path)
    several = "https://example.org/a.jpg", "HTTPS://example.org/a.jpg", "s3://bucket/a.jpg"
    for address in (*several, Path("http://example.org/a.jpg")):
        with pytest.raises(PosterError, match="internet address: download"):
            read_poster(address)
    for path in ("file:/nowhere.jpg", "C:/nowhere.jpg"):
        with pytest.raises(PosterError, match="no such file"):
            read_poster(path)


def test_a_folder_may_be_named_as_an_address_begins(picture, encode, tmp_path, monkeypatch):
    (tmp_path / "films:").mkdir()
    (tmp_path / "films:" / "a.png").write_bytes(encode(picture, "PNG"))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_poster("films:/a.png"), picture)


def test_a_bad_poster_keeps_its_name_and_reason_on_the_way_between_processes():
    error = pickle.loads(pickle.dumps(PosterError("a.jpg", "too dark")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "too dark", "a.jpg: too dark")


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(PosterError, match="no such file"):
        read_poster(tmp_path / "none.jpg")
    with pytest.raises(PosterError, match="folder"):
        read_poster(tmp_path)
    with pytest.raises(PosterError, match="NoneType"):
        read_poster(None)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(PosterError, match="^a poster: the file is empty$"):
        read_poster(tmp_path / "empty.jpg", "a poster")


def test_a_drive_that_fails_and_a_bomb_are_said_as_such(picture, encode, tmp_path, monkeypatch):
    content = encode(picture, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PosterError, match="it declares far too many pixels, which is over"):
        read_poster(content)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(PosterError, match=r"the file cannot be read \(Input/output error\)$"):
        read_poster(tmp_path / "a.png")


def test_resize_keeps_no_proportions_and_smooths():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_poster(stripes, (20, 8))
    assert small.shape == (20, 8, 3)
    # Aliasing would leave black or white columns; the mean of the stripes is grey.
    assert np.abs(small.astype(int) - 127).max() < 30
    # Of Pillow's filters the bicubic one, as in training, overshoots at an edge by so much.
    edge = np.full((4, 8, 3), 100, np.uint8)
    edge[:, 4:] = 200
    assert resize_poster(edge, (4, 16)).max() == 207


def test_poster_sizes_are_height_and_width():
    assert poster_size(272, "portrait") == (400, 272)
    assert poster_size(250, "square") == (250, 250)
    for smallest_or_largest in (64, 1024):
        assert poster_size(smallest_or_largest, "square") == (smallest_or_largest,) * 2


def test_whole_posters_are_shown_a_sixth_larger_in_steps_of_the_network():
    assert enlarged((400, 272)) == (464, 320)
    assert enlarged((128, 128)) == (144, 144)


@pytest.mark.parametrize("size", [0, 63, 1025, 10_000, 250.0, True])
def test_unusable_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"IMG_SIZE is {size}: give a whole number .* 64 to 1024"):
        poster_size(size, "square")


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="IMG_SHAPE is 'landscape': give 'square' or 'portrait'"):
        poster_size(250, "landscape")


def test_whole_numbers_of_an_array_are_0_to_255_whatever_their_type():
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    for kind in (np.int32, np.int64, np.float32):
        np.testing.assert_array_equal(read_poster(grey.astype(kind)), read_poster(grey))
    assert read_poster(np.ones((9, 9), int)).max() == 1
    assert read_poster(np.full((9, 9), 99.6)).max() == 100
    assert read_poster(np.full((9, 9, 3), 7, np.uint16)).max() == 7
    with pytest.raises(PosterError, match="from 0 to 60000"):
        read_poster((grey.astype(np.int32) // 199) * 60000)


def test_transparency_of_16_bit_grey_is_laid_over_white(tmp_path):
    grey = np.full((10, 20), 257 * 40, np.uint16)
    grey[:5] = 0
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=0)
    rgb = read_poster(tmp_path / "a.png")
    assert (rgb[:5] == 255).all() and (rgb[5:] == 40).all()


def test_a_file_that_was_read_to_its_end_says_so(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        assert read_poster(file).shape == (9, 9, 3)
        with pytest.raises(PosterError, match=r"read to its end: call its seek\(0\)"):
            read_poster(file)
    with pytest.raises(PosterError, match="empty"):
        read_poster(io.BytesIO())


def test_a_picture_opened_as_text_says_how_to_open_it(picture, encode, tmp_path):
    (tmp_path / "poster.jpg").write_bytes(encode(picture, "JPEG"))
    refused = pytest.raises(PosterError, match="opened as text: open it with 'rb'")
    with open(tmp_path / "poster.jpg", encoding="utf-8") as file, refused:
        read_poster(file)


def test_a_jpeg_of_too_many_pixels_is_not_made_smaller_first(encode):
    with pytest.raises(PosterError, match="over the limit"):
        read_poster(encode(Image.new("L", (8000, 6400)), "JPEG"))


def test_a_stream_without_end_is_refused(monkeypatch):
    class Endless:
        def read(self, amount: int = -1) -> bytes:
            assert 0 <= amount <= 101
            return bytes(amount)

    monkeypatch.setattr(limits, "LARGEST_STREAM", 100)
    with pytest.raises(PosterError, match="are no poster"):
        read_poster(Endless())


def test_the_size_of_other_formats_is_not_read(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "a.jpg", "TIFF")
    assert not is_picture(tmp_path / "a.jpg")
    with pytest.raises(UnidentifiedImageError):
        picture_size(tmp_path / "a.jpg")
