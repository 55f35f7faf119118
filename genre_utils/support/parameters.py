"""Parameters as people and papermill write them: yes and no, paths, and mistyped names."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

ALIKE = 0.75  # of two names, from which one may be a mistyped other; `difflib` has 0 to 1
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


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """Return the one of the `known` names that a mistyped one is most like; `None` if none is."""
    spelled = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(str(name).casefold(), spelled, 1, ALIKE)
    return spelled[found[0]] if found else None


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return the question that ends a sentence on an unknown name; empty if none is like it."""
    found = nearest(name, known)
    return f" Did you mean {found!r}?" if found else ""


def check_names(names: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a mistyped parameter among a notebook's `globals()`.

    papermill sets whatever name it is given, and only its log says that the notebook has no such
    parameter. A notebook's parameters are the names that have a type. Any other name that papermill
    has set is refused. One in capitals that a person has set is taken for a parameter if it is
    nearly the same, or its beginning.
    """
    known = names.get("__annotations__", {})
    cells = names.get("In", ()) if known else ()
    passed = {name for cell in cells for name in _set_by_papermill(cell) if name in names}
    capitals = {name for name in names if name.isupper()}
    for name in sorted((capitals | passed) - set(known)):
        begun = (one for one in known if one.startswith(f"{name.upper()}_"))
        meant = nearest(name, known) or next(begun, None)
        if meant or name in passed:
            which = f"Did you mean {meant!r}?" if meant else f"Known are {', '.join(known)}."
            raise ValueError(f"Unknown parameter {name}. {which}")


def _set_by_papermill(cell: str) -> list[str]:
    """Return the names that a cell sets which begins as papermill's do; not papermill's own."""
    if not cell.startswith("# Parameters\n"):
        return []
    return re.findall(r"^(?!PAPERMILL_)(\w+) = ", cell, re.MULTILINE)


def expand_user(path: str) -> str:
    """Return a path with a `~` in front replaced by the user's folder, as a shell does.

    A shell leaves it in `--csv=~/genres.csv`, and papermill in `-p DATA ~/posters` on Windows.
    Raises `ValueError` for what is no text, as papermill passes `-p OUTPUT_DIR 2026`.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            f"{path!r} is given for a path: give text, with papermill by -r NAME VALUE."
        )
    return os.path.expanduser(path)
