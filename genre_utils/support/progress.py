"""The one bar that shows how far long work is."""

import io
import sys
from typing import Any

from tqdm import tqdm


class NotebookBar(tqdm):
    """A bar that is one line of a cell's output, replaced as it grows.

    What a plain bar prints stands in a notebook's file once for each of its states. The library's
    own bar for notebooks needs widgets, which a file without a kernel does not show.
    """

    def display(self, msg: str | None = None, pos: int | None = None, **_: Any) -> None:
        """Show the bar as it is now."""
        from IPython.display import display

        content = {"text/plain": msg or str(self)}
        if getattr(self, "shown", None) is None:
            self.shown = display(content, raw=True, display_id=True)
        else:
            self.shown.update(content, raw=True)


def close(bar: tqdm) -> None:
    """Close a bar and leave it full, even where a training ended early."""
    bar.total = bar.n
    bar.close()


def bar(*args: Any, **options: Any) -> tqdm:
    """Return a bar, used as tqdm is; work of under three seconds stays silent."""
    options = {"delay": 3, "mininterval": 1} | options
    ipython = sys.modules.get("IPython")
    if ipython and hasattr(ipython.get_ipython(), "kernel"):  # a notebook, not a terminal
        return NotebookBar(*args, file=io.StringIO(), **options)
    return tqdm(*args, **options)
