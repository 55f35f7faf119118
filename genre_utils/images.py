"""From bytes to pixels: the one decoder that training and prediction share."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from genre_utils.support import printable

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")

# Checked against the header, before a pixel is decoded: a decoder needs up to 16 bytes a pixel. The
# public posters have at most 0.16 million pixels; a bomb declares thousands of millions. A large
# JPEG is decoded at half its size or less, so that a telephone's photograph of 48 million passes.
MAX_PIXELS, MAX_JPEG_PIXELS = 25_000_000, 50_000_000
# Above these a picture is shrunk by whole factors as soon as it is decoded. No network here looks
# at more than 1.5 million pixels, and Pillow would first stretch 1 × 50,000,000 to a network's
# width: gigabytes.
KEPT_PIXELS, LONGEST_SIDE = 4_000_000, 20_000
# A progressive JPEG is painted in about ten passes over all its pixels. A crafted one has
# thousands in a small file.
MAX_PASSES = 16 * MAX_JPEG_PIXELS  # passes times pixels
# Markers of segments that say how long they are; decoders step over others without a length.
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
LARGEST_JPEG, LARGEST_STREAM = 100_000_000, 200_000_000  # bytes
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # sequential and progressive, with Huffman's code
_END = bytes((0xFF, _JPEG_END))
# What is put behind data that may be cut: nothing, which decoders take for zeros, and patterns. A
# cut between two restart markers shows in the one that stands behind the marker which comes next.
_RESTARTS = [b"", *(bytes((0xFF, 0xD0 + number)) for number in range(8))]
_TAILS = [b"", *(b"".join(r + bytes((p,)) * 48 for r in _RESTARTS) for p in (0x55, 0xAA, 0x33))]

_ADDRESS = re.compile("(https?|ftp):/")  # a Path has one stroke left of two

# Decoding a large picture takes hundreds of megabytes: however many threads there are, one does.
_decoding_large = threading.Lock()

# Close to the posters' own shape (their median, over the training posters, is 1.48), and such
# that a width of 272 gives a height of 400, both multiples of 16.
POSTER_ASPECT = 1.47
SMALLEST_SIDE, LARGEST_SIDE = 64, 1024
# A network fine-tuned on crops saw posters larger than they are. Of 1.1, 1.17 and 1.35 times as
# large, this did best on validation (`benchmarks/experiments.md`).
ENLARGED = 1.17


class PosterError(ValueError):
    """A poster that cannot be read; `name` says which one and `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self):
        return PosterError, (self.name, self.reason)


def poster_size(img_size: int, img_shape: str) -> tuple[int, int]:
    """Return the network's input size as (height, width) in pixels.

    `img_size` is the width, 64 to 1024. `img_shape` is `"square"`, or `"portrait"`: 1.47 times
    as high as wide, the height a multiple of 16. Raises `ValueError` for anything else.
    """
    if not isinstance(img_size, int) or not SMALLEST_SIDE <= img_size <= LARGEST_SIDE:
        raise ValueError(
            f"IMG_SIZE is {img_size!r}: give a whole number of pixels from {SMALLEST_SIDE} "
            f"to {LARGEST_SIDE}, for example 250."
        )
    if img_shape == "square":
        return img_size, img_size
    if img_shape == "portrait":
        return round(POSTER_ASPECT * img_size / 16) * 16, img_size
    raise ValueError(f"IMG_SHAPE is {img_shape!r}: give 'square' or 'portrait'.")


def enlarged(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size (height, width) at which a network trained on crops is shown whole posters.

    Crops blow up what is on a poster; shown at the size of training, all of it is smaller than what
    the network has learned from (Touvron et al., "Fixing the train-test resolution discrepancy",
    2019). Both sides are multiples of 16.
    """
    height, width = (round(ENLARGED * side / 16) * 16 for side in size)
    return height, width


def read_poster(source: Any, name: str | None = None) -> np.ndarray:
    """Read a poster into an RGB array `(height, width, 3)`, uint8.

    `source` is a path, an open file or stream, the bytes of a picture file (JPEG, PNG, WebP, GIF or
    BMP; of an animation the first frame), a PIL image, or an array `(height, width)`, `(height,
    width, 3)` or `(height, width, 4)` with values 0–255 (grey uint16: 0–65535). The EXIF
    orientation is applied, transparency is laid over white, grey, CMYK, palette and 16-bit pictures
    become RGB. Above 4 million pixels the array is smaller than the picture by a whole factor. A
    JPEG that lacks its end marker and nothing else is read, and a line on standard error says so.

    Raises `PosterError`, with `name` or the path in it, for everything that cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or str(source)
        _check_file(source, name)
        return _decode(source, name)
    name = name or "poster"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), name)
    if hasattr(source, "read"):
        return _decode(io.BytesIO(_read_stream(source, name)), name)
    if isinstance(source, Image.Image):
        return _to_rgb(source, name)
    if isinstance(source, np.ndarray):
        return _to_rgb(Image.fromarray(_to_uint8(source, name)), name)
    raise PosterError(
        name, f"a {type(source).__name__} is not a path, a file, bytes, a PIL image or an array"
    )


def resize_poster(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Squeeze an RGB array to `size` (height, width); returns uint8 `(height, width, 3)`.

    The proportions are not kept: a poster fills the network's input whatever its own shape.
    """
    height, width = size
    # Pillow widens the filter when it shrinks (antialias). Networks' own resize layers do not by
    # default and alias fine print into noise, so every pixel of this project passes here.
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def is_picture(path: str | os.PathLike) -> bool:
    """Say whether a file begins as a picture does that can be read here; no pixel is decoded."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # Pillow's plugins raise whatever their parser met
        return False


def _read_stream(stream: Any, name: str) -> bytes:
    try:
        content = stream.read(LARGEST_STREAM + 1)
    except (OSError, ValueError) as error:
        raise PosterError(name, f"the stream cannot be read ({error})") from None
    if not isinstance(content, bytes):
        raise PosterError(name, "this file was opened as text: open it with 'rb'")
    if len(content) > LARGEST_STREAM:
        raise PosterError(name, f"more than {LARGEST_STREAM // 10**6} MB are no poster")
    return content


def _check_file(path: str | os.PathLike, name: str) -> None:
    if _ADDRESS.match(os.fsdecode(path)) and not os.path.exists(path):
        raise PosterError(name, "this is an internet address: download the picture, give its file")
    # os.path answers False where Path raises: for names too long and folders one may not enter.
    if os.path.isdir(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise PosterError(name, "this is a folder that may not be opened")
        if not os.path.islink(path) and not _has_files(path):
            raise PosterError(name, "this is an empty folder: there is no picture in it")
        kind = "a link to a folder" if os.path.islink(path) else "a folder"
        raise PosterError(name, f"this is {kind}, not a picture")
    if os.path.exists(path) and not os.path.isfile(path):
        raise PosterError(name, "this is a device or a pipe, not a picture")


def _has_files(folder: str | os.PathLike) -> bool:
    """Say whether there is a file in a folder or below it."""
    left = [os.fspath(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        return True
                    left.append(entry.path)
        except OSError:  # who may not look cannot say that nothing is there
            return True
    return False


def _decode(file: str | os.PathLike | io.BytesIO, name: str) -> np.ndarray:
    try:
        # A path is handed on as it is: of a file that is no picture only the start is read.
        with Image.open(file, formats=FORMATS) as image:
            _check_size(image, name)
            large = image.width * image.height > KEPT_PIXELS
            with _decoding_large if large else contextlib.nullcontext():
                if isinstance(image, JpegImageFile):
                    return _to_rgb(_prepare_jpeg(image, name), name)
                return _to_rgb(image, name)
    except FileNotFoundError:
        raise PosterError(name, "there is no such file") from None
    except UnidentifiedImageError:
        if not _size(file):
            raise PosterError(name, "the file is empty") from None
        raise PosterError(name, f"not a picture in a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        declared = "it declares far too many pixels, which"
        raise PosterError(name, _too_many_pixels(declared, MAX_PIXELS)) from None
    except PosterError:
        raise
    except OSError as error:
        reason = error.strerror or f"the picture is damaged: {error}"
        raise PosterError(name, f"the file cannot be read ({reason})") from None
    except Exception as error:  # Pillow's plugins raise whatever their parser met
        raise PosterError(name, f"the picture is damaged ({error})") from None


def _size(file: str | os.PathLike | io.BytesIO) -> int:
    return len(file.getbuffer()) if isinstance(file, io.BytesIO) else os.path.getsize(file)


def _check_size(image: Image.Image, name: str) -> None:
    if not image.width * image.height:
        raise PosterError(name, "the picture has no pixels")
    limit = MAX_JPEG_PIXELS if isinstance(image, JpegImageFile) else MAX_PIXELS
    if image.width * image.height > limit:
        raise PosterError(name, _too_many_pixels(f"{image.width} × {image.height} pixels", limit))


def _prepare_jpeg(image: JpegImageFile, name: str) -> Image.Image:
    """Refuse a JPEG that takes minutes to decode; have a large one decoded smaller.

    Returns the picture to decode: one without its end marker, but whole, gets the marker back.
    """
    image.fp.seek(0)
    content = image.fp.read(LARGEST_JPEG + 1)
    if len(content) > LARGEST_JPEG:
        raise PosterError(name, f"a JPEG of more than {LARGEST_JPEG // 10**6} MB is no poster")
    segments = list(_jpeg_segments(content))
    scans = sum(marker == _JPEG_SCAN for marker, _ in segments)
    if scans * image.width * image.height > MAX_PASSES:
        raise PosterError(name, f"the picture is painted in {scans} passes, which takes too long")
    if not segments or segments[-1][0] != _JPEG_END:
        image = _open_without_end(content, segments, name)
    _draft(image)
    return image


def _open_jpeg(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    _draft(image)
    return image


def _draft(image: Image.Image) -> None:
    factor = min(_factors(image))
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and content of each segment, without thumbnails', up to the end marker."""
    place = 2
    while found := _JPEG_MARKER.search(content, place):
        marker, place = found[0][1], found.end()
        if marker == _JPEG_END:
            yield marker, b""
            return
        length = int.from_bytes(content[place : place + 2])  # the segment says how long it is
        yield marker, content[place + 2 : place + length]
        place += length


def _open_without_end(
    content: bytes, segments: Sequence[tuple[int, bytes]], name: str
) -> Image.Image:
    """Open a JPEG without its end marker, if nothing else is missing; raises `PosterError`.

    A decoder paints what is missing from whatever follows. So different bits are put behind the
    data: where one of them changes a pixel, the data were cut.
    """
    # Half an end marker, or room that a download was given, and that would be painted, too. The
    # data themselves may end so.
    data = content.rstrip(b"\xff\0")
    for last in (b"", b"\0", b"\xff\0") if _has_all_scans(segments) else ():
        if _changes_nothing(data + last):
            print(
                f"{printable(name)}: the end marker of this JPEG is missing; its picture is whole "
                "and is used.",
                file=sys.stderr,
            )
            return _open_jpeg(data + last + _END)
    raise PosterError(name, "the picture is damaged (the file ends before the picture does)")


def _changes_nothing(data: bytes) -> bool:
    """Say whether a JPEG's pixels are the same whatever stands behind its data."""
    try:
        first, *others = (np.asarray(_open_jpeg(data + tail + _END)) for tail in _TAILS)
    except OSError:
        return False
    return all(np.array_equal(first, other) for other in others)


def _has_all_scans(segments: Sequence[tuple[int, bytes]]) -> bool:
    """Say whether every coefficient of every component is in a scan, in full precision."""
    missing_bits: dict[int, np.ndarray] = {}
    for marker, content in segments:
        if marker in _JPEG_FRAMES:
            components = content[6 : 6 + 3 * content[5] : 3] if len(content) > 5 else b""
            missing_bits = {component: np.full(64, 255) for component in components}
        elif marker == _JPEG_SCAN and content:
            count = content[0]
            if len(content) < 2 * count + 4:
                return False
            first, last, bits = content[2 * count + 1 : 2 * count + 4]
            for component in content[1 : 2 * count + 1 : 2]:
                if component in missing_bits:
                    missing_bits[component][first : last + 1] = bits & 15
    return bool(missing_bits) and not any(bits.any() for bits in missing_bits.values())


def _factors(image: Image.Image) -> tuple[int, int]:
    """Return by how much to shrink a picture's width and height as soon as it is decoded."""
    both = math.isqrt(image.width * image.height // KEPT_PIXELS)
    across, down = (max(1, both, math.ceil(side / LONGEST_SIDE)) for side in image.size)
    return across, down


def _shrink(image: Image.Image) -> Image.Image:
    factors = _factors(image)
    return image if factors == (1, 1) else image.reduce(factors)


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    _check_size(image, name)
    try:
        image.load()
    except Exception as error:
        raise PosterError(name, f"the picture is damaged ({error})") from None
    # A damaged EXIF block says nothing about the pixels: they stay as stored.
    with contextlib.suppress(Exception):
        # Asked first, because `exif_transpose` copies the picture even where nothing is turned.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_uint8(np.asarray(image), name))
    if image.has_transparency_data:
        image = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        image = _shrink(image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(_shrink(image if image.mode == "RGB" else image.convert("RGB")))


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PosterError(
            name, f"an array of shape {array.shape} is not (height, width) with 3 or 4 channels"
        )
    if not array.size:
        raise PosterError(name, f"an array of shape {array.shape} has no pixels")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all() or array.min() < 0:
        raise PosterError(name, "array values must be numbers from 0 to 255")
    if array.dtype in (np.uint16, np.int32) and array.ndim == 2:
        # Pillow's modes for 16-bit grey: 65535 is white, and 65535 / 257 is 255.
        return (np.minimum(array, 65535) // 257).astype(np.uint8)
    if array.max() > 255 or (array.dtype.kind == "f" and 0 < array.max() <= 1):
        raise PosterError(
            name,
            f"array values run from {array.min():g} to {array.max():g}; give 0 to 255 "
            "(multiply by 255 when white is 1)",
        )
    return np.round(array).astype(np.uint8)


def _too_many_pixels(declared: str, limit: int) -> str:
    return f"{declared} is over the limit of {limit // 1_000_000} million"
