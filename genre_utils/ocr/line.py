"""A line of text on a poster: what the reader, its cache and the text models share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # `--help`, which names the words' file, imports no NumPy
    import numpy as np

WORDS_FILE = Path("outputs/words.jsonl")


class Line(NamedTuple):
    """A line of text on a poster.

    `confidence` is 0.5 to 1: lines of less are left out. `corners` are four
    (x, y) in fractions of the picture's width and height: top left, top right, bottom right,
    bottom left as one reads the text.
    """

    text: str
    confidence: float
    corners: tuple[tuple[float, float], ...]


def round_corners(pixels: np.ndarray, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Turn four corners in pixels into `Line.corners`; `size` is the picture's (width, height)."""
    import numpy as np

    fractions = np.clip(np.divide(pixels, size), 0, 1).round(4)
    return tuple((x, y) for x, y in fractions.tolist())
