"""The bar in a terminal and in a notebook."""

import time
from types import SimpleNamespace

import pytest

from genre_utils.support import progress


def test_a_bar_in_a_terminal_is_on_standard_error_when_it_is_not_delayed(capsys):
    list(progress.bar(range(3), desc="silent"))
    list(progress.bar(range(3), desc="shown", delay=0))
    out, err = capsys.readouterr()
    assert out == "" and "shown" in err and "silent" not in err


def test_a_bar_in_a_notebook_is_one_output_that_is_replaced(monkeypatch, capsys):
    display = pytest.importorskip("IPython.display")
    import IPython

    shown, updated = [], []

    class Handle:
        def update(self, content, raw):
            updated.append(content["text/plain"])

    def displayed(content, raw, display_id):
        shown.append(content["text/plain"])
        return Handle()

    monkeypatch.setattr(display, "display", displayed)
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel="a kernel"))
    for _ in progress.bar(range(5), desc="work", delay=0):
        time.sleep(0.3)
    assert len(shown) == 1 and "work" in shown[0]
    assert updated and "100%" in updated[-1]
    assert capsys.readouterr() == ("", "")
