"""Parameters as people and papermill write them: yes and no, and paths."""

from __future__ import annotations

import os
from typing import Any

_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def as_bool(name: str, value: Any) -> bool:
    """Return the parameter `name` as a boolean.

    papermill's `-p RESTART no` hands over the text "no", which Python takes for true. Understood
    are yes, no, true, false, 1 and 0, in any case; raises `ValueError` for anything else.
    """
    known = _BOOLEANS.get(str(value).strip().lower())
    if known is None:
        raise ValueError(f"{name} is {value!r}: give True or False (or yes, no, 1, 0).")
    return known


def as_choice(name: str, value: Any) -> str:
    """Return the parameter `name` as `"auto"`, `"yes"` or `"no"`; raises `ValueError`."""
    if value == "auto":
        return value
    try:
        return "yes" if as_bool(name, value) else "no"
    except ValueError:
        raise ValueError(f"{name} is {value!r}: give one of 'auto', 'yes', 'no'.") from None


def expand_user(path: str) -> str:
    """Return a path with a `~` in front replaced by the user's folder, as a shell does.

    A shell leaves it in `--csv=~/genres.csv`, and papermill in `-p DATA ~/posters` on Windows.
    """
    return os.path.expanduser(path)
