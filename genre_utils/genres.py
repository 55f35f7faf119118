"""The genres: their names, their order, and tables of labels and scores by them."""

from collections.abc import Iterable, Sequence

import numpy as np

# The one list of this project, in the order of the public CSV's columns. A saved model has its own
# list: only that tells the order of its outputs.
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

# The public CSV has a column of this name for titles whose genre nobody entered. It says that a
# label is missing, so no model of ours predicts it.
MISSING = "N/A"


def multi_hot(lists: Iterable[Iterable[str]], genres: Sequence[str]) -> np.ndarray:
    """Encode lists of names as int8 0/1 `(n, len(genres))`; raises `KeyError` for other names."""
    position = {genre: i for i, genre in enumerate(genres)}
    rows = list(lists)
    encoded = np.zeros((len(rows), len(genres)), dtype=np.int8)
    for i, names in enumerate(rows):
        encoded[i, [position[name] for name in names]] = 1
    return encoded


def order_genres(names: Iterable[str]) -> tuple[str, ...]:
    """Return genres in the project's order: first as in `IMDB_GENRES`, then the others A to Z."""
    names = set(names)
    known = [genre for genre in IMDB_GENRES if genre in names]
    return (*known, *sorted(names - set(known)))


def check_tables(labels: np.ndarray, *tables: np.ndarray) -> None:
    """Raise `ValueError` unless labels are 0 or 1, and tables of scores numbers of their shape.

    The shape is `(n, genres)`, with a poster and a genre or more.
    """
    for table in tables:
        if np.ndim(table) != 2 or np.shape(table) != np.shape(labels) or not np.size(table):
            raise ValueError(
                f"Labels are {np.shape(labels)} and scores {np.shape(table)}: give tables of one "
                "shape, (posters, genres), with a poster or more."
            )
        if np.asarray(table).dtype.kind not in "biuf" or not np.isfinite(table).all():
            raise ValueError("The scores hold what is no number: look at the network's outputs.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("The labels hold other values than 0 and 1.")
