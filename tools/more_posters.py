"""Make one folder of posters and one table out of clones of public repositories and a label file.

    git clone --depth 1 https://github.com/mdemayo/studious-spoon clones/studious-spoon
    git clone --depth 1 https://github.com/abdullahkhilji/MovieRS clones/MovieRS
    git clone --depth 1 https://github.com/laxmimerit/Movies-Poster_Dataset \\
        clones/Movies-Poster_Dataset
    python tools/more_posters.py --labels labels.csv --clones clones --out more_posters

LABELS is a CSV with the columns `Id` (IMDb title id), `file` (`owner/repository:path`) and `Genre`
(`A|B`). It is not part of this repository: join a table of genres, such as `MovieGenre.csv`, with
the names of the clones' pictures. Posters of the public test set, and ids in the file given as
`--off-limits`, are left out before a picture is opened or a label is read; afterwards so are
pictures that look like one of theirs (`--beside` names the folders with those pictures),
placeholders, and what cannot be read.
OUT gets `Images/`, `train.csv`, which the notebooks read, and `report.json`, which counts and names
what was left out and why.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from genre_utils import images

SPLITS = Path(images.__file__).parent / "splits"
COLUMNS = ("Id", "file", "Genre")
# Bits of 256 in which the fingerprints of two prints of one poster differ; strangers differ in 100.
NEAR = 16
# A picture under so many films' names is a "no poster" placeholder, not their poster.
PLACEHOLDER = 4


def number(name: str) -> str:
    """Return the number in an IMDb id, however it is spelled: `tt0086001`, `86001.jpg`."""
    return Path(name).stem.lower().removeprefix("tt").lstrip("0")


def fingerprint(file: Path) -> np.ndarray:
    """Return 256 bits, bool: whether each of 16 × 16 places is lighter than its left neighbour.

    Prints of one poster in other sizes agree in nearly all of them (difference hash: Krawetz,
    2013). Raises `images.PosterError` for what cannot be read.
    """
    grey = Image.fromarray(images.read_poster(file)).convert("L").resize((17, 16))
    pixels = np.asarray(grey, np.int16)
    return (pixels[:, 1:] > pixels[:, :-1]).ravel()


def read_labels(file: Path, off_limits: set[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows that may be used, and the ids of those that may not."""
    with open(file, encoding="utf-8", newline="") as opened:
        table = csv.DictReader(opened)
        if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
            sys.exit(
                f"{file} has no column {missing[0]!r}: it needs {', '.join(COLUMNS)}, and has "
                f"{', '.join(table.fieldnames or ['none'])}."
            )
        rows, refused = [], []
        for row in table:
            if number(row["Id"]) in off_limits:
                refused.append(row["Id"])
            else:
                rows.append(row)
    return rows, refused


def main() -> None:
    """Filter by id, then by picture, and write what is left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--clones", type=Path, required=True, help="folder with the clones")
    parser.add_argument("--off-limits", type=Path, help="further ids to leave out, one a line")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="folders of pictures")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    given = [options.labels, options.clones, *filter(None, [options.off_limits]), *options.beside]
    if missing := [path for path in given if not path.exists()]:
        sys.exit(f"{missing[0]} does not exist: check the path, or clone what stands above first.")

    off_limits = {number(i) for i in (SPLITS / "imdb_test_ids.txt").read_text().split()}
    if options.off_limits:
        off_limits |= {number(i) for i in options.off_limits.read_text("utf-8").split()}
    left_out: dict[str, list[str]] = defaultdict(list)
    rows, left_out["off limits, by id"] = read_labels(options.labels, off_limits)

    found = {}
    for row in rows:
        repository, _, path = row["file"].partition(":")
        file = options.clones / repository.rpartition("/")[2] / path
        # A path with ".." in a stranger's table must not lead out of the clones.
        if not file.is_file() or options.clones.resolve() not in file.resolve().parents:
            left_out["labels without a picture in the clones"].append(row["Id"])
        elif row["Id"] in found:
            left_out["ids that stood before"].append(row["Id"])
        else:
            found[row["Id"]] = row | {"path": file}
    if not found:
        sys.exit(
            f"None of the {len(rows)} pictures is below {options.clones}, such as "
            f"{rows[0]['file'] if rows else 'any'}: clone the repositories named at the top of "
            "this script into it."
        )

    guarded = [
        file
        for folder in (options.clones, *options.beside)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in images.SUFFIXES and number(file.name) in off_limits
    ]
    prints = _fingerprints([row["path"] for row in found.values()], left_out)
    forbidden = np.array(list(_fingerprints(guarded, defaultdict(list)).values()), np.int16)
    for poster, row in list(found.items()):
        bits = prints.get(row["path"])
        if bits is None:
            del found[poster]
        elif len(forbidden) and (np.abs(forbidden - bits).sum(axis=1) <= NEAR).any():
            left_out["twins of a poster that is off limits"].append(poster)
            del found[poster]
    same = Counter(prints[row["path"]].tobytes() for row in found.values())
    for poster, row in list(found.items()):
        if same[prints[row["path"]].tobytes()] >= PLACEHOLDER:
            left_out[f"placeholders (one picture for {PLACEHOLDER} films or more)"].append(poster)
            del found[poster]

    (options.out / "Images").mkdir(parents=True, exist_ok=True)
    for poster, row in found.items():
        shutil.copyfile(row["path"], options.out / "Images" / f"{poster}.jpg")
    with open(options.out / "train.csv", "w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("Id", "Genre"))
        writer.writerows((poster, row["Genre"]) for poster, row in found.items())
    report = {"posters": len(found), "left out": {k: len(v) for k, v in left_out.items()}}
    (options.out / "report.json").write_text(json.dumps(report | {"names": left_out}, indent=1))
    print(json.dumps(report, indent=1))


def _fingerprints(files: list[Path], left_out: dict[str, list[str]]) -> dict[Path, np.ndarray]:
    prints = {}

    def read(file: Path) -> None:
        try:
            prints[file] = fingerprint(file)
        except images.PosterError as error:
            left_out["pictures that cannot be read"].append(f"{file.name}: {error.reason}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, files))
    return prints


if __name__ == "__main__":
    main()
