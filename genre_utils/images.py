"""From bytes to pixels: the one decoder that training and prediction share."""

import contextlib
import io
import os
import threading
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from genre_utils.support import (
    PosterError,
    check_file,
    check_size,
    is_large,
    prepare_jpeg,
    read_stream,
    shrink,
    too_many_pixels,
)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")

# Decoding a large picture takes hundreds of megabytes, so one thread at a time does it.
_decoding_large = threading.Lock()

# Close to the median shape of the training posters, 1.48. A width of 272 has a height of 400 by it:
# both are multiples of 16.
POSTER_ASPECT = 1.47
SMALLEST_SIDE, LARGEST_SIDE = 64, 1024
# How much larger a network fine-tuned on crops is shown whole posters. Of 1.1, 1.17 and 1.35 this
# did best on validation (`benchmarks/experiments.md`).
ENLARGED = 1.17


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

    A crop enlarges what is on a poster, so that at the training size whole posters show faces and
    letters smaller than the crops did (Touvron et al., "Fixing the train-test resolution
    discrepancy", 2019). Both sides are multiples of 16.
    """
    height, width = (round(ENLARGED * side / 16) * 16 for side in size)
    return height, width


def read_poster(source: Any, name: str | None = None) -> np.ndarray:
    """Read a poster into an RGB array `(height, width, 3)`, uint8.

    `source` is a path, an open file or stream, the bytes of a picture file (JPEG, PNG, WebP, GIF or
    BMP; of an animation the first frame), a PIL image, or an array `(height, width)`, `(height,
    width, 3)` or `(height, width, 4)` with values 0–255 (grey uint16: 0–65535). The EXIF
    orientation is applied, transparency is laid over white, grey, CMYK, palette and 16-bit pictures
    become RGB. A picture of 16 million pixels or more, or with a side of over 20,000, is shrunk by
    a whole factor. A JPEG that seems to lack its end marker alone is read, and a line on standard
    error says so.

    Raises `PosterError`, with `name` or the path in it, for everything that cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or str(source)
        check_file(source, name)
        return _decode(source, name)
    name = name or "poster"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), name)
    if hasattr(source, "read"):
        return _decode(io.BytesIO(read_stream(source, name)), name)
    if isinstance(source, Image.Image):
        try:
            return _to_rgb(source, name)
        except PosterError:
            raise
        except Exception as error:  # of a cut file, or of a mode that nothing is converted from
            reason = str(error) or type(error).__name__
            what = f"this picture of mode {source.mode} cannot be read ({reason})"
            raise PosterError(name, what) from None
    if isinstance(source, np.ndarray):
        return _to_rgb(Image.fromarray(_to_uint8(source, name)), name)
    raise PosterError(
        name, f"of type {type(source).__name__}, not a path, a file, bytes, a PIL image or array"
    )


def resize_poster(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an RGB array to `size` (height, width); returns uint8 `(height, width, 3)`.

    The proportions are not kept: a poster fills the network's input whatever its own shape.
    """
    height, width = size
    # Pillow's filter widens as it shrinks (antialias). Keras' resize layers do not by default, and
    # turn fine print into noise, so every pixel of this project is resized here.
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return a picture's width and height in pixels, upright, from its header.

    Raises what Pillow raises for a file that is no picture of `FORMATS`.
    """
    with Image.open(path, formats=FORMATS) as image:
        orientation = 1
        # Pillow decodes a PNG to look for an EXIF block behind its pixels: there it is not seen.
        if image.format != "PNG" or "exif" in image.info:
            with contextlib.suppress(Exception):  # damage there says nothing about the pixels
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return image.size[::-1] if orientation in (5, 6, 7, 8) else image.size


def is_picture(path: str | os.PathLike) -> bool:
    """Return whether a file begins like a picture of one of `FORMATS`; decodes no pixel."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # Pillow's plugins raise whatever their parser met
        return False


def _decode(file: str | os.PathLike | io.BytesIO, name: str) -> np.ndarray:
    try:
        # From a path, Pillow reads only the start of a file that is no picture.
        with Image.open(file, formats=FORMATS) as image:
            check_size(image, name)
            with _decoding_large if is_large(image) else contextlib.nullcontext():
                if isinstance(image, JpegImageFile):
                    return _to_rgb(prepare_jpeg(image, name), name)
                return _to_rgb(image, name)
    except FileNotFoundError:
        raise PosterError(name, "there is no such file") from None
    except UnidentifiedImageError:
        size = len(file.getbuffer()) if isinstance(file, io.BytesIO) else os.path.getsize(file)
        if not size:
            raise PosterError(name, "the file is empty") from None
        raise PosterError(name, f"not a picture in a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        declared = "it declares far too many pixels, which"
        raise PosterError(name, too_many_pixels(declared)) from None
    except PosterError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever their parser met
        if isinstance(error, OSError) and error.strerror:
            raise PosterError(name, f"the file cannot be read ({error.strerror})") from None
        reason = str(error) or type(error).__name__
        raise PosterError(name, f"the picture is damaged ({reason})") from None


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    check_size(image, name)
    image.load()
    # A damaged EXIF block says nothing about the pixels: they stay as stored.
    with contextlib.suppress(Exception):
        # Checked first, because `exif_transpose` copies a picture even where it turns nothing.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values, transparent = np.asarray(image), image.info.get("transparency")
        # 16-bit grey, as Pillow may hold it; 8-bit grey can be converted to this mode, too.
        if values.dtype == np.int32 and values.min() >= 0 and values.max() > 255:
            values = np.minimum(values, 65535).astype(np.uint16)
        grey = _to_uint8(values, name)
        if isinstance(transparent, int):
            grey = np.where(values == transparent, np.uint8(255), grey)
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        image = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        image = shrink(image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(shrink(image if image.mode == "RGB" else image.convert("RGB")))


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
    if array.dtype.kind == "u" and array.dtype.itemsize == 2 and array.ndim == 2:
        return (array // 257).astype(np.uint8)  # 65535 is white, and 65535 / 257 is 255
    if array.max() > 255 or (array.dtype.kind == "f" and 0 < array.max() <= 1):
        raise PosterError(
            name,
            f"array values run from {array.min():g} to {array.max():g}; give 0 to 255 "
            "(multiply by 255 when white is 1)",
        )
    return np.round(array).astype(np.uint8)
