"""A table and a folder of pictures become one checked `Dataset`, split by poster identity."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit

from genre_utils import sources
from genre_utils.genres import multi_hot
from genre_utils.images import picture_size
from genre_utils.support import DataError, first_of, sha256_of

SPLITS = ("train", "validation", "test")  # from the loosest to the strictest
FEW_POSTERS = 20
PUBLIC_SHARE = 0.05
UNREADABLE = "unreadable pictures"
PLACEHOLDER = 3  # sets of genres from which one picture counts as a "no poster" picture
WHAT_TO_DO = {
    "HTML page": "of them are HTML pages with a picture's name: download the pictures again.",
    "HEIC picture": "of them are HEIC pictures, which are not read: save them as JPEG.",
}

# Not the seed of a training, so that runs with different seeds are tested on the same posters, and
# the command `evaluate` finds these again.
SPLIT_SEED = 0

_IMDB_ID = re.compile(r"tt\d{7,}", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^\s:]+")

_SHIPPED = Path(__file__).parent / "splits"


@dataclass
class Audit:
    """What is wrong with a data set: `findings` maps each finding to the names it concerns."""

    findings: dict[str, list[str]] = field(default_factory=dict)

    def add(self, finding: str, names: Iterable[str]) -> None:
        """Add names (files, ids or genres) to a finding; of an address only its last part."""
        short = (_ADDRESS.sub(lambda found: sources.last_part(found[0]), name) for name in names)
        self.findings.setdefault(finding, []).extend(short)

    def table(self) -> pd.DataFrame:
        """Return one row a finding: `finding`, `count`, and the `names` as one text."""
        rows = [(what, len(names), ", ".join(names)) for what, names in self.findings.items()]
        return pd.DataFrame(rows, columns=["finding", "count", "names"])

    def print_examples(self, count: int) -> None:
        """Print each finding with the first `count` of its names."""
        for finding, names in self.findings.items():
            if names:
                print(f"{finding}: {first_of(names, count)}")

    def summary(self) -> str:
        """Return what was found, with counts, in one line; empty when nothing was."""
        found = [f"{len(names)} {what}" for what, names in self.findings.items() if names]
        return "Found in the data: " + "; ".join(found) + "." if found else ""


@dataclass(frozen=True)
class Dataset:
    """Posters with their genres.

    `posters` has one row a poster: `id`, `path`, `split` (train, validation or test),
    `unlabelled` (no real genre: never trained on), then an int8 0/1 column for each of `genres`.
    `has_missing_column` tells that the table has the column `MISSING`, as the public CSV does.
    """

    posters: pd.DataFrame
    genres: tuple[str, ...]
    audit: Audit
    source: sources.Source
    has_missing_column: bool
    limit: int = 0  # the `limit` of `load_dataset`, 0 for all
    # By path: IMDb's id of posters that have it in another column than the one of their ids.
    imdb_ids: Mapping[str, str] = field(default_factory=dict)

    def part(self, split: str) -> pd.DataFrame:
        """Return the rows of one split; the unlabelled ones are in the test set only."""
        rows = self.posters[self.posters["split"] == split]
        return rows if split == "test" else rows[~rows["unlabelled"]]

    def labels(self, posters: pd.DataFrame) -> np.ndarray:
        """Return the multi-hot labels of some rows, int8 `(n, len(genres))`."""
        return posters[list(self.genres)].to_numpy(np.int8)

    def check_parts(self, splits: Iterable[str] = SPLITS) -> None:
        """Raise `DataError` unless each of the splits has a poster with a genre."""
        for split in splits:
            if self.part(split)["unlabelled"].all():
                why = "give more posters"
                if broken := self.audit.findings.get(UNREADABLE):
                    why = f"mend the unreadable pictures ({len(broken)}), such as {broken[0]}"
                elif self.limit:
                    why = "raise LIMIT, or give more posters"
                raise DataError(
                    f"No labelled poster is left for {split}: of {len(self.posters)} posters, too "
                    f"few can be used; {why}. {self.audit.summary()}".rstrip()
                )

    def without(self, unreadable: dict[str, str]) -> Dataset:
        """Leave out `{path: reason}` and name them in the audit; raises `DataError` if all are."""
        names = [f"{Path(path).name} ({reason})" for path, reason in unreadable.items()]
        audit = Audit(self.audit.findings | {UNREADABLE: names})
        kept = self.posters[~self.posters["path"].isin(list(unreadable))]
        if not len(kept):
            path, reason = next(iter(unreadable.items()))
            raise DataError(
                f"None of the {len(self.posters)} pictures in {self.source.images} can be read; "
                f"the first is {Path(path).name}: {reason}. Check that they are whole JPEG, PNG, "
                "WebP, GIF or BMP files."
            )
        return replace(self, posters=kept.reset_index(drop=True), audit=audit)


def load_dataset(
    source: sources.Source | str | Path = "", limit: int = 0, seed: int = 0
) -> Dataset:
    """Read, check and split posters: those of a path (folder or table), or of a `Source`.

    The table needs an id or file-name column and either one 0/1 column a genre or one column of
    genre lists. `limit` above 0 keeps a random sample of that many posters, drawn with `seed`.
    Pictures are not decoded here. Raises `DataError` where the table or its genres are not clear,
    and where no poster or no picture is left, `ValueError` unless `limit` is 0 or more.
    """
    if type(limit) is not int or limit < 0:
        raise ValueError(f"limit is {limit!r}: give a whole number from 0, which stands for all.")
    source = source if isinstance(source, sources.Source) else sources.find_data(str(source))
    audit = Audit()
    rows = sources.read_table(source.csv)
    pictures = sources.Pictures(source.images)
    id_columns = sources.find_id_columns(rows, pictures)
    beside = [table.name for table in sources.tables_in(source.csv.parent) if table != source.csv]
    audit.add("other tables beside it (not read)", beside)
    try:
        found = sources.read_labels(rows, id_columns, audit.add)
    except DataError as error:
        other = f" Give DATA the path of {' or '.join(beside)} if that is the table meant."
        raise DataError(f"{error}{other if beside else ''}") from None
    ids = rows.columns[id_columns[0]]
    paths = pictures.find(rows, id_columns[0], audit.add)
    lists = sources.merge_rows(rows, ids, paths, found.lists, audit.add)
    others = [f"{name!r}" for name in rows.columns if name not in found.used | {id_columns[0]}]
    audit.add("columns not used", others)

    table = pd.DataFrame(
        [(ids[i], paths[i], names) for i, names in lists.items()], columns=["id", "path", "names"]
    )
    if not any(paths):
        pictures.refuse(rows, id_columns)
    if not len(table):
        raise DataError(f"No row of {source.csv} is left: each was left out. {audit.summary()}")
    _check_pictures(table["path"], source)
    table["unlabelled"] = [not names for names in table["names"]]
    audit.add("posters without a real genre (not trained on)", table.loc[table.unlabelled, "id"])

    table["identity"] = _identities(table, audit)
    labels = multi_hot(table["names"], found.genres)
    table["split"] = split_posters(table["id"], table["identity"], labels)
    if 0 < limit < len(table):
        kept = np.random.default_rng(seed).permutation(len(table))[:limit]
        table, labels = table.iloc[np.sort(kept)], labels[np.sort(kept)]
    counts = zip(found.genres, labels.sum(axis=0), strict=True)
    few = [f"{genre} ({n})" for genre, n in counts if n < FEW_POSTERS]
    audit.add(f"genres with fewer than {FEW_POSTERS} posters", few)

    table = table[["id", "path", "split", "unlabelled"]].reset_index(drop=True)
    one_hot = pd.DataFrame(labels, columns=list(found.genres))
    posters = pd.concat([table, one_hot], axis=1)
    imdb_ids = {
        paths[row]: film
        for name in id_columns[1:]
        for row in lists
        if _IMDB_ID.fullmatch(film := _film(name, rows.columns[name][row]))
    }
    missing = found.has_missing_column
    return Dataset(posters, found.genres, audit, source, missing, limit, imdb_ids)


def fingerprint(data: Dataset) -> str:
    """Return a hash, 16 hexadecimal digits, of all ids, splits and labels in their order."""
    table = data.posters.drop(columns="path").to_csv(index=False)
    return hashlib.sha256(table.encode()).hexdigest()[:16]


def split_posters(ids: Sequence[str], identities: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Return the split of each poster, an array `(n,)` of `"train"`, `"validation"` and `"test"`.

    Posters with the same identity (byte-identical pictures) get the same split. The public data
    get their public test ids and this project's fixed validation ids, which the package has in
    `splits/`; of other data each gets a tenth, by `stratify_rare`. `labels` are int8 `(n, genres)`.
    """
    split = np.full(len(ids), "train", dtype=object)
    if is_public(ids):
        ids = [sources.normal_id(poster) for poster in ids]
        for name in ("validation", "test"):
            split[np.isin(ids, _shipped_ids(name))] = name
    else:
        rest = np.flatnonzero(~pd.Series(identities).duplicated())
        for name, share in (("test", 0.1), ("validation", 0.1 / 0.9)):
            chosen = rest[stratify_rare(labels[rest], share, SPLIT_SEED)]
            split[chosen] = name
            rest = np.setdiff1d(rest, chosen)
    # All posters of one identity get the strictest of their splits.
    rank = pd.Series(split).map(SPLITS.index)
    strictest = rank.groupby(np.asarray(identities)).transform("max")
    return np.array(SPLITS, dtype=object)[strictest]


def stratify_rare(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose a share of the rows, more than 0 and less than 1, so that rare genres are among them.

    `labels` is multi-hot `(n, genres)`. A row counts for the rarest of its genres, by which
    scikit-learn's `StratifiedShuffleSplit` draws: so each rare genre keeps its share, and frequent
    ones do by their numbers. Returns positions, int `(k,)`, ascending; none of fewer than 3 rows.
    """
    if len(labels) < 3:
        return np.arange(0)
    frequency = np.where(labels, labels.sum(axis=0), np.inf)
    rarest = np.where(labels.any(axis=1), frequency.argmin(axis=1), -1)
    # scikit-learn requires two rows a stratum, and no more strata than chosen rows.
    chosen = min(max(1, round(share * len(labels))), len(labels) - 1)
    sizes = Counter(rarest.tolist())
    common = [g for g, n in sizes.most_common(max(1, min(chosen, len(labels) - chosen) - 1))]
    strata = np.where(np.isin(rarest, [g for g in common if sizes[g] > 1]), rarest, -2)
    if (strata == -2).sum() == 1:
        strata[strata == -2] = common[0]
    if len(np.unique(strata)) > min(chosen, len(labels) - chosen):
        strata[:] = 0
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=chosen, random_state=seed)
    return np.sort(next(splitter.split(strata, strata))[1])


def is_public(ids: Iterable[str]) -> bool:
    """Return whether these are the public IMDb posters, or a part of them, by their ids."""
    known = np.concatenate([_shipped_ids(split) for split in ("test", "validation")])
    # The shipped ids are a fifth of the public data; other data have hardly one of them.
    return bool(np.isin([sources.normal_id(poster) for poster in ids], known).mean() > PUBLIC_SHARE)


def describe(data: Dataset) -> dict[str, Any]:
    """Return what a model's card says of the posters: `public`, `posters_of` each genre, `size`.

    The size is the median [height, width] in pixels of at most 400 of the pictures.
    """
    rows = data.posters
    sizes = picture_sizes(rows["path"].iloc[:: max(1, len(rows) // 200)])
    return {
        "public": is_public(rows["id"]),
        "posters_of": {genre: int(rows[genre].sum()) for genre in data.genres},
        "size": np.median(sizes, axis=0).astype(int).tolist(),
    }


def picture_sizes(paths: Iterable[str]) -> np.ndarray:
    """Return height and width in pixels, int `(n, 2)`; see `images.picture_size`."""
    return np.array([picture_size(path)[::-1] for path in paths])


def _shipped_ids(split: str) -> np.ndarray:
    return np.array((_SHIPPED / f"imdb_{split}_ids.txt").read_text("utf-8").split())


def _film(column: str, cell: str) -> str:
    """Return the last part of a cell; a number in a column of IMDb's is an id without its `tt`."""
    return sources.normal_id(cell) if "imdb" in column.lower() else sources.last_part(cell)


def _check_pictures(paths: Iterable[str], source: sources.Source) -> None:
    """Raise `DataError` when no file is a picture and it is clear what they are instead."""
    kinds: Counter[str] = Counter()
    for path in paths:
        if (kind := sources.begins_as(path)) == "picture":
            return
        kinds[kind] += 1
    kind, count = kinds.most_common(1)[0]
    if kind:
        raise DataError(f"No picture can be read in {source.images}: {count} {WHAT_TO_DO[kind]}")


def _identities(posters: pd.DataFrame, audit: Audit) -> pd.Series:
    """Return one identity for byte-identical pictures: the id of the first of them.

    Files that are no pictures keep their own: when they are mended, the split must not change.
    """
    # Only files of equal length can be equal, so few are read.
    sizes = posters["path"].map(os.path.getsize)
    paths = posters.loc[sizes.duplicated(keep=False), "path"]
    digests = paths[paths.map(sources.begins_as) == "picture"].map(sha256_of)
    alike = posters.loc[digests.index].groupby(digests, sort=False)
    first = alike["id"].transform("first")
    twins = (posters["id"] + " = " + first)[digests.index[digests.duplicated()]]
    audit.add("byte-identical pictures (kept on one side of the split)", twins)
    sets = ((same["id"].iloc[0], same["names"].map(frozenset).nunique()) for _, same in alike)
    shown = [f"{poster} ({n} sets)" for poster, n in sets if n >= PLACEHOLDER]
    audit.add('pictures with many different sets of genres (a "no poster" picture?)', shown)
    return first.combine_first(posters["id"])
