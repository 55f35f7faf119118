"""What everything stands on: files that appear whole, limits, and progress bars."""

import importlib
from collections.abc import Callable
from typing import Any


def lazy_names(package: str, **names: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562) that imports names when they are first used.

    `names` are those that each of its modules offers, in one text with blanks between them. Raises
    `AttributeError` for any other name.
    """
    modules = {name: module for module, offered in names.items() for name in offered.split()}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load


__getattr__ = lazy_names(
    __name__,
    files=(
        "FULL replacing folder_of temporary_file lock_file only_writer is_device naming_full_disks "
        "check_writable walk sha256_of short_hash picture_hash write_json write_csv first_of "
        "printable harmless"
    ),
    limits=(
        "DataError PosterError check_file check_size is_address is_large read_stream shrink "
        "too_many_pixels"
    ),
    jpeg="prepare_jpeg",
    parameters="as_bool as_choice check_names did_you_mean expand_user nearest",
)
