"""Names that a package offers and imports when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(package: str, names: Mapping[str, str | Sequence[str]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562) whose modules offer these names.

    `names` is `{module: names}`, a list or words in one text; a module that offers itself is
    imported by Python anyway. Raises `AttributeError` for any other name.
    """
    modules = {}
    for module, offered in names.items():
        words = offered.split() if isinstance(offered, str) else offered
        modules |= dict.fromkeys(words, module)

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load
