"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

# A spreadsheet takes a text that begins so for a formula, and computes it.
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The suffix is kept, because Keras and NumPy choose the format by it. After an error the
    temporary file is removed and an older `path` stands untouched.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_writable(folder: Path) -> None:
    """Create a folder; raises `OSError` unless files can be created in it."""
    folder.mkdir(parents=True, exist_ok=True)
    # Permission bits promise too much (read-only mounts, quotas): only writing tells.
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"?")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, whole or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def as_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV in which no text is a formula to a spreadsheet.

    A text or column name that begins like one, as a file's name may, gets a `'` in front (OWASP,
    "CSV injection"). Numbers stay what they are.
    """
    harmless = {
        _harmless(name): column if is_numeric_dtype(column) else column.map(_harmless)
        for name, column in table.items()
    }
    return pd.DataFrame(harmless).to_csv(index=False)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as `as_csv` does, in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(as_csv(table), "utf-8", newline="")


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_MARKS) else cell
