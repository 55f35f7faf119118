"""What several commands share: the model's folder, the words, and what a result may replace."""

import argparse
import codecs
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from genre_utils.images import is_picture
from genre_utils.ocr import WORDS_FILE, WordCache
from genre_utils.saved_model import KNOWN_FILES, RELEASED
from genre_utils.sources import is_other_table
from genre_utils.support import check_writable, folder_of, is_address, is_device

DONE, NOTHING_DONE = 0, 1  # exit codes

WRITABLE = "give {option} a file in a folder that you may write to."


def model_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the model that the command works with."""
    return Path(options.model) if options.model else RELEASED


def model_files(options: argparse.Namespace) -> dict[str, str]:
    """Return the files of the model, and of its training, which no table may replace."""
    names = (*KNOWN_FILES, "model.json", "metrics.json", "settings.json")
    return {str(model_folder(options) / name): "a file of the model" for name in names}


def known_words(file: str | None) -> WordCache:
    """Open the words read before; raises `ValueError` where a file that was named is missing."""
    if file and not Path(file).exists():
        raise ValueError(f"--words is {file}: there is no such file.")
    return WordCache(file or WORDS_FILE)


def check_list(option: str, name: str, advice: str) -> None:
    """Raise `ValueError` for a file that cannot hold a list, a name a line; a pipe may."""
    why = ""
    if os.path.isdir(name):
        why = f", a folder: {advice}."
    elif os.path.isfile(name) and is_picture(name):
        why = f", a picture: {advice}."
    elif not os.path.exists(name) and is_address(name):
        why = ", an internet address: download the file first."
    elif not os.path.exists(name):
        why = ": there is no such file."
    if why:
        raise ValueError(f"{option} is {name}{why}")


def encoding_of(source: str | int) -> str:
    """Return the encoding of a list: UTF-16, which PowerShell writes, or UTF-8."""
    start = b""
    if source != 0 and os.path.isfile(source):  # reading the standard input would use it up
        with open(source, "rb") as file:
            start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def check_output(option: str, file: str, inputs: Mapping[str, str]) -> None:
    """Fail before the long work, not after it; the sentence names the option that helps.

    `inputs` says of each path that the command reads what it is: nothing is written over them, nor
    over a picture, nor over a table that is not one of predictions. A pipe takes anything.
    """
    if is_device(file):
        return
    folder, advice = folder_of(file), WRITABLE.format(option=option)
    if Path(file).is_dir() or not os.path.basename(file):
        raise ValueError(f"{option} {file} cannot be written: it is a folder. Name a file.")
    if not folder.is_dir():
        raise ValueError(
            f"{option} {file} cannot be written (there is no folder {folder}): {advice}"
        )
    check_writable(folder, f"{option} {file}", advice)
    known = {os.path.realpath(path): what for path, what in inputs.items()}
    what = known.get(os.path.realpath(file))
    if not what and os.path.isfile(file):
        what = is_picture(file) and "which is a picture"
        what = what or (is_other_table(Path(file)) and "which is a table of something else")
    if what:
        raise ValueError(f"{option} would write over {file}, {what}: give another name.")


def check_ray() -> None:
    """Raise `ValueError` where Ray is not installed."""
    if not all(map(importlib.util.find_spec, ("ray", "pyarrow"))):
        raise ValueError("--ray needs Ray: pip install '.[ray]' in the repository.")
