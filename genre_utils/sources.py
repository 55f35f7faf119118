"""Find the posters: on this machine, on the internet, or drawn as a sample."""

from __future__ import annotations

import http.client
import os
import shutil
import stat
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from genre_utils.genres import IMDB_GENRES
from genre_utils.images import SUFFIXES
from genre_utils.support import make_writable, progress

VARIABLE = "POSTER_GENRES_DATA"
KAGGLE_DATASET = "raman77768/movie-classifier"
KAGGLE_PAGE = f"https://www.kaggle.com/datasets/{KAGGLE_DATASET}"
GITHUB_PAGE = "https://github.com/laxmimerit/Movies-Poster_Dataset"
ARCHIVE_URL = f"{GITHUB_PAGE}/archive/refs/heads/master.zip"
PROBE_URL = "https://github.com"

KAGGLE_INPUT = Path("/kaggle/input")
DRIVE = Path("/content/drive/MyDrive")

# The public archive unpacks to well under 1 GB in about 7,000 files, and a JPEG hardly shrinks:
# whatever passes these limits is not the posters.
MAX_UNPACKED = 4_000_000_000
MAX_ENTRIES = 200_000
MAX_RATIO, RATIO_MATTERS_ABOVE = 200, 10_000_000

_DOWNLOADED = "movies-poster-dataset"  # the folder in the cache that holds GitHub's copy
_POINTER = "kagglehub-folder.txt"  # names the folder where kagglehub keeps its copy
_STALLED_AFTER = 30  # seconds without a byte
_UNFINISHED, _ABANDONED_AFTER = ".download-", 3600  # seconds
_CHUNK = 1 << 20


class DataError(ValueError):
    """Data that cannot be found or used; the message is one sentence for a person."""


@dataclass(frozen=True)
class Source:
    """Where the posters are.

    `folder` holds the table `csv` and the pictures, which lie directly in `images`; `how` tells
    a person in one sentence where they were found. `is_sample` marks the drawn sample.
    """

    folder: Path
    csv: Path
    images: Path
    how: str
    is_sample: bool = False


def find_data(data: str = "") -> Source:
    """Find the posters; the first place that has them wins.

    The places: `data` (a folder, a CSV file, or `"sample"`), the environment variable
    POSTER_GENRES_DATA (the same), `./data`, Kaggle's input, Google Drive, an earlier download,
    a download, the drawn sample. Raises `DataError` when one of the first two is set but wrong.
    """
    if data:
        return _open_named(data, "DATA")
    if named := os.environ.get(VARIABLE):
        return _open_named(named, VARIABLE)
    if layout := find_layout(Path("data")):
        return _source(layout, "in the folder ./data")
    if found := _search_mounts():
        return found
    cache = cache_folder()
    if layout := _find_download(cache):
        return _source(layout, "in an earlier download")
    if not has_internet():
        return _draw_sample(cache, "no posters are on this machine and the internet is unreachable")
    try:
        folder = download(cache)
        layout = find_layout(folder) or _explain_folder(folder, "The download")
    except DataError as error:
        return _draw_sample(cache, f"no posters are on this machine and {_as_clause(error)}")
    return _source(layout, "by downloading them")


def find_layout(folder: Path) -> tuple[Path, Path] | None:
    """Find the table and the folder of pictures, as `(csv, images)`.

    The table is `train.csv` or else the only CSV; the pictures lie in `Images` (in any case),
    else in `posters`, else beside the table. Both stand in `folder` itself or in one folder
    below it. `None` when there are none, or several folders below fit equally well.
    """
    if layout := _layout_at(folder):
        return layout
    below = _layouts_below(folder)
    return below[0] if len(below) == 1 else None


def cache_folder() -> Path:
    """Give the folder for downloads, `poster-genres` in the user's cache; create it if need be.

    Where that cannot be written, a fresh temporary folder, which is not found again.
    """
    # The XDG standard asks to ignore a path that is not absolute.
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "poster-genres"
        make_writable(folder)
    except (OSError, RuntimeError):  # the latter from Path.home(), for a user without one
        return Path(tempfile.mkdtemp(prefix="poster-genres-"))
    return folder


def has_internet(timeout: float = 8) -> bool:
    """Ask github.com for a sign of life; the answer takes at most `timeout` seconds."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            # A request, not a bare socket: behind a proxy only requests get through.
            request = urllib.request.Request(PROBE_URL, method="HEAD")
            urllib.request.urlopen(request, timeout=timeout).close()
        except urllib.error.HTTPError:
            pass  # a refusal, too, was sent by a server out there
        except (OSError, http.client.HTTPException, ValueError):
            return
        answers.append(True)

    # Looking up the name ignores every socket timeout and can hang for minutes. A thread can be
    # left behind; a daemon thread does not keep the program from ending either.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(answers)


def download(folder: Path) -> Path:
    """Download the public posters and give the folder they are in.

    With kagglehub where it is installed and works (it keeps its own cache; `folder` remembers
    the place), else GitHub's archive into `folder`. A cut download leaves nothing behind.
    Raises `DataError` when neither works.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _download_from_kaggle(folder) or _download_from_github(folder)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"The download from {GITHUB_PAGE} failed ({reason}); try again, or fetch the posters "
            f"with a browser and set DATA to their folder."
        ) from None


def extract_posters(archive: Path, folder: Path) -> None:
    """Unpack `train.csv` and `Images/*` from a zip file into `folder`, and nothing else.

    Every entry is judged before the first is written; the zip's checksums are verified. Raises
    `DataError`, naming the entry, for links, paths that lead out, encryption and zip bombs, and
    for an archive that is damaged or lacks the table or the pictures.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = _choose_entries(opened.infolist(), archive)
            (folder / "Images").mkdir(parents=True, exist_ok=True)
            for entry, target in wanted:
                _extract_entry(opened, entry, folder / target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{archive.name} is not a whole zip file ({error}); download it again."
        ) from None


def _open_named(data: str, setting: str) -> Source:
    if data == "sample":
        return _draw_sample(cache_folder(), f"{setting} asks for it")
    path = os.path.expanduser(data)
    if os.path.isdir(path):
        layout = find_layout(Path(path)) or _explain_folder(Path(path), setting)
    elif os.path.isfile(path):
        layout = _open_csv(Path(path), setting)
    else:
        raise DataError(
            f"{setting} is {data!r}, but there is no such file or folder; give the folder that "
            "holds train.csv and Images, the path of a CSV file, or 'sample'."
        )
    return _source(layout, f"where {setting} says")


def _open_csv(path: Path, setting: str) -> tuple[Path, Path]:
    if path.suffix.lower() != ".csv":
        raise DataError(
            f"{setting} is '{path}', which is not a CSV file; give a CSV file or the folder that "
            "holds train.csv and Images (unpack an archive first)."
        )
    if images := _find_images(path.parent):
        return path, images
    raise DataError(
        f"{setting} is '{path}', but there are no pictures beside it; put them ("
        f"{', '.join(SUFFIXES)}) into a folder 'Images' in '{path.parent}'."
    )


def _explain_folder(folder: Path, setting: str) -> NoReturn:
    """Raise the `DataError` that says why a folder has no layout."""
    start = f"{setting} is '{folder}', "
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{start}which cannot be opened ({error.strerror}).") from None
    if not names:
        raise DataError(f"{start}which is empty; put train.csv and a folder Images into it.")
    if below := _layouts_below(folder):
        fitting = ", ".join(f"'{csv.parent.name}'" for csv, _ in below)
        raise DataError(f"{start}where several folders fit ({fitting}); give the path of one.")
    for place in (folder, *_folders(folder)):
        tables = _csv_files(place)
        if len(tables) > 1 and not _find_csv(place):
            listed = ", ".join(f"'{table.relative_to(folder)}'" for table in tables)
            raise DataError(
                f"{start}where several CSV files stand and none is train.csv ({listed}); "
                "give the path of one."
            )
    missing = "no pictures" if _find_csv(folder) else "no train.csv"
    raise DataError(
        f"{start}where there is {missing}; it must hold train.csv and a folder Images with "
        f"{', '.join(SUFFIXES)} files, or one folder that does."
    )


def _source(layout: tuple[Path, Path], place: str) -> Source:
    csv, images = (path.absolute() for path in layout)
    return Source(csv.parent, csv, images, f"Posters found {place}: {csv.parent}.")


def _search_mounts() -> Source | None:
    kaggle = [*_folders(KAGGLE_INPUT)]
    kaggle += [
        folder for owner in _folders(KAGGLE_INPUT / "datasets") for folder in _folders(owner)
    ]
    drive = [DRIVE, *_folders(DRIVE)]
    for folders, place in ((kaggle, "in Kaggle's input"), (drive, "in Google Drive")):
        for folder in folders:
            layout = find_layout(folder)
            if layout and _names_genres(layout[0]):
                return _source(layout, place)
    return None


def _names_genres(csv: Path) -> bool:
    """Say whether a table's header speaks of genres.

    Nobody named these folders to us: another data set's train.csv and images, or an expense
    list among the photos in a Drive, must not be taken for posters.
    """
    try:
        with csv.open(encoding="utf-8-sig", errors="replace") as lines:
            header = lines.readline(_CHUNK)
    except OSError:
        return False
    for mark in ";\t":
        header = header.replace(mark, ",")
    columns = {column.strip(' "\n').lower() for column in header.split(",")}
    return bool(columns & {"genre", "genres", *(genre.lower() for genre in IMDB_GENRES)})


def _find_download(cache: Path) -> tuple[Path, Path] | None:
    if layout := find_layout(cache / _DOWNLOADED):
        return layout
    try:
        return find_layout(Path((cache / _POINTER).read_text("utf-8")))
    except (OSError, ValueError):
        return None


def _as_clause(error: DataError) -> str:
    text = str(error).rstrip(".")
    return text[0].lower() + text[1:]


def _draw_sample(cache: Path, reason: str) -> Source:
    # Imported here: only this branch needs the drawing code.
    from genre_utils import sample

    # The drawing code is part of the name, so that a new version is never shown old drawings.
    version = zlib.crc32(Path(sample.__file__).read_bytes())
    target = cache / f"sample-{version:08x}"
    if find_layout(target) is None:
        with tempfile.TemporaryDirectory(dir=cache, prefix=".sample-") as temporary:
            drawn = Path(temporary) / "drawn"
            sample.draw_sample(drawn)
            _publish(drawn, target)
    layout = find_layout(target)
    if layout is None:
        raise DataError(f"The sample could not be drawn into {target}; set DATA to a folder.")
    csv, images = (path.absolute() for path in layout)
    how = (
        f"THIS IS THE DRAWN SAMPLE, NO REAL POSTERS ({reason}): results on it say nothing about "
        f"films; for real ones set DATA or {VARIABLE} to a folder with train.csv and Images "
        f"(from {KAGGLE_PAGE} or {GITHUB_PAGE})."
    )
    return Source(csv.parent, csv, images, how, is_sample=True)


def _publish(made: Path, target: Path) -> Path:
    """Rename a finished folder to `target`, unless another process was first; give `target`."""
    if find_layout(target) is None:
        shutil.rmtree(target, ignore_errors=True)
        try:
            os.replace(made, target)
        except OSError:
            if find_layout(target) is None:
                raise
    return target


def _download_from_kaggle(folder: Path) -> Path | None:
    try:
        import kagglehub

        found = Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception:  # not installed, no account, a moved data set: GitHub has the same posters
        return None
    if find_layout(found) is None:
        return None
    (folder / _POINTER).write_text(str(found), "utf-8")
    return found


def _download_from_github(folder: Path) -> Path:
    # One temporary folder for the archive and what comes out of it: it goes away whatever
    # happens, Ctrl-C included, and only a whole result is renamed into place.
    _remove_leftovers(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as temporary:
        archive = Path(temporary) / "posters.zip"
        unpacked = Path(temporary) / "unpacked"
        _fetch(ARCHIVE_URL, archive)
        extract_posters(archive, unpacked)
        return _publish(unpacked, folder / _DOWNLOADED)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed downloads left; one at work has written something in the last hour."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            written = max(path.stat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - written > _ABANDONED_AFTER:
                shutil.rmtree(left)


def _fetch(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_STALLED_AFTER) as response, path.open("wb") as out:
        expected = response.length  # None where the server does not announce a length
        received = 0
        amount = {"total": expected, "unit": "B", "unit_scale": True}
        with progress.bar(desc="Downloading posters", delay=0, **amount) as bar:
            while chunk := response.read(_CHUNK):
                out.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
                if received > MAX_UNPACKED:
                    raise OSError(f"it sends more than {MAX_UNPACKED // 10**9} GB")
    # `read` ends without complaint when the connection does.
    if expected is not None and received != expected:
        raise OSError(f"it was cut after {received} of {expected} bytes")


def _choose_entries(
    entries: list[zipfile.ZipInfo], archive: Path
) -> list[tuple[zipfile.ZipInfo, str]]:
    """Judge all entries; give the wanted ones with the relative path each is written to."""
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{archive.name} has {len(entries)} entries, over {MAX_ENTRIES}.")
    for entry in entries:
        if flaw := _find_flaw(entry):
            raise DataError(f"{archive.name} is not safe to unpack: {entry.filename!r} {flaw}.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED:
        raise DataError(
            f"{archive.name} would unpack to {unpacked} bytes, over the limit of {MAX_UNPACKED}."
        )
    wanted = [(entry, target) for entry in entries if (target := _target(entry))]
    targets = {target for _, target in wanted}
    if "train.csv" not in targets or len(targets) < 2:
        raise DataError(f"{archive.name} does not hold train.csv and pictures in a folder Images.")
    return wanted


def _find_flaw(entry: zipfile.ZipInfo) -> str:
    # Backslashes and colons lead out of a folder on Windows; ":" also opens hidden streams there.
    name = entry.filename.replace("\\", "/")
    if name.startswith("/") or ":" in name:
        return "is an absolute path"
    if ".." in name.split("/"):
        return "leads out of the folder"
    # The upper half holds the Unix mode; archives made elsewhere leave its type 0.
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    is_large = entry.file_size > RATIO_MATTERS_ABOVE
    if is_large and entry.file_size > MAX_RATIO * entry.compress_size:
        return f"unpacks to more than {MAX_RATIO} times its size"
    return ""


def _target(entry: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if entry.is_dir() or path.name.startswith("."):
        return None
    if path.name == "train.csv":
        return path.name
    is_picture = path.suffix.lower() in SUFFIXES
    return f"Images/{path.name}" if is_picture and path.parent.name == "Images" else None


def _extract_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    # zipfile never yields more than the size the entry declares, which was judged before.
    try:
        with archive.open(entry) as packed, target.open("xb") as out:
            shutil.copyfileobj(packed, out, _CHUNK)
    except FileExistsError:
        raise DataError(f"Two entries of the archive are called {target.name!r}.") from None


def _layout_at(folder: Path) -> tuple[Path, Path] | None:
    csv = _find_csv(folder)
    images = _find_images(folder) if csv else None
    return (csv, images) if csv and images else None


def _layouts_below(folder: Path) -> list[tuple[Path, Path]]:
    return [layout for below in _folders(folder) if (layout := _layout_at(below))]


def _find_csv(folder: Path) -> Path | None:
    tables = _csv_files(folder)
    named_train = [table for table in tables if table.name.lower() == "train.csv"]
    candidates = named_train or tables
    return candidates[0] if len(candidates) == 1 else None


def _find_images(folder: Path) -> Path | None:
    below = _folders(folder)
    for wanted in ("images", "posters"):
        for candidate in below:
            if candidate.name.lower() == wanted and _has_pictures(candidate):
                return candidate
    return folder if _has_pictures(folder) else None


def _csv_files(folder: Path) -> list[Path]:
    return sorted(f for f in _entries(folder, os.DirEntry.is_file) if f.suffix.lower() == ".csv")


def _folders(folder: Path) -> list[Path]:
    return sorted(_entries(folder, os.DirEntry.is_dir))


def _has_pictures(folder: Path) -> bool:
    return any(f.suffix.lower() in SUFFIXES for f in _entries(folder, os.DirEntry.is_file))


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
