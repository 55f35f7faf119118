"""The spaces that a reader loses in the wide and narrow letters of posters."""

from __future__ import annotations

import re
from functools import lru_cache

# Words of the letters that English has; the splitter knows no others.
ENGLISH = re.compile(r"(?<![^\W\d_])[A-Za-z]+(?![^\W\d_])")
# A split into shorter pieces than this, on average, is more often a name torn than spaces found.
SHORTEST_PIECES = 3


def segment_words(text: str) -> str:
    """Put lost spaces back: "THELAST EXORCISM" becomes "THE LAST EXORCISM".

    `wordninja` finds the most likely English words by their frequency. A word that it would split
    into scraps is more likely a name, and stays.
    """
    return ENGLISH.sub(lambda found: _split_word(found.group()), text)


@lru_cache(maxsize=1 << 16)
def _split_word(word: str) -> str:
    import wordninja

    pieces = wordninja.split(word)
    long_enough = len(word) >= SHORTEST_PIECES * len(pieces)
    scraps = any(len(piece) == 1 and piece.lower() not in "ai" for piece in pieces)
    return " ".join(pieces) if long_enough and not scraps else word
