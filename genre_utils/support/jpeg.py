"""JPEG files of strangers: those that take minutes to decode, and those that are cut."""

import io
import re
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from genre_utils.support.files import printable
from genre_utils.support.limits import MAX_JPEG_PIXELS, PosterError, factors

# A progressive JPEG is painted in about ten passes over all its pixels. A crafted one has
# thousands in a small file.
MAX_PASSES = 16 * MAX_JPEG_PIXELS  # passes times pixels
LARGEST_JPEG = 100_000_000  # bytes

# Markers of segments that say how long they are; decoders step over others without a length.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_SCAN, _END = 0xDA, 0xD9
_FRAMES = (0xC0, 0xC1, 0xC2)  # sequential and progressive, with Huffman's code
_END_MARKER = bytes((0xFF, _END))
_ZEROS = bytes(8)  # room that a download was given, and that would be painted, too
# What is put behind data that may be cut: nothing, which decoders take for zeros, and patterns. A
# cut between two restart markers shows in the one that stands behind the marker which comes next.
_RESTARTS = [b"", *(bytes((0xFF, 0xD0 + number)) for number in range(8))]
_BITS = (0x55, 0xAA, 0x33, 0xC7, 0x1E, 0x96, 0xE1, 0x78)
_TAILS = [b"", *(b"".join(r + bytes((p,)) * 48 for r in _RESTARTS) for p in _BITS)]


def prepare_jpeg(image: JpegImageFile, name: str) -> Image.Image:
    """Refuse a JPEG that takes minutes to decode; have a large one decoded smaller.

    Returns the picture to decode: one without its end marker, but whole, gets the marker back.
    """
    image.fp.seek(0)
    content = image.fp.read(LARGEST_JPEG + 1)
    if len(content) > LARGEST_JPEG:
        raise PosterError(name, f"a JPEG of more than {LARGEST_JPEG // 10**6} MB is no poster")
    segments = list(_segments(content))
    scans = sum(marker == _SCAN for marker, _ in segments)
    if scans * image.width * image.height > MAX_PASSES:
        raise PosterError(name, f"the picture is painted in {scans} passes, which takes too long")
    if not segments or segments[-1][0] != _END:
        return _open_without_end(content, segments, name)
    return _draft(image)


def _draft(image: Image.Image) -> Image.Image:
    """Have a large JPEG decoded smaller, and return it."""
    factor = min(factors(image))
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    return image


def _open(content: bytes) -> Image.Image:
    return _draft(Image.open(io.BytesIO(content), formats=("JPEG",)))


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and content of each segment, without thumbnails', up to the end marker."""
    place = 2
    while found := _MARKER.search(content, place):
        marker, place = found[0][1], found.end()
        if marker == _END:
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
    tries = [content.removesuffix(_END_MARKER[:1])] * (not content.endswith(_ZEROS))
    for data in (*tries, content.rstrip(b"\xff\0")) if _has_all_scans(segments) else ():
        if _changes_nothing(data):
            print(
                f"{printable(name)}: the end marker of this JPEG is missing; nothing else seems to "
                "be, and it is used.",
                file=sys.stderr,
            )
            return _open(data + _END_MARKER)
    raise PosterError(name, "the picture is damaged (the file ends before the picture does)")


def _changes_nothing(data: bytes) -> bool:
    """Say whether a JPEG's pixels are the same whatever stands behind its data."""
    try:
        first, *others = (np.asarray(_open(data + tail + _END_MARKER)) for tail in _TAILS)
    except OSError:
        return False
    return all(np.array_equal(first, other) for other in others)


def _has_all_scans(segments: Sequence[tuple[int, bytes]]) -> bool:
    """Say whether every coefficient of every component is in a scan, in full precision."""
    missing_bits: dict[int, np.ndarray] = {}
    for marker, content in segments:
        if marker in _FRAMES:
            components = content[6 : 6 + 3 * content[5] : 3] if len(content) > 5 else b""
            missing_bits = {component: np.full(64, 255) for component in components}
        elif marker == _SCAN and content:
            count = content[0]
            if len(content) < 2 * count + 4:
                return False
            first, last, bits = content[2 * count + 1 : 2 * count + 4]
            for component in content[1 : 2 * count + 1 : 2]:
                if component in missing_bits:
                    missing_bits[component][first : last + 1] = bits & 15
    return bool(missing_bits) and not any(bits.any() for bits in missing_bits.values())
