"""Download the public posters, and unpack nothing else.

This is done by hand because pooch sets no limit: it writes to the disk whatever a server sends,
however long that is, and unpacks an archive without a look at its entries.
"""

import functools
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
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePosixPath

from genre_utils.images import SUFFIXES
from genre_utils.sources.layouts import find_layout
from genre_utils.support import DataError, check_writable, progress, replacing

KAGGLE_DATASET = "raman77768/movie-classifier"
KAGGLE_PAGE = f"https://www.kaggle.com/datasets/{KAGGLE_DATASET}"
GITHUB_PAGE = "https://github.com/laxmimerit/Movies-Poster_Dataset"
ARCHIVE_URL = f"{GITHUB_PAGE}/archive/refs/heads/master.zip"
PROBE_URL = "https://github.com"

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


def cache_folder() -> Path:
    """Return the folder for downloads, `poster-genres` in the user's cache; create it if need be.

    If it cannot be written, return a temporary folder, which later runs do not find.
    """
    # The XDG standard asks to ignore a path that is not absolute, which not every version of
    # platformdirs does.
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "poster-genres"
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder, str(folder), "give another folder.")
    except (OSError, RuntimeError):  # the latter from Path.home(), for a user without one
        return Path(_temporary_folder().name)
    return folder


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    """Return the folder of this process, which goes with it."""
    return tempfile.TemporaryDirectory(prefix="poster-genres-")


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


def download_posters(folder: Path) -> Path:
    """Download the public posters; returns the folder they are in.

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


def find_download(cache: Path) -> tuple[Path, Path] | None:
    """Find the posters of an earlier download, as `find_layout` does."""
    if layout := find_layout(cache / _DOWNLOADED):
        return layout
    try:
        kept = Path((cache / _POINTER).read_text("utf-8"))
        return find_layout(kept) if kept.is_absolute() else None  # "" is the working folder
    except (OSError, ValueError):
        return None


def extract_posters(archive: Path, folder: Path) -> None:
    """Unpack `train.csv` and `Images/*` from a zip file into `folder`, and nothing else.

    Every entry is checked before the first is written; the zip's checksums are verified. Raises
    `DataError`, naming the entry, for links, paths that lead out, encryption and zip bombs, and
    for an archive that is damaged or lacks the table or the pictures; `OSError` from the disk, or
    where a damaged archive names a place before its own beginning.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = _choose_entries(opened.infolist(), archive)
            (folder / "Images").mkdir(parents=True, exist_ok=True)
            for entry, target in wanted:
                # zipfile never yields more than the size the entry declares, checked before.
                with opened.open(entry) as packed, (folder / target).open("xb") as out:
                    shutil.copyfileobj(packed, out, _CHUNK)
    except FileExistsError as error:
        raise DataError(f"{error.filename} is there already: give an empty folder.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
        raise DataError(
            f"{archive.name} is not a whole zip file ({error}); download it again."
        ) from None


def _download_from_kaggle(folder: Path) -> Path | None:
    try:
        import kagglehub

        found = Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception:  # not installed, no account, a moved data set: GitHub has the same posters
        return None
    if find_layout(found) is None:
        return None
    with replacing(folder / _POINTER) as temporary:
        temporary.write_text(str(found), "utf-8")
    return found


def _download_from_github(folder: Path) -> Path:
    # One temporary folder for the archive and what comes out of it: it goes away whatever
    # happens, Ctrl-C included, and only a whole result is renamed into place.
    _remove_leftovers(folder)
    target = folder / _DOWNLOADED
    with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as temporary:
        archive = Path(temporary) / "posters.zip"
        unpacked = Path(temporary) / "unpacked"
        _fetch(ARCHIVE_URL, archive)
        extract_posters(archive, unpacked)
        if find_layout(target) is None:  # else another process was first
            shutil.rmtree(target, ignore_errors=True)
            try:
                os.replace(unpacked, target)
            except OSError:
                if find_layout(target) is None:
                    raise
    return target


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
    """Check all entries; returns the wanted ones with the relative path each is written to."""
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
    targets = Counter(target for _, target in wanted)
    if doubled := [target for target, count in targets.items() if count > 1]:
        name = PurePosixPath(doubled[0]).name
        raise DataError(f"Two entries of {archive.name} are called {name!r}.")
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
