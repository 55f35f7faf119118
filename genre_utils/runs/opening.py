"""Whether a training may begin or go on in a folder: what is refused before anything is written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genre_utils import support
from genre_utils.ocr import WORDS_FILE
from genre_utils.runs import hosts
from genre_utils.runs.folder import ENCODER, NETWORKS, PICTURES, UNREADABLE, WRITTEN, Run
from genre_utils.runs.lock import lock
from genre_utils.support import short_hash


def open_run(folder: str | Path, settings: dict[str, Any], restart: bool = False) -> Run:
    """Open an output folder for a training with these settings.

    Where the same training was begun, it goes on. Into a new folder, nothing but the lock is
    written until `Run.begin`. Raises `ValueError` when another process trains into the folder, or
    when it holds a training with other settings, which `restart` throws away, or what no training
    put there; and `OSError` when it cannot be written.
    """
    run = Run(Path(folder), settings)
    check_folders(run.folder)
    begun = run.begun
    foreign = [name for name in WRITTEN if not begun and (run.folder / name).exists()]
    if foreign:
        raise ValueError(
            f"{run.folder} holds {foreign[0]!r}, which a training would write over, and no "
            "settings.json of one: give another OUTPUT_DIR."
        )
    made = not run.folder.exists()
    run.folder.mkdir(parents=True, exist_ok=True)
    lock(run.folder, made)
    if begun and restart:
        run.forget()
    elif begun:
        # Compared when pictures are decoded and networks built.
        for later in (UNREADABLE, PICTURES, NETWORKS):
            begun.pop(later, None)
        # Older trainings did not note their encoder.
        _check_same({ENCODER: settings.get(ENCODER)} | begun, settings, run.folder)
    check_hosts_agree(run)
    return run


def check_folders(folder: str | Path, words: str | Path | None = None) -> None:
    """Raise `OSError` unless files can be created in OUTPUT_DIR, and beside the file WORDS.

    Creates nothing that stays. Raises `ValueError` for no file's name, and where outputs would be
    strewn over the working folder.
    """
    too_wide = Path(folder).resolve() in (Path.cwd(), Path(Path.cwd().anchor))
    if too_wide and not Run(Path(folder), {}).begun:
        raise ValueError(
            f"OUTPUT_DIR is {str(folder)!r}: give a folder of its own, as outputs/model."
        )
    advice = "give a folder in which you may create files."
    support.check_writable(Path(folder), f"OUTPUT_DIR {str(folder)!r}", advice)
    if words is not None:
        if not str(words) or Path(words).is_dir():
            raise ValueError(f"WORDS is {str(words)!r}: give a file's name, as {WORDS_FILE}.")
        advice = "give a file in a folder in which you may create files."
        support.check_writable(support.folder_of(words), f"WORDS {str(words)!r}", advice)


def check_outside(folder: str | Path, posters: str | Path) -> None:
    """Raise `ValueError` for posters that are not there, and for an output folder inside theirs.

    An empty folder of posters is refused, too. The output's figures would be posters. `posters` is
    a picture, or a folder of pictures.
    """
    if not os.path.exists(posters):
        raise ValueError(
            f"{str(posters)!r}: there is no such poster, and no such folder of posters, in "
            f"{os.getcwd()}."
        )
    output, inside = Path(folder).resolve(), Path(posters).resolve()
    if inside.is_dir() and output.is_relative_to(inside):
        raise ValueError(
            f"OUTPUT_DIR {str(folder)!r} is inside the posters' folder {str(posters)!r}, where its "
            "figures would be taken for posters: give a folder elsewhere."
        )
    if inside.is_dir() and not any(support.walk(str(inside))):
        raise ValueError(f"{str(posters)!r} is an empty folder: put posters into it.")


def choice_of_run(
    folder: str | Path, settings: Mapping[str, Any], choice: str, restart: bool
) -> str:
    """Keep to what a training begun in this folder decided about reading words.

    `"auto"` would be decided anew at each start, and reading is faster the second time. Raises
    `ValueError`, before anything is read, where that training had other `settings` than these.
    """
    begun = Run(Path(folder), dict(settings)).begun
    if restart or not begun:
        return choice
    _check_same({name: begun.get(name) for name in settings}, settings, Path(folder))
    return choice if choice != "auto" else ("yes" if begun.get("read_text") else "no")


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    differing = [
        "the posters, their order, genres or splits were others"
        if name == "data"
        else f"{name} was {old.get(name)!r} and is now {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise ValueError(
            f"{folder} holds a training with other settings: {'; '.join(differing)}. Give another "
            "OUTPUT_DIR, or RESTART=True to throw that training away."
        )


def check_hosts_agree(run: Run) -> None:
    """Raise `ValueError` unless all hosts do the same: one that does not would wait forever."""
    settings = short_hash(json.dumps(run.settings, sort_keys=True))
    if len(set(hosts.gather(int(settings[:7], 16)))) > 1:
        raise ValueError(
            "The hosts of this training have different parameters or posters: start the same "
            "command on each, with the same data."
        )
    finished = hosts.gather(run.finished)
    if 0 < sum(finished) < len(finished):
        raise ValueError(
            f"This training is finished on host {finished.index(1)}, whose OUTPUT_DIR has the "
            "model, and not on all: there is nothing left to train together. RESTART=True on all "
            "hosts begins anew."
        )
