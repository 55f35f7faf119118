"""From a CSV and a folder of pictures to one checked table, split by poster identity."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import StratifiedShuffleSplit

from genre_utils.genres import (
    IMDB_GENRES,
    RESERVED,
    is_missing,
    multi_hot,
    order_genres,
    parse_genres,
)
from genre_utils.images import FORMATS, SUFFIXES
from genre_utils.sources import DataError, Source

# Compared without "_", "-" and spaces, in small letters. Should several be there, the one that
# finds most pictures counts.
ID_COLUMNS = (
    *("id", "imdbid", "tconst", "movieid", "posterid", "imageid", "filename", "file", "image"),
    *("img", "poster", "path", "filepath", "imagepath", "posterpath", "imagefile", "posterfile"),
)
GENRE_COLUMNS = ("genre", "genres", "label", "labels", "tags")
ZEROS, ONES = ("0", "0.0", "false", ""), ("1", "1.0", "true")
SPLITS = ("train", "validation", "test")
FEW_POSTERS = 20
PUBLIC_SHARE = 0.05
LONGEST_HEADER = 1_000_000  # characters

# Not the seed of a training: runs with different seeds stay comparable, and `evaluate` finds the
# test set again.
SPLIT_SEED = 0

_SHIPPED = Path(__file__).parent / "splits"


@dataclass
class Audit:
    """What is wrong with a data set: a list of names for each finding, in the order found."""

    findings: dict[str, list[str]] = field(default_factory=dict)

    def add(self, finding: str, names: Iterable[str]) -> None:
        """Note names (files, ids or genres) under a finding."""
        self.findings.setdefault(finding, []).extend(names)

    def table(self) -> pd.DataFrame:
        """Give one row a finding: `finding`, `count`, and the `names` as one text."""
        rows = [(what, len(names), ", ".join(names)) for what, names in self.findings.items()]
        return pd.DataFrame(rows, columns=["finding", "count", "names"])


@dataclass(frozen=True)
class Dataset:
    """Posters with their genres.

    `posters` has one row a poster: `id`, `path`, `split` (train, validation or test),
    `unlabelled` (no real genre: never trained on), then an int8 0/1 column for each of `genres`.
    """

    posters: pd.DataFrame
    genres: tuple[str, ...]
    audit: Audit
    source: Source
    has_missing_column: bool

    def part(self, split: str) -> pd.DataFrame:
        """Give the rows of one split; without the unlabelled ones unless it is the test set."""
        rows = self.posters[self.posters["split"] == split]
        return rows if split == "test" else rows[~rows["unlabelled"]]

    def labels(self, posters: pd.DataFrame) -> np.ndarray:
        """Give the multi-hot labels of some rows, int8 `(n, len(genres))`."""
        return posters[list(self.genres)].to_numpy(np.int8)

    def check_parts(self) -> None:
        """Raise `DataError` unless there are posters to train on, to choose by and to test on."""
        for split in SPLITS:
            if not len(self.part(split)):
                raise DataError(
                    f"No labelled poster is left for {split}: of {len(self.posters)} posters, too "
                    "few can be used. Raise LIMIT, or give more posters."
                )

    def without(self, unreadable: dict[str, str]) -> Dataset:
        """Leave out the pictures that could not be decoded, `{path: reason}`, and audit them."""
        audit = Audit({**self.audit.findings})
        audit.findings["unreadable pictures"] = [
            f"{Path(path).name} ({reason})" for path, reason in unreadable.items()
        ]
        kept = self.posters[~self.posters["path"].isin(list(unreadable))]
        if not len(kept):
            path, reason = next(iter(unreadable.items()))
            raise DataError(
                f"None of the {len(self.posters)} pictures in {self.source.images} can be read; "
                f"the first is {Path(path).name}: {reason}. Check that they are whole JPEG, PNG, "
                "WebP, GIF or BMP files."
            )
        return Dataset(
            kept.reset_index(drop=True), self.genres, audit, self.source, self.has_missing_column
        )


def load_dataset(source: Source, limit: int = 0, seed: int = 0) -> Dataset:
    """Read, check and split the posters that `sources.find_data` found.

    The CSV needs an id or file-name column and either one 0/1 column a genre or one column of
    genre lists. `limit` above 0 keeps a random sample of that many posters, drawn with `seed`.
    Pictures are not decoded here. Raises `DataError` when nothing can be made of the CSV.
    """
    audit = Audit()
    rows = _read_csv(source.csv)
    ids = rows[_find_id_column(rows, source)].str.strip()
    lists, genres, has_missing_column = _read_labels(rows, source.csv, audit)

    table = pd.DataFrame({"id": ids, "genre_list": lists})
    table["path"] = _find_pictures(table["id"], source.images, audit)
    repeated = table["id"].duplicated()
    audit.add("rows whose id stood before (left out)", table.loc[repeated, "id"])
    table = table[~repeated & table["path"].notna()].reset_index(drop=True)
    if not len(table):
        raise DataError(
            f"No row of {source.csv} has a picture in {source.images}. The column "
            f"{ids.name!r} must hold the pictures' names, with or without their ending."
        )
    table["unlabelled"] = [not names for names in table["genre_list"]]
    audit.add("posters without a real genre (not trained on)", table.loc[table.unlabelled, "id"])

    table["identity"] = _identities(table["path"], table["id"], audit)
    labels = multi_hot(table["genre_list"], genres)
    table["split"] = split_posters(table["id"], table["identity"], labels)
    if 0 < limit < len(table):
        kept = np.random.default_rng(seed).permutation(len(table))[:limit]
        table, labels = table.iloc[np.sort(kept)], labels[np.sort(kept)]
    few = [f"{g} ({n})" for g, n in zip(genres, labels.sum(axis=0), strict=True) if n < FEW_POSTERS]
    audit.add(f"genres with fewer than {FEW_POSTERS} posters", few)

    table = table[["id", "path", "split", "unlabelled"]].reset_index(drop=True)
    one_hot = pd.DataFrame(labels, columns=list(genres))
    posters = pd.concat([table, one_hot], axis=1)
    return Dataset(posters, genres, audit, source, has_missing_column)


def fingerprint(data: Dataset) -> str:
    """Give a hash of all that training depends on: ids, split and labels, in their order."""
    table = data.posters.drop(columns="path").to_csv(index=False)
    return hashlib.sha256(table.encode()).hexdigest()[:16]


def split_posters(ids: Sequence[str], identities: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Assign each poster to train, validation or test; returns an array of those words.

    Posters with the same identity (byte-identical pictures) get the same answer. The public
    data set gets its public test ids and this project's fixed validation ids, both shipped
    with the package; other data get a tenth each, stratified by `stratify_rare`.
    """
    ids = np.asarray(ids, dtype=str)
    shipped = {split: _shipped_ids(split) for split in ("test", "validation")}
    split = np.full(len(ids), "train", dtype=object)
    # A fifth of the public data; of a copy that lacks pictures about as much, of others hardly any.
    if np.isin(ids, np.concatenate(list(shipped.values()))).mean() > PUBLIC_SHARE:
        for name in ("validation", "test"):
            split[np.isin(ids, shipped[name])] = name
        return _spread_over_identities(split, identities)
    first = ~pd.Series(identities).duplicated().to_numpy()
    rest = np.flatnonzero(first)
    for name, share in (("test", 0.1), ("validation", 0.1 / 0.9)):
        chosen = stratify_rare(labels[rest], share, SPLIT_SEED)
        split[rest[chosen]] = name
        rest = np.setdiff1d(rest, rest[chosen])
    return _spread_over_identities(split, identities)


def stratify_rare(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose a share of the rows so that rare genres are represented; returns their positions.

    A multi-label row counts for the rarest of its genres: stratifying over that one genre keeps
    the share of every rare genre, and the frequent ones follow by their numbers.
    """
    if len(labels) < 3:
        return np.arange(0)
    frequency = np.where(labels.sum(axis=0) > 0, labels.sum(axis=0), len(labels) + 1)
    rarest = np.where(labels.any(axis=1), np.argmin(np.where(labels, frequency, 1e9), axis=1), -1)
    # scikit-learn wants two rows a stratum, and no more strata than chosen rows.
    chosen = max(1, round(share * len(labels)))
    sizes = Counter(rarest.tolist())
    common = [g for g, n in sizes.most_common(max(1, min(chosen, len(labels) - chosen) - 1))]
    strata = np.where(np.isin(rarest, [g for g in common if sizes[g] > 1]), rarest, -2)
    if (strata == -2).sum() == 1:
        strata[strata == -2] = common[0]
    if len(np.unique(strata)) > min(chosen, len(labels) - chosen):
        strata[:] = 0
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=chosen, random_state=seed)
    return np.sort(next(splitter.split(strata, strata))[1])


def picture_sizes(paths: Iterable[str]) -> np.ndarray:
    """Read the sizes of readable pictures from their headers: `(n, 2)`, height and width."""
    sizes = []
    for path in paths:
        with Image.open(path, formats=FORMATS) as image:
            sizes.append((image.height, image.width))
    return np.array(sizes)


def _shipped_ids(split: str) -> np.ndarray:
    return np.array((_SHIPPED / f"imdb_{split}_ids.txt").read_text("utf-8").split())


def _spread_over_identities(split: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Give every poster of one identity the strictest of their splits: test before validation."""
    rank = pd.Series(split).map({name: i for i, name in enumerate(SPLITS)})
    strictest = rank.groupby(np.asarray(identities)).transform("max")
    return np.array(SPLITS, dtype=object)[strictest.to_numpy()]


def _read_csv(path: Path) -> pd.DataFrame:
    # Everything as text: pandas would turn the genre "N/A" into NaN and ids into numbers.
    options = {"dtype": str, "keep_default_na": False}
    with open(path, "rb") as file:
        spreadsheet = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    for encoding in ("utf-16",) if spreadsheet else ("utf-8-sig", "cp1252"):
        try:
            with open(path, encoding=encoding, newline="") as file:
                header = file.readline(LONGEST_HEADER)
            comma = max(",;\t", key=header.count)
            _check_header(next(csv.reader([header], delimiter=comma), []), path)
            return pd.read_csv(path, sep=comma, encoding=encoding, **options)
        except UnicodeError:
            continue
        except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as a CSV: {error}.") from None
    raise DataError(f"{path} is neither UTF-8 nor Windows-1252 text; save it as UTF-8.")


def _check_header(names: list[str], path: Path) -> None:
    """Refuse two columns of one name, of which pandas would make two names."""
    counts = Counter(name.strip().lower() for name in names if name.strip())
    if doubled := [name for name, count in counts.items() if count > 1]:
        raise DataError(f"{path} has two columns named {doubled[0]!r}: rename or delete one.")


def _find_id_column(rows: pd.DataFrame, source: Source) -> str:
    columns = {re.sub("[-_ ]", "", name.lower()): name for name in rows.columns}
    found = [columns[wanted] for wanted in ID_COLUMNS if wanted in columns]
    if not found:
        raise DataError(
            f"{source.csv} has no column of ids or file names. Name it one of "
            f"{', '.join(ID_COLUMNS)}; its columns are "
            f"{', '.join(map(repr, rows.columns[:10]))}."
        )
    names = {name for file in source.images.iterdir() for name in (file.name, file.stem)}

    def pictures(column: str) -> int:
        return sum(_plain_name(name.strip(), source.images) in names for name in rows[column])

    return max(found, key=pictures) if len(found) > 1 else found[0]


def _read_labels(
    rows: pd.DataFrame, path: Path, audit: Audit
) -> tuple[list[list[str]], tuple[str, ...], bool]:
    """Read genre lists, the genres in order, and whether a 0/1 column stands for having none."""
    columns = {name.strip().lower(): name for name in rows.columns}
    marks = {name for name in rows.columns if _is_zero_one(rows[name])}
    has_missing_column = any(is_missing(name) for name in marks)
    marks = {name for name in marks if not is_missing(name)}
    column = next((columns[name] for name in GENRE_COLUMNS if name in columns), None)
    if column is not None:
        lists = _read_lists(rows[column], audit)
        # A genre that no row has still is one if it has a column; other 0/1 columns are not.
        named = {name for names in lists for name in names} | (marks & set(IMDB_GENRES))
    elif len(marks) > 1 and len(rows):
        blank = [f"row {i + 2}" for i in np.flatnonzero(rows[list(marks)].eq("").any(axis=1))]
        audit.add("rows with a blank 0/1 cell (taken as 0)", blank)
        named, on = marks, {name: rows[name].str.strip().str.lower().isin(ONES) for name in marks}
        lists = [[name for name in marks if on[name].iloc[i]] for i in range(len(rows))]
    else:
        raise DataError(
            f"{path} has neither 0/1 columns nor a column named one of "
            f"{', '.join(GENRE_COLUMNS)}; its columns are "
            f"{', '.join(map(repr, rows.columns[:10]))}."
        )
    if reserved := sorted(named & set(RESERVED)):
        raise DataError(f"{path} has a genre named {reserved[0]!r}, which is reserved: rename it.")
    if len(named) < 2:
        example = repr(rows[column].iloc[0]) if column and len(rows) else "no row"
        raise DataError(
            f"{path} gives {len(named)} genres; the model needs two or more. Write a cell as "
            f"['Drama', 'War'], Drama|War or 'Drama, War'; found {example}."
        )
    return lists, order_genres(named), has_missing_column


def _is_zero_one(column: pd.Series) -> bool:
    values = set(column.str.strip().str.lower())
    return values <= {*ZEROS, *ONES} and values != {""}


def _read_lists(column: pd.Series, audit: Audit) -> list[list[str]]:
    parsed = [parse_genres(cell) for cell in column]
    broken = [i for i, names in enumerate(parsed) if names is None]
    audit.add("genre cells that cannot be read", [repr(column.iloc[i]) for i in broken])
    if len(broken) > len(column) / 2:
        raise DataError(
            f"Most cells of the column {column.name!r} cannot be read, such as "
            f"{column.iloc[broken[0]]!r}. Write ['Drama', 'War'], Drama|War or 'Drama, War'."
        )
    return [names or [] for names in parsed]


def _find_pictures(ids: pd.Series, folder: Path, audit: Audit) -> list[str | None]:
    """Match ids to files by name or by name without ending; note what has no partner."""
    files = {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}
    pictures = {name: file for name, file in files.items() if file.suffix.lower() in SUFFIXES}
    by_stem = {file.stem: file for file in reversed(pictures.values())}
    plain = [_plain_name(name, folder) for name in ids]
    refused = [name for name, file in zip(ids, plain, strict=True) if file is None]
    audit.add("ids that lead out of the folder or are hidden (left out)", dict.fromkeys(refused))
    paths = [files.get(name) or by_stem.get(name) if name else None for name in plain]
    missing = [
        name
        for name, file, path in zip(ids, plain, paths, strict=True)
        if file is not None and not path
    ]
    audit.add("rows without a picture (left out)", dict.fromkeys(missing))
    used = {path for path in paths if path}
    audit.add(
        "pictures without a row", [name for name, file in pictures.items() if file not in used]
    )
    return [str(path) if path else None for path in paths]


def _plain_name(name: str, folder: Path) -> str | None:
    """Give an id as a file's name in the folder of pictures; `None` when it is none.

    The only path that it may be is one into that folder, such as `Images/tt1.jpg`.
    """
    name = name.removeprefix("./").removeprefix(f"{folder.name}/")
    return None if name.startswith(".") or set(name) & set("/\\") else name


def _identities(paths: Sequence[str], ids: Sequence[str], audit: Audit) -> list[str]:
    """Give byte-identical pictures one identity: the id of the first of them."""
    by_size = defaultdict(list)
    for i, path in enumerate(paths):
        by_size[Path(path).stat().st_size].append(i)
    identities = list(ids)
    first: dict[str, int] = {}
    twins = []
    # Only files of equal length can be equal, so that few are read.
    for i in sorted(i for same in by_size.values() if len(same) > 1 for i in same):
        digest = hashlib.sha256(Path(paths[i]).read_bytes()).hexdigest()
        if digest in first:
            identities[i] = identities[first[digest]]
            twins.append(f"{ids[i]} = {ids[first[digest]]}")
        first.setdefault(digest, i)
    audit.add("byte-identical pictures (kept on one side of the split)", twins)
    return identities
