"""Find the picture of each row: ids and paths in any spelling, in one folder and below it."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from genre_utils.images import SUFFIXES
from genre_utils.sources.spelling import squeeze
from genre_utils.sources.tables import AddFinding, Table
from genre_utils.support import DataError

# Compared as `squeeze` leaves them. Should several be there, the one that finds most pictures
# counts.
ID_COLUMNS = (
    *("id", "imdbid", "tconst", "movieid", "posterid", "imageid", "filename", "file", "image"),
    *("img", "poster", "path", "filepath", "imagepath", "posterpath", "imagefile", "posterfile"),
    *("imagename", "imgname", "imgpath", "imgid", "postername", "imdb", "imdbtitleid", "titleid"),
    *("imdblink", "imdburl", "imdbpath", "link", "url", "posterurl", "posterlink", "imageurl"),
    *("tmdbid", "filmid", "movie", "film", "key", "uid"),
)
DEEPEST = 4  # folders below the pictures' own
# What a picture's first bytes say, whatever its name.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
_NUMBER = re.compile(r"(?:tt)?0*(\d+)(?:\.0+)?")
_ENDING = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|avif)$")


def list_folder(folder: str | Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the files and the folders directly in a folder, from A to Z, without hidden ones.

    What cannot be opened is passed over: a search must outlive broken links and locked folders.
    """
    files, folders = [], []
    with suppress(OSError), os.scandir(folder) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            # Archives made on a Mac carry a shadow of every file under these names.
            if entry.name.startswith((".", "__MACOSX")):
                continue
            with suppress(OSError):
                if entry.is_dir():
                    folders.append(entry)
                elif entry.is_file():
                    files.append(entry)
    return files, folders


def files_below(folder: str | Path, depth: int = DEEPEST) -> Iterator[os.DirEntry[str]]:
    """Yield the files in a folder and below it, in order; links to folders are not followed."""
    files, folders = list_folder(folder)
    yield from files
    for below in folders if depth else ():
        if not below.is_symlink():
            yield from files_below(below.path, depth - 1)


def may_be_picture(file: os.PathLike[str]) -> bool:
    """Say whether a file may be a picture, by its ending, or without one by its first bytes."""
    ending = os.path.splitext(file)[1].lower()
    return ending in SUFFIXES or (not ending and begins_as(file) == "picture")


def begins_as(path: str | os.PathLike) -> str:
    """Return what a file begins as: "picture", "HTML page", "HEIC picture", or "" for others."""
    try:
        with open(path, "rb") as file:
            start = file.read(32)
    except OSError:
        return ""
    if start.startswith(_PICTURES):
        return "picture"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "HTML page"
    return "HEIC picture" if re.match(rb"....ftyp(?:hei|hev|mif|msf)", start, re.DOTALL) else ""


def normal_id(name: str) -> str:
    """Return what all spellings of an id share: `tt0086001` for 86001, 0086001.0 and a/TT86001.JPG.

    The last part of a path or an address counts, without its ending, in small letters.
    """
    stem = _keys(last_part(name))[1]
    number = _NUMBER.fullmatch(stem)
    return f"tt{int(number[1]):07d}" if number else stem


def distinct_ids(names: Iterable[str]) -> list[str]:
    """Return each id as `normal_id` has it, with its folders where these alone tell it apart."""
    names = list(dict.fromkeys(names))
    times = Counter(map(normal_id, names))
    ids = (
        _path(name) if times[normal_id(name)] > 1 and len(_parts(name)) > 1 else normal_id(name)
        for name in names
    )
    return list(dict.fromkeys(ids))


def spellings(name: str) -> set[str]:
    """Return the ways to write an id, `normal_id` among them: what an older card may hold."""
    normal = normal_id(name)
    number = _NUMBER.fullmatch(normal)
    if not number:
        return {name, normal, _path(name)}
    return {name, normal, _path(name), number[1], number[1].zfill(7), f"{number[1]}.0"}


def last_part(name: str) -> str:
    """Return the file's name in a path of any machine, or in an address on the internet."""
    return _parts(name.strip().strip("\"'"))[-1]


def _parts(name: str) -> list[str]:
    if "://" in name:
        name = unquote(re.split(r"[?#]", name)[0])
    if "/" not in name and "\\" not in name:
        return [name]
    return [part for part in re.split(r"[/\\]+", name) if part not in ("", ".")] or [""]


def _path(name: str) -> str:
    return "/".join(_parts(name)).lower()


def _folder(name: str) -> str:
    """Return the folder before a file's name, in one spelling; empty without one."""
    parts = _parts(unquote(name).strip().strip("\"'"))
    return unicodedata.normalize("NFC", parts[-2].lower()) if len(parts) > 1 else ""


def _keys(name: str) -> list[str | tuple]:
    """Return what a file is found by, the most certain first: name, stem, number if any."""
    # é is one character, of which a Mac makes two in files' names.
    name = unicodedata.normalize("NFC", name.lower())
    stem = _ENDING.sub("", name)
    number = _NUMBER.fullmatch(stem)
    return [name, stem, *([("number", number[1])] if number else [])]


class Pictures:
    """The pictures in a folder and below it, found by what a table calls them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: list[str] = []  # paths
        self.outside: list[str] = []
        self._named: dict[str, list[str]] = {}
        self._by_key: defaultdict[str | tuple, list[str]] = defaultdict(list)
        self._whole: set[str] = set()  # names with their ending
        root = os.path.join(os.path.realpath(folder), "")
        for entry in files_below(folder):
            if entry.is_symlink() and not os.path.realpath(entry.path).startswith(root):
                self.outside.append(entry.name)
                continue
            keys = _keys(entry.name)
            if may_be_picture(entry):
                self.files.append(entry.path)
                self._whole |= {keys[0]} - {keys[1]}
            else:
                del keys[1:]  # found where a table names the very file
            for key in dict.fromkeys(keys):
                self._by_key[key].append(entry.path)

    def named(self, cell: str) -> list[str]:
        """Return the pictures that a cell may mean: none, one, or several of one name."""
        if cell not in self._named:
            found = []
            for name in (cell, cell.strip("\"'")):  # a file's own name may begin with a quote
                parts = _parts(name)
                found = found or next(filter(None, map(self._by_key.get, _keys(parts[-1]))), [])
            self._named[cell] = self._best(found, parts) if len(found) > 1 else found
        return self._named[cell]

    def exact(self, cells: Iterable[str], ending: bool = False) -> int:
        """Count the cells that write a picture's name letter by letter, but for its case.

        They may leave out its ending, unless that is asked for.
        """
        known, place = (self._whole, 0) if ending else (self._by_key, 1)
        return sum(_keys(last_part(cell))[place] in known for cell in cells)

    def find(self, table: Table, column: str, add: AddFinding) -> list[str | None]:
        """Return each row's picture as a path; notes rows and pictures without a partner.

        Of two pictures of one id in one folder the first counts. Where they lie in two folders,
        they may be of two films: the row has none, unless one lies in the uppermost folder; raises
        `DataError` where half of the ids have none for that.
        """
        cells = table.columns[column]
        named = self._in_their_folders({cell: self.named(cell) for cell in cells})
        several, unsure, paths = {}, {}, []
        for cell in cells:
            found = named[cell]
            if len(found) > 1:
                several[cell] = " and ".join(map(self._shown, found))
                top = [path for path in found if os.path.dirname(path) == str(self.folder)]
                if len({*map(os.path.dirname, found)}) > 1 and len(top) != 1:
                    unsure[cell], found = found, []
                else:
                    found = top or found
            paths.append(found[0] if found else None)
        if len(unsure) > max(1, len({*cells}) / 2):
            cell, found = next(iter(unsure.items()))
            places = sorted({*map(os.path.dirname, found)})
            raise DataError(
                f"{len(unsure)} ids stand in two folders, such as {cell!r} ({several[cell]}). Keep "
                f"one of {' and '.join(map(repr, places))}, or write the folder into the table, as "
                f"in {self._shown(found[0])!r}."
            )
        shown = [f"{cell}: {files}" for cell, files in several.items() if cell not in unsure]
        add("ids with two pictures (the first counts)", shown)
        shown = [f"{cell}: {several[cell]}" for cell in unsure]
        add("ids with pictures in two folders (left out)", shown)
        names = (cell or f"line {line}" for cell, line in zip(cells, table.lines, strict=True))
        missing = [name for name, cell in zip(names, cells, strict=True) if not named[cell]]
        add("rows without a picture (left out)", dict.fromkeys(missing))
        used = {path for found in named.values() for path in found}
        add("pictures without a row", [self._shown(p) for p in self.files if p not in used])
        add("links that lead out of the folder (not followed)", self.outside)
        return paths

    def refuse(self, table: Table, columns: Sequence[str]) -> NoReturn:
        """Raise the `DataError` for a table none of whose rows has a picture."""
        links = [name for name in self.outside if name.lower().endswith(SUFFIXES)]
        if links and not self.files:
            raise DataError(
                f"{self.folder} holds no pictures but links that lead out of it, such as "
                f"{links[0]!r}, and these are not followed: copy the pictures into it."
            )
        cell = next(iter(table.columns[columns[0]]), "")
        first = f"the first is {self._shown(self.files[0])!r}" if self.files else "none fits"
        raise DataError(
            f"No row of {table.path} has a picture in {self.folder}: the column {columns[0]!r} "
            f"says {cell!r}, and of {len(self.files)} pictures {first}. The column "
            f"must hold the pictures' names, with or without their ending (looked at: "
            f"{', '.join(map(repr, columns))})."
        )

    def _in_their_folders(self, named: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the pictures that cells mean, without those that lie in the folder of others.

        A cell that names a folder of the pictures means one in it. Any other folder may be the
        pictures' own under another name, but for those folders below it that the table names.
        """
        folders = {*map(_folder, self.files)}
        asked = {cell: _folder(cell) for cell in named}
        below = folders.intersection(asked.values()) - {self.folder.name.lower()}
        return {
            cell: [
                path
                for path in found
                if not asked[cell]
                or _folder(path) == asked[cell]
                or not (asked[cell] in folders or _folder(path) in below)
            ]
            for cell, found in named.items()
        }

    def _best(self, paths: list[str], parts: list[str]) -> list[str]:
        """Return those of several pictures that agree best with a cell: folders, ending, case."""

        def agreement(path: str) -> tuple[int, int, bool, bool]:
            own = path.split(os.sep)
            upwards = own[-2::-1], parts[-2::-1]
            alike = [[folder.lower() for folder in names] for names in upwards]
            common = (len(os.path.commonprefix(both)) for both in (alike, upwards))
            return *common, self._shown(path).split(os.sep) == parts, own[-1].startswith(parts[-1])

        agreements = {path: agreement(path) for path in paths}
        return [path for path in paths if agreements[path] == max(agreements.values())]

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self.folder)


def find_id_columns(table: Table, pictures: Pictures) -> list[str]:
    """Return the columns of ids, the one that finds most pictures first; raises `DataError`."""
    names = [name.lower() for name in table.columns]
    if any(re.fullmatch(r"tt\d{7,}", name) or name.endswith(SUFFIXES) for name in names):
        raise DataError(
            f"{table.path} has no header: its first line is a poster's already "
            f"({', '.join(map(repr, [*table.columns][:3]))}). Write a line such as Id,Genre above "
            "it."
        )
    by_name = {squeeze(name): name for name in reversed(table.columns)}
    named = [by_name[wanted] for wanted in ID_COLUMNS if wanted in by_name]
    others = [name for name in table.columns if name not in named]
    found = {name: sum(map(bool, map(pictures.named, table.columns[name]))) for name in named}
    if 2 * max(found.values(), default=0) < len(table):
        # Any other column, if it names the pictures' files letter by letter.
        for name in others:
            hits = pictures.exact(table.columns[name])
            if 2 * hits > len(table):
                found[name] = hits
    if found:
        return _order_columns(table, pictures, found)
    raise DataError(
        f"{table.path} has no column of ids or file names. Name it one of "
        f"{', '.join(ID_COLUMNS[:12])}; its columns are "
        f"{table.header}."
    )


def _order_columns(table: Table, pictures: Pictures, found: dict[str, int]) -> list[str]:
    """Return columns, the one that counts first; `found` has how many pictures each finds.

    Raises `DataError` where two of them name other pictures, and nothing tells which is right.
    """
    exact = {name: pictures.exact(table.columns[name]) for name in found}
    # Of two that find as many, the one that writes the files' own names: by its number alone,
    # TMDB's 86001 would be taken for the picture tt0086001.jpg of another film.
    order = sorted(found, key=lambda name: (-found[name], -exact[name]))

    def has_endings(name: str) -> bool:
        return 2 * pictures.exact(table.columns[name], ending=True) > len(table)

    if has_endings(order[0]):
        return order
    differing = _differing_columns(table, pictures, order)
    # A running number, too, finds pictures that are called by numbers.
    if better := list(filter(has_endings, differing)):
        return [*better, *(name for name in order if name not in better)]
    for name, row in differing.items():
        if (found[name], exact[name]) == (found[order[0]], exact[order[0]]):
            shown = [f"{one!r} ({table.columns[one][row]!r})" for one in (order[0], name)]
            raise DataError(
                f"{table.place(row)}: the columns {' and '.join(shown)} name two pictures. "
                "Delete the wrong column, or rename it."
            )
    return order


def _differing_columns(table: Table, pictures: Pictures, columns: Sequence[str]) -> dict[str, int]:
    """Return the columns that name other pictures than the first, each with the first such row."""
    named = {name: [*map(pictures.named, table.columns[name])] for name in columns}
    differing = {}
    for name in columns[1:]:
        both = enumerate(zip(named[columns[0]], named[name], strict=True))
        rows = (row for row, (a, b) in both if a and b and {*a}.isdisjoint(b))
        if (row := next(rows, None)) is not None:
            differing[name] = row
    return differing
