"""A line of text on a poster: what the reader, its cache and the text models share."""

from pathlib import Path
from typing import NamedTuple

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
