"""What the released model learns from: posters, their words, and films, less what is off limits.

Three folders are given on the command line of each stage: `--posters` (the public data, that is
`train.csv`, `Images/`, `poster_text.jsonl.gz`), `--more` (what `tools/more_posters.py` wrote, with
readings of those posters as `poster_text.jsonl.gz`) and `--films` (tables of films with the columns
of `FILM_TABLES`). The last two can be left out, which shows what they are worth. `--off-limits`
names further ids that nothing may learn from.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import genre_utils
from genre_utils.genres import IMDB_GENRES, multi_hot
from genre_utils.ocr import Line
from genre_utils.sources import parse_genres
from genre_utils.text import join_lines

SPLITS = Path(genre_utils.__file__).parent / "splits"
FIRST_YEAR = 1950  # posters are rarely older, and other names stood on them
FILM_TABLES = {
    "wikipedia": ("Id", "title", "year", "genres", "cast"),
    "imdb_titles": ("Id", "title", "year", "genres"),
    "imdb_5000": ("Id", "title", "year", "genres", "actors", "director"),
}
# Genres that Wikipedia's categories do not tell: their loss is left out for its films.
UNKNOWN_TO_WIKIPEDIA = ("Music", "News", "Reality-TV", "Short")


@dataclass(frozen=True)
class Film:
    """A film as a table knows it; `labels` are multi-hot `(24,)`, `known` is 0 where it cannot."""

    id: str
    title: str
    names: list[str]
    labels: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class ReleaseData:
    """Labels and lines by poster id, the films, and who learns and who chooses."""

    labels: dict[str, np.ndarray]
    pictures: dict[str, Path]
    lines: dict[str, list[Line]]
    films: list[Film]
    train: list[str]
    validation: list[str]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all stages share."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("posters", "off-limits", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--more", type=Path, help="folder of further posters; none: do without")
    parser.add_argument("--films", type=Path, help="folder of films' tables; none: do without")
    return parser


def read_ids(file: Path) -> set[str]:
    """Return the ids of a file, one a line."""
    if not file.exists():
        sys.exit(f"{file} does not exist: give a file of ids, one a line; it may be empty.")
    return set(file.read_text("utf-8").split())


def load(options: argparse.Namespace) -> ReleaseData:
    """Read all tables; what is off limits, tested or validated on is in no training part.

    Their films are left out by id and by title, so that test and validation score what the model
    makes of films that it does not know.
    """
    test, validation = (read_ids(SPLITS / f"imdb_{s}_ids.txt") for s in ("test", "validation"))
    off_limits = read_ids(options.off_limits) | test
    labels, pictures, lines = {}, {}, {}
    for folder in filter(None, (options.more, options.posters)):
        lost = []
        for row in _rows(folder / "train.csv", ("Id", "Genre")):
            picture = folder / "Images" / f"{row['Id']}.jpg"
            names = [name for name in parse_genres(row["Genre"]) or [] if name in IMDB_GENRES]
            if row["Id"] in off_limits or not names:
                continue
            if not picture.exists():
                lost.append(row["Id"])
                continue
            labels[row["Id"]] = multi_hot([names], IMDB_GENRES)[0].astype(np.float32)
            pictures[row["Id"]] = picture
        if lost:
            print(
                f"{folder}: {len(lost)} labels without a picture, such as {lost[0]}, are left out."
            )
        lines |= read_lines(folder / "poster_text.jsonl.gz")
    train = [poster for poster in labels if poster not in validation]
    films = []
    if options.films:
        films = read_films(options.films, off_limits | validation)
    kept = {poster: found for poster, found in lines.items() if poster in labels}
    return ReleaseData(labels, pictures, kept, films, train, sorted(validation & set(labels)))


def read_lines(file: Path) -> dict[str, list[Line]]:
    """Read the lines on posters, `{"id": …, "t": [[text, confidence, corners], …]}` a row."""
    if not file.exists():
        sys.exit(f"{file} does not exist: it holds the words that were read on the posters.")
    with gzip.open(file) as rows:
        entries = map(json.loads, rows)
        return {
            entry["id"]: [Line(text, sure, tuple(map(tuple, at))) for text, sure, at in entry["t"]]
            for entry in entries
        }


def read_films(folder: Path, left_out: set[str]) -> list[Film]:
    """Read the films of `FILM_TABLES` since `FIRST_YEAR` that have a title and a genre.

    Films whose id is in `left_out`, or whose title is that of such a film, are left out.
    A table that is missing, or has other columns, ends the program with a sentence.
    """
    tables = {n: _rows(folder / f"{n}.csv.gz", columns) for n, columns in FILM_TABLES.items()}
    everything = [row for table in tables.values() for row in table]
    titles = {_plain(row["title"]) for row in everything if row["Id"] in left_out}

    def usable(row: dict[str, str]) -> bool:
        title = _plain(row["title"])
        recent = int(row["year"] or 0) >= FIRST_YEAR
        return bool(title and row["genres"] and recent) and not (
            row["Id"] in left_out or title in titles
        )

    cast = {row["Id"]: _split(row["cast"]) for row in tables["wikipedia"] if row["Id"]}
    credits = {
        row["Id"]: [*_split(row["actors"]), *filter(None, [row["director"]])]
        for row in tables["imdb_5000"]
    }
    known = np.array([genre not in UNKNOWN_TO_WIKIPEDIA for genre in IMDB_GENRES], np.float32)
    films = [
        Film(row["Id"], row["title"], _split(row["cast"]), _labels(row["genres"]), known)
        for row in tables["wikipedia"]
        if usable(row)
    ]
    unique = {row["Id"]: row for row in tables["imdb_5000"] + tables["imdb_titles"] if usable(row)}
    films += [
        Film(
            poster,
            row["title"],
            credits.get(poster) or cast.get(poster) or [],
            _labels(row["genres"]),
            np.ones_like(known),
        )
        for poster, row in unique.items()
    ]
    return films


def as_on_a_poster(film: Film, rng: random.Random) -> str:
    """Write a film's title and some of its names as they may stand, and be read, on a poster.

    The names come in any order, the title first or last, now and then without; readers glue a
    first name to the last one.
    """
    names = rng.sample(film.names, min(len(film.names), rng.randint(0, 5)))
    if names and rng.random() < 0.12:
        names[0] = names[0].replace(" ", "")
    title = [film.title] if not names or rng.random() < 0.93 else []
    return " ".join([*title, *names] if rng.random() < 0.75 else [*names, *title])


def texts(data: ReleaseData, posters: Iterable[str]) -> list[str]:
    """Return the posters' texts, as training and prediction know them."""
    return [join_lines(data.lines.get(poster, [])) for poster in posters]


def targets(data: ReleaseData, posters: Sequence[str]) -> np.ndarray:
    """Return multi-hot labels `(n, 24)`, float32."""
    return np.stack([data.labels[poster] for poster in posters])


def _labels(genres: str) -> np.ndarray:
    names = [name for name in genres.split("|") if name in IMDB_GENRES]
    return multi_hot([names], IMDB_GENRES)[0].astype(np.float32)


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not file.exists():
        sys.exit(f"{file} does not exist: give a folder that holds {file.name}.")
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8", newline="") as opened:
        table = csv.DictReader(opened)
        if missing := [name for name in columns if name not in (table.fieldnames or ())]:
            sys.exit(
                f"{file} has no column {missing[0]!r}: it needs {', '.join(columns)}, and has "
                f"{', '.join(table.fieldnames or ['none'])}."
            )
        return list(table)


def _split(names: str) -> list[str]:
    return [name for name in names.split("|") if name]


def _plain(title: str) -> str:
    return re.sub("[^a-z0-9]", "", title.lower())
