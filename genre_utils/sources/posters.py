"""The posters that somebody names: one or many, files, folders, open files or arrays."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np

from genre_utils.images import SUFFIXES
from genre_utils.support import walk


def list_posters(images: Any, several: bool | None = None) -> Iterator[tuple[str, Any]]:
    """Yield `(name, source)` for one or many posters; a folder gives every file in and below it.

    Their names are relative to the folder; with `several`, by default where more than one source is
    given, the folder stands before them, since two folders may have files of one name. Files that
    are no pictures are yielded too: whoever reads them names them as bad.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "UO":  # of paths, as of a table
        images = images.tolist()
    elif isinstance(images, np.ndarray) and images.ndim == 4:  # of pictures
        images = list(images)
    single = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray))
    if single or hasattr(images, "read") or not isinstance(images, Iterable):
        images = [images]
    images = iter(images)
    first = list(islice(images, 2))  # an iterator can be read only once
    several = len(first) > 1 if several is None else several
    for number, source in enumerate(chain(first, images), start=1):
        if not isinstance(source, (str, os.PathLike)):
            yield f"image {number}", source
        elif os.path.isdir(source):
            nothing = True
            for path in walk(os.fspath(source), SUFFIXES):
                nothing = False
                yield _display(path if several else os.path.relpath(path, source)), path
            if nothing:
                yield _display(source), os.fspath(source)
        else:
            yield _display(source), source


def _display(path: str | os.PathLike) -> str:
    """Write a path as text that any file can hold: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
