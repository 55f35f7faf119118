"""Limits for pictures and files of strangers: what they declare is checked before it is used."""

import math
import os
import re
from typing import Any

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from genre_utils.support.files import walk

# Checked against the header, before a pixel is decoded: a decoder needs up to 16 bytes a pixel. The
# public posters have at most 0.16 million pixels; a bomb declares thousands of millions. A large
# JPEG is decoded at half its size or less, so that a telephone's photograph of 48 million passes.
MAX_PIXELS, MAX_JPEG_PIXELS = 25_000_000, 50_000_000
# As soon as it is decoded, a picture is shrunk by whole factors to no fewer pixels than these, and
# to no longer sides. No network here looks at more than 1.5 million pixels, and Pillow would first
# stretch 1 × 50,000,000 to a network's width: gigabytes.
KEPT_PIXELS, LONGEST_SIDE = 4_000_000, 20_000
LARGEST_STREAM = 200_000_000  # bytes

# A Path has one stroke left of two; one letter before them is a drive of Windows.
_ADDRESS = re.compile("(?!file:)[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


class DataError(ValueError):
    """Data or a model that cannot be found or used; the message is a sentence for a person."""


class PosterError(ValueError):
    """A poster that cannot be read; `name` says which one and `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self):
        return PosterError, (self.name, self.reason)


def check_size(image: Image.Image, name: str) -> None:
    """Raise `PosterError` for a picture that declares no pixels, or more than may be decoded."""
    if not image.width * image.height:
        raise PosterError(name, "the picture has no pixels")
    limit = MAX_JPEG_PIXELS if isinstance(image, JpegImageFile) else MAX_PIXELS
    if image.width * image.height > limit:
        raise PosterError(name, too_many_pixels(f"{image.width} × {image.height} pixels", limit))


def too_many_pixels(declared: str, limit: int = MAX_PIXELS) -> str:
    """Return why a picture with so many declared pixels is refused."""
    return f"{declared} is over the limit of {limit // 1_000_000} million"


def is_large(image: Image.Image) -> bool:
    """Say whether a picture takes so much memory that one is decoded at a time."""
    return image.width * image.height > KEPT_PIXELS


def factors(image: Image.Image) -> tuple[int, int]:
    """Return by how much to shrink a picture's width and height as soon as it is decoded."""
    both = math.isqrt(image.width * image.height // KEPT_PIXELS)
    across, down = (max(1, both, math.ceil(side / LONGEST_SIDE)) for side in image.size)
    return across, down


def shrink(image: Image.Image) -> Image.Image:
    """Return a decoded picture, smaller by whole factors where it is large."""
    return image if factors(image) == (1, 1) else image.reduce(factors(image))


def read_stream(stream: Any, name: str) -> bytes:
    """Return the content of an open file or stream; raises `PosterError`."""
    try:
        content = stream.read(LARGEST_STREAM + 1)
        is_at_end = not content and getattr(stream, "tell", int)() > 0
    except UnicodeError:
        content = ""  # of no text, read as text
    except Exception as error:  # of each archive and each system, its own
        why = str(error) or type(error).__name__
        raise PosterError(name, f"the stream cannot be read ({why})") from None
    if not isinstance(content, (bytes, bytearray)):
        raise PosterError(name, "this file was opened as text: open it with 'rb'")
    if is_at_end:
        raise PosterError(name, "this file has been read to its end: call its seek(0) first")
    if len(content) > LARGEST_STREAM:
        raise PosterError(name, f"more than {LARGEST_STREAM // 10**6} MB are no poster")
    return content


def is_address(name: str) -> bool:
    """Say whether a name that is no file's is an address, as of the internet or of a bucket."""
    return bool(_ADDRESS.match(name))


def check_file(path: str | os.PathLike, name: str) -> None:
    """Raise `PosterError` for a path that must not be opened: folder, device, pipe, address."""
    if is_address(os.fsdecode(path)) and not os.path.exists(path):
        raise PosterError(name, "this is an internet address: download the picture, give its file")
    # os.path answers False where Path raises: for names too long and folders one may not enter.
    if os.path.isdir(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise PosterError(name, "this is a folder that may not be opened")
        if not os.path.islink(path) and not any(walk(os.fspath(path))):
            raise PosterError(name, "this is an empty folder: there is no picture in it")
        kind = "a link to a folder" if os.path.islink(path) else "a folder"
        raise PosterError(name, f"this is {kind}, not a picture")
    if os.path.exists(path) and not os.path.isfile(path):
        raise PosterError(name, "this is a device or a pipe, not a picture")
