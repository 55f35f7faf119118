"""Find the posters: on this machine, on the internet, or drawn as a sample."""

import os
import shutil
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from genre_utils.images import SUFFIXES
from genre_utils.machine import DRIVE
from genre_utils.sources import download, layouts, tables
from genre_utils.support import DataError

VARIABLE = "POSTER_GENRES_DATA"
KAGGLE_INPUT = Path("/kaggle/input")


@dataclass(frozen=True)
class Source:
    """Where the posters are.

    `folder` holds the table `csv` and the pictures, which lie in or below `images`. `description`
    tells a person in one sentence where they were found. `is_sample` marks the drawn sample.
    """

    folder: Path
    csv: Path
    images: Path
    description: str
    is_sample: bool = False

    @property
    def subtitle(self) -> str:
        """What figures of the sample have below their titles; empty for posters of your own."""
        return "Drawn sample posters, not real ones" if self.is_sample else ""

    @property
    def announcement(self) -> str:
        """Where the posters were found, and, loudly, whether they are the sample."""
        line = "#" * 72
        loud = f"{line}\n{self.subtitle.upper()}\n{line}\n"
        return loud * self.is_sample + self.description


def find_data(data: str = "") -> Source:
    """Find the posters; the first place that has them wins.

    The places: `data` (a folder, a CSV file, or `"sample"`), the environment variable
    POSTER_GENRES_DATA (the same), `./data`, Kaggle's input, Google Drive, an earlier download,
    a download, the drawn sample. Raises `DataError` when one of the first two is set but wrong.
    """
    for setting, named in (("DATA", data), (VARIABLE, os.environ.get(VARIABLE))):
        if named:
            return _open_named(named, setting)
    if layout := layouts.find_layout(Path("data")):
        return _source(layout, "in the folder ./data")
    if found := _search_mounts():
        return found
    cache = download.cache_folder()
    if layout := download.find_download(cache):
        return _source(layout, "in an earlier download")
    if not download.has_internet():
        return _draw_sample(cache, "no posters are on this machine and the internet is unreachable")
    try:
        folder = download.download_posters(cache)
        layout = layouts.find_layout(folder) or layouts.explain_folder(folder, "The download")
    except DataError as error:
        clause = str(error)[0].lower() + str(error)[1:].rstrip(".")
        return _draw_sample(cache, f"no posters are on this machine and {clause}")
    return _source(layout, "by downloading them")


def _open_named(data: str, setting: str) -> Source:
    if data == "sample":
        return _draw_sample(download.cache_folder(), f"{setting} asks for it")
    path = Path(os.path.expanduser(data))
    if os.path.isdir(path):
        layout = layouts.find_layout(path) or layouts.explain_folder(path, setting)
    elif not os.path.isfile(path):
        here = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise DataError(
            f"{setting} is {data!r}, but there is no such file or folder{here}; give the folder "
            "that holds the table and the pictures, the path of a table, or 'sample'."
        )
    elif path.suffix.lower() not in tables.SUFFIXES:
        raise DataError(
            f"{setting} is '{path}', which is not a CSV file; give a CSV or TSV file or "
            "the folder that holds the table and the pictures (unpack an archive first)."
        )
    elif images := layouts.find_images(path.parent):
        layout = path, images
    else:
        raise DataError(
            f"{setting} is '{path}', but there are no pictures beside it; put them ("
            f"{', '.join(SUFFIXES)}) into a folder 'Images' in '{path.parent}'."
        )
    return _source(layout, f"where {setting} says")


def _source(layout: tuple[Path, Path], place: str) -> Source:
    csv, images = (path.absolute() for path in layout)
    return Source(csv.parent, csv, images, f"Posters found {place}: {csv.parent}.")


def _search_mounts() -> Source | None:
    kaggle = layouts.folders_in(KAGGLE_INPUT)
    for owner in layouts.folders_in(KAGGLE_INPUT / "datasets"):
        kaggle += layouts.folders_in(owner)
    drive = [DRIVE, *layouts.folders_in(DRIVE)]
    for folders, place in ((kaggle, "in Kaggle's input"), (drive, "in Google Drive")):
        for folder in folders:
            if layout := layouts.find_layout(folder, layouts.names_genres):
                return _source(layout, place)
    return None


def _draw_sample(cache: Path, reason: str) -> Source:
    # Imported here: only this branch needs the drawing code.
    from genre_utils.sources import sample

    # What draws is part of the name, so that a new version is never shown old drawings.
    drawing = sorted(Path(__file__).parent.glob("sample.*"))
    version = zlib.crc32(b"".join(file.read_bytes() for file in drawing))
    target = cache / f"sample-{version:08x}"
    if layouts.find_layout(target) is None:
        shutil.rmtree(target, ignore_errors=True)
        sample.draw_sample(target)
    layout = layouts.find_layout(target) or layouts.explain_folder(target, "The drawn sample")
    description = (
        f"THIS IS THE DRAWN SAMPLE, NO REAL POSTERS ({reason}): results on it say nothing about "
        f"films; for real ones set DATA or {VARIABLE} to a folder with train.csv and Images "
        f"(from {download.KAGGLE_PAGE} or {download.GITHUB_PAGE})."
    )
    return replace(_source(layout, "in the cache"), description=description, is_sample=True)
