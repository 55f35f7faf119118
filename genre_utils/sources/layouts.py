"""Recognise how a folder lays out its table and its pictures, those we do not read among them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from genre_utils import images
from genre_utils.genres import IMDB_GENRES
from genre_utils.sources import tables
from genre_utils.sources.labels import GENRE_COLUMNS, TAG_COLUMNS
from genre_utils.sources.pictures import files_below, list_folder, may_be_picture
from genre_utils.sources.spelling import known_genre, squeeze
from genre_utils.sources.tables import read_header
from genre_utils.support import DataError, first_of

# Tables in other formats, and what to do with them.
OTHER_TABLES = {
    ".xlsx .xls .ods .numbers": "save the sheet as CSV, named train.csv",
    ".parquet .feather .arrow": "save it as CSV, with pandas for example",
    ".json .jsonl .txt": "write a train.csv with the columns Id and Genre",
    ".zip .tar .gz .tgz .7z .rar": "unpack it",
}
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
SHOWN = 8


def find_layout(
    folder: Path, accept: Callable[[Path], bool] = lambda table: True
) -> tuple[Path, Path] | None:
    """Find the table and the folder of pictures, as `(csv, images)`.

    The table is the CSV or TSV file called `train`, else the only one, else the only one with a
    column of genres or labels, if `accept` agrees. The pictures lie in or below `Images` (in any
    case), else `posters`, else the table's folder. Both stand in `folder` itself or in one folder
    below it. `None` when there are none, or several folders below fit equally well.
    """
    found = _layouts([folder], accept) or _layouts(folders_in(folder), accept)
    return found[0] if len(found) == 1 else None


def find_images(folder: Path) -> Path | None:
    """Find the folder of pictures that belongs to a table in `folder`."""
    below = folders_in(folder)
    named = [one for name in ("images", "posters") for one in below if one.name.lower() == name]
    return next(
        (one for one in (*named, folder) if any(map(may_be_picture, files_below(one)))), None
    )


def tables_in(folder: Path) -> list[Path]:
    """Return the tables that stand directly in a folder, from A to Z."""
    files = (Path(file.path) for file in list_folder(folder)[0])
    return [file for file in files if file.suffix.lower() in tables.SUFFIXES]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, from A to Z, without hidden ones."""
    return [Path(one.path) for one in list_folder(folder)[1]]


def names_genres(table: Path) -> bool:
    """Say whether a table's header speaks of genres, in a column or in 0/1 columns.

    Nobody named these folders to us: another data set's train.csv and images, or an expense
    list among the photos in a Drive, must not be taken for posters.
    """
    return _has_column(table, ("genre", "genres", *map(squeeze, IMDB_GENRES)))


def explain_folder(folder: Path, setting: str) -> NoReturn:
    """Raise the `DataError` that says why a folder has no layout, and what is in it."""
    raise DataError(f"{setting} is '{folder}', {_why_none(folder)}.")


def _why_none(folder: Path) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"which cannot be opened ({error.strerror})"
    if not names:
        return "which is empty; put a table, such as train.csv, and the pictures into it"
    if below := [table.parent.name for table, _ in _layouts(folders_in(folder))]:
        fitting = ", ".join(map(repr, below))
        if {name.lower() for name in below} <= SPLITS:
            return (
                f"where each split has a table and pictures of its own ({fitting}). They are not "
                "joined: put the rows into one train.csv and the pictures into one folder Images, "
                "or give the path of one of them"
            )
        return f"where several folders fit ({fitting}); give the path of one"
    for place in (folder, *folders_in(folder)):
        found = tables_in(place)
        if len(found) > 1 and not _find_table(place):
            listed = ", ".join(f"'{table.relative_to(folder)}'" for table in found)
            return (
                f"where several tables stand and more than one may be meant ({listed}); give the "
                "path of one"
            )
    listed = first_of([*map(repr, names)], SHOWN)
    endings = ", ".join(images.SUFFIXES)
    other = _other_layout(folder)
    places = [folder] if other else [folder, *folders_in(folder)]
    if table := next(filter(None, map(_find_table, places)), None):
        return (
            f"where no pictures belong to the table '{table.relative_to(folder)}'; put them "
            f"({endings}) into a folder Images beside it. Seen: {listed}"
        )
    return (
        f"where there is no table{other}; it must hold a CSV or TSV file, such as "
        f"train.csv, and {endings} files, or one folder that does. Seen: {listed}"
    )


def _other_layout(folder: Path) -> str:
    """Return what is recognised of a folder without a table, as the end of a clause."""
    files = [Path(file.path) for file in files_below(folder)]
    pictures = [file for file in files if may_be_picture(file)]
    if sum(file.suffix.lower() == ".json" for file in files) > 2 and pictures:
        return (
            ", but a JSON file for each poster, as in MM-IMDb, which is not read: write a table "
            "with the columns Id and Genre from them"
        )
    genres = sorted(filter(known_genre, {picture.parent.name for picture in pictures}))
    if len(genres) > 1:
        return (
            f", but a folder for each genre ({', '.join(genres[:3])}, …), which is not read: write "
            "a table with the columns Id and Genre, a row for each picture"
        )
    for file in files:
        for endings, what_now in OTHER_TABLES.items():
            if file.suffix.lower() in endings.split():
                return f", but '{file.name}', which is not read: {what_now}"
    return ""


def _layouts(
    folders: list[Path], accept: Callable[[Path], bool] = lambda table: True
) -> list[tuple[Path, Path]]:
    """Return the layouts that stand directly in some folders."""
    found = [table for folder in folders if (table := _find_table(folder)) and accept(table)]
    return [(table, images) for table in found if (images := find_images(table.parent))]


def _find_table(folder: Path) -> Path | None:
    found = tables_in(folder)
    chosen = [table for table in found if table.stem.lower() == "train"]
    if len(chosen) != 1 and len(found) > 1:
        wanted = (*GENRE_COLUMNS, *TAG_COLUMNS, *map(squeeze, IMDB_GENRES))
        chosen = [table for table in found if _has_column(table, wanted)]
    chosen = chosen or found
    return chosen[0] if len(chosen) == 1 else None


def _has_column(table: Path, wanted: tuple[str, ...]) -> bool:
    return any(squeeze(name.rstrip("0123456789")) in wanted for name in read_header(table))
