"""Names that a package offers and imports when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562) whose modules offer these names.

    `names` is `{module: names}`, the names in one text with blanks between them. Raises
    `AttributeError` for any other name.
    """
    modules = {name: module for module, offered in names.items() for name in offered.split()}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load
