"""A line of text on a poster: what the reader, its cache and the text models share."""

from pathlib import Path
from typing import NamedTuple

WORDS_FILE = Path("outputs/words.jsonl")


class Line(NamedTuple):
    """A line of text on a poster.

    `confidence` is 0.5 to 1 as read here, where lines of less are left out; of readings that were
    made elsewhere it is 0 to 1. `corners` are four (x, y) in fractions of the picture's width and
    height: top left, top right, bottom right, bottom left as one reads the text.
    """

    text: str
    confidence: float
    corners: tuple[tuple[float, float], ...]
