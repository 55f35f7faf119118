"""The one bar that shows how far long work is."""

import io
import sys
from typing import Any

from tqdm import tqdm


class TerminalBar(tqdm):
    """A bar that shows nothing before its delay is over, for `tqdm.write` either."""

    def refresh(self, *args: Any, **options: Any) -> None:
        """Show the bar, where it has been due before."""
        if self._was_due():
            super().refresh(*args, **options)

    def clear(self, *args: Any, **options: Any) -> None:
        """Make room for a line, where the bar stands in its place."""
        if self._was_due():
            super().clear(*args, **options)

    def _was_due(self) -> bool:
        return not self.delay or self.last_print_t >= self.start_t + self.delay


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
    return TerminalBar(*args, **options)
