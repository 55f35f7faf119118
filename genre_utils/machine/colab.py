"""Colab: outputs in the user's Drive, and posters from the user's own machine."""

import functools
from pathlib import Path

from genre_utils.machine.backend import importable

# Where Colab mounts the user's Drive.
DRIVE = Path("/content/drive/MyDrive")


def persistent_path(path: str) -> Path:
    """Return a path of outputs in Colab's Drive, where it outlives a disconnect; elsewhere itself.

    Absolute paths stay as they are. Colab asks once whether Drive may be used; where it may not, a
    sentence says what that means.
    """
    if Path(path).is_absolute() or not importable("google.colab"):
        return Path(path)
    if refusal := _mount_drive():
        print(f"Drive is not used ({refusal}): when Colab disconnects, {path} is lost.")
        return Path(path)
    return DRIVE / "poster-genres" / path


def upload(folder: Path) -> Path | None:
    """Let the user of Colab upload files into `folder`, and return it.

    `None` outside Colab, and when nothing was uploaded. If the browser blocks the upload, a
    sentence says how to bring the files in by hand.
    """
    if not importable("google.colab"):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from google.colab import files

        uploaded = files.upload()
    except Exception as error:  # blocked cookies, a closed dialogue, a notebook run headless
        print(
            f"The upload did not work ({error}). Drag your posters into {folder}/ in the file "
            f"browser at the left, write {str(folder)!r} into POSTERS, and run on from there."
        )
        return None
    for name, content in uploaded.items():
        (folder / Path(name).name).write_bytes(content)
    return folder if uploaded else None


@functools.cache
def _mount_drive() -> str:
    """Mount Colab's Drive; returns why not, or an empty text."""
    if DRIVE.is_dir():
        return ""
    try:
        from google.colab import drive

        drive.mount(str(DRIVE.parent))
    except Exception as error:  # a refusal is an error of whatever kind
        return str(error) or type(error).__name__
    return ""
