"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
