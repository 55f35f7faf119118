"""Recognise how a folder lays out its table and its pictures, those we do not read among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from genre_utils import images
from genre_utils.genres import IMDB_GENRES
from genre_utils.sources import tables
from genre_utils.sources.labels import GENRE_COLUMNS, TAG_COLUMNS
from genre_utils.sources.pictures import is_picture, walk
from genre_utils.sources.spelling import known_genre, squeeze
from genre_utils.sources.tables import DataError, read_header

# Tables in other formats, and what to do with them.
OTHER_TABLES = {
    **dict.fromkeys(
        (".xlsx", ".xls", ".ods", ".numbers"), "save the sheet as CSV, named train.csv"
    ),
    **dict.fromkeys((".parquet", ".feather", ".arrow"), "save it as CSV, with pandas for example"),
    **dict.fromkeys((".json", ".jsonl", ".txt"), "write a train.csv with the columns Id and Genre"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "unpack it"),
}
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
SHOWN = 8


def find_layout(
    folder: Path, accept: Callable[[Path], bool] = lambda table: True
) -> tuple[Path, Path] | None:
    """Find the table and the folder of pictures, as `(csv, images)`.

    The table is `train.csv`, else the only CSV or TSV file, else the only one that names genres,
    if `accept` agrees. The pictures lie in or below `Images` (in any case), else `posters`, else
    the table's folder. Both stand in `folder` itself or in one folder below it. `None` when there
    are none, or several folders below fit equally well.
    """
    if layout := _layout_at(folder, accept):
        return layout
    below = _layouts_below(folder, accept)
    return below[0] if len(below) == 1 else None


def find_images(folder: Path) -> Path | None:
    """Find the folder of pictures that belongs to a table in `folder`."""
    below = _folders(folder)
    for wanted in ("images", "posters"):
        for candidate in below:
            if candidate.name.lower() == wanted and _has_pictures(candidate):
                return candidate
    return folder if _has_pictures(folder) else None


def tables_in(folder: Path) -> list[Path]:
    """Return the tables that stand directly in a folder, from A to Z."""
    files = _entries(folder, os.DirEntry.is_file)
    return sorted(file for file in files if file.suffix.lower() in tables.SUFFIXES)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, from A to Z, without hidden ones."""
    return _folders(folder)


def names_genres(table: Path) -> bool:
    """Say whether a table's header speaks of genres, in a column or in 0/1 columns.

    Nobody named these folders to us: another data set's train.csv and images, or an expense
    list among the photos in a Drive, must not be taken for posters.
    """
    return _has_column(table, ("genre", "genres", *map(squeeze, IMDB_GENRES)))


def explain_folder(folder: Path, setting: str) -> NoReturn:
    """Raise the `DataError` that says why a folder has no layout, and what is in it."""
    start = f"{setting} is '{folder}', "
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{start}which cannot be opened ({error.strerror}).") from None
    if not names:
        raise DataError(f"{start}which is empty; put train.csv and a folder Images into it.")
    if below := [table.parent.name for table, _ in _layouts_below(folder)]:
        fitting = ", ".join(map(repr, below))
        if {name.lower() for name in below} <= SPLITS:
            raise DataError(
                f"{start}where each split has a table and pictures of its own ({fitting}). They "
                "are not joined: put the rows into one train.csv and the pictures into one folder "
                "Images, or give the path of one of them."
            )
        raise DataError(f"{start}where several folders fit ({fitting}); give the path of one.")
    for place in (folder, *_folders(folder)):
        found = tables_in(place)
        if len(found) > 1 and not _find_table(place):
            listed = ", ".join(f"'{table.relative_to(folder)}'" for table in found)
            raise DataError(
                f"{start}where several CSV files stand and none is train.csv ({listed}); "
                "give the path of one."
            )
    seen = ", ".join(repr(name) for name in sorted(names)[:SHOWN])
    seen += f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    if _find_table(folder):
        raise DataError(
            f"{start}where there are no pictures; put them ({', '.join(images.SUFFIXES)}) into a "
            f"folder Images beside the table. Seen: {seen}."
        )
    raise DataError(
        f"{start}where there is no train.csv{_other_layout(folder)}; it must hold train.csv and a "
        f"folder Images with {', '.join(images.SUFFIXES)} files, or one folder that does. Seen: "
        f"{seen}."
    )


def _other_layout(folder: Path) -> str:
    """Return what is recognised of a folder without a table, as the end of a clause."""
    files = list(walk(folder))
    endings = [os.path.splitext(file.name.lower())[1] for file in files]
    pictures = [Path(file.path) for file in files if is_picture(file)]
    if endings.count(".json") > 2 and pictures:
        return (
            ", but a JSON file for each poster, as in MM-IMDb, which is not read: write a table "
            "with the columns Id and Genre from them"
        )
    holders = {picture.parent.name for picture in pictures}
    genres = sorted(name for name in holders if known_genre(name))
    if len(genres) > 1:
        return (
            f", but a folder for each genre ({', '.join(genres[:3])}, …), which is not read: write "
            "a table with the columns Id and Genre, a row for each picture"
        )
    for file, ending in zip(files, endings, strict=True):
        if ending in OTHER_TABLES:
            return f", but '{file.name}', which is not read: {OTHER_TABLES[ending]}"
    return ""


def _layout_at(folder: Path, accept: Callable[[Path], bool]) -> tuple[Path, Path] | None:
    table = _find_table(folder)
    images = find_images(folder) if table and accept(table) else None
    return (table, images) if table and images else None


def _layouts_below(
    folder: Path, accept: Callable[[Path], bool] = lambda table: True
) -> list[tuple[Path, Path]]:
    return [layout for below in _folders(folder) if (layout := _layout_at(below, accept))]


def _find_table(folder: Path) -> Path | None:
    found = tables_in(folder)
    wanted = (*GENRE_COLUMNS, *TAG_COLUMNS, *map(squeeze, IMDB_GENRES))
    for candidates in (
        [table for table in found if table.stem.lower() == "train"],
        found,
        [table for table in found if len(found) > 1 and _has_column(table, wanted)],
    ):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _has_column(table: Path, wanted: tuple[str, ...]) -> bool:
    return any(squeeze(name.rstrip("0123456789")) in wanted for name in read_header(table))


def _folders(folder: Path) -> list[Path]:
    return sorted(_entries(folder, os.DirEntry.is_dir))


def _has_pictures(folder: Path) -> bool:
    return any(map(is_picture, walk(folder)))


def _entries(folder: Path, is_kind: Callable[[os.DirEntry[str]], bool]) -> Iterator[Path]:
    """Yield one kind of what lies in a folder, without hidden entries.

    What cannot be opened is passed over: a search must outlive broken links and locked folders.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Archives made on a Mac carry a shadow of every file under these names.
            if entry.name.startswith((".", "__MACOSX")):
                continue
            with suppress(OSError):
                if is_kind(entry):
                    yield Path(entry.path)
