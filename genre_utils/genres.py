"""The genres: their names, their order, and how a text becomes a multi-hot vector."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

import numpy as np

# The one list of this project, in the order of the public CSV's columns. A saved model carries
# its own list; nothing else may be asked for the order of its outputs.
IMDB_GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Biography",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Family",
    "Fantasy",
    "History",
    "Horror",
    "Music",
    "Musical",
    "Mystery",
    "News",
    "Reality-TV",
    "Romance",
    "Sci-Fi",
    "Short",
    "Sport",
    "Thriller",
    "War",
    "Western",
)

# Names of other columns in the tables of posters and of predictions.
RESERVED = ("id", "path", "split", "unlabelled", "poster", "rank", "genre", "score", "error")

# The public CSV has a column of this name for titles whose genre nobody entered. It is the
# absence of a label, so no model of ours predicts it.
MISSING = "N/A"
# Python's own parser can be brought down by nesting; no poster has so many genres.
_LONGEST_CELL = 10_000
_NO_GENRE = {"", "n/a", "na", "nan", "none", "null", "\\n"}


def is_missing(name: str) -> bool:
    """Say whether a genre's name means that there is none (`"N/A"`, empty, IMDb's `\\N`)."""
    return name.strip().lower() in _NO_GENRE


def parse_genres(text: str) -> list[str] | None:
    """Read one cell of a genre column: a Python list, `A|B`, or `A, B`.

    Returns the names without the missing ones, in their order, each once; `None` when the cell
    opens a list that cannot be read, or is too long. The cell is data: nothing in it is ever
    executed.
    """
    text = text.strip()
    if len(text) > _LONGEST_CELL:
        return None
    if text.startswith(("[", "(")):
        try:
            names = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            return None
    else:
        names = text.split("|" if "|" in text else ",")
    cleaned = (name.strip() for name in names)
    return list(dict.fromkeys(name for name in cleaned if not is_missing(name)))


def multi_hot(lists: Iterable[Iterable[str]], genres: Sequence[str]) -> np.ndarray:
    """Encode lists of names as int8 `(n, len(genres))`: 1 where the poster has the genre."""
    position = {genre: i for i, genre in enumerate(genres)}
    rows = list(lists)
    encoded = np.zeros((len(rows), len(genres)), dtype=np.int8)
    for i, names in enumerate(rows):
        encoded[i, [position[name] for name in names]] = 1
    return encoded


def order_genres(names: Iterable[str]) -> tuple[str, ...]:
    """Put genres in the project's order: the public list where it knows them all, else A to Z."""
    names = set(names)
    if names <= set(IMDB_GENRES):
        return tuple(genre for genre in IMDB_GENRES if genre in names)
    return tuple(sorted(names))
