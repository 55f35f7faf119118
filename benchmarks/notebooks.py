"""How long do the notebooks take, and how much memory?

    python benchmarks/notebooks.py --only predict

Runs a notebook, or all three, by papermill in an empty output folder, as the table in its first
cell says. Writes `benchmarks/results/notebooks-<name>.json`, and the figure into that table; then
`jupytext --to ipynb --update notebooks/{explore,train,predict}.py` brings the other half along.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import measure
import record

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PUBLIC = "the 6,642 public posters"
# By notebook: what its table says is run, and the parameters for that.
RUNS = {
    "explore": (f"{PUBLIC}, no words", {"READ_TEXT": "no"}),
    "train": (
        f"{PUBLIC}, 250 wide, heads alone, no words",
        {"IMG_SIZE": "250", "EPOCHS": "0", "READ_TEXT": "no"},
    ),
    "predict": ("8 drawn posters, their words and Grad-CAM", {}),
}


def main() -> None:
    """Run the notebooks and write what they took."""
    parser = measure.options_parser(__doc__)
    parser.add_argument("--only", choices=RUNS, help="run this notebook alone")
    only = parser.parse_args().only
    for name in [only] if only else RUNS:
        what, parameters = RUNS[name]
        if PUBLIC in what and len(measure.real_posters(0).posters) != 6642:
            raise SystemExit(f"This needs {PUBLIC}, all of them.")
        with TemporaryDirectory() as folder:
            given = {**parameters, "OUTPUT_DIR": f"{folder}/{name}"}
            options = [part for pair in given.items() for part in ("-p", *pair)]
            notebook = NOTEBOOKS / f"{name}.ipynb"
            command = "-m", "papermill", str(notebook), f"{folder}/{name}.ipynb", *options
            seconds, megabytes = measure.watch(*command, children=True)
        took = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
        figure = f"{took}, {max(megabytes) / 1000:.1f} GB"
        again = f"python benchmarks/notebooks.py --only {name}"
        row = record.Row(f"The notebook {name}: {what}", "—", figure, again)
        figures = {"seconds": round(seconds, 1), "megabytes": round(max(megabytes))}
        record.save(f"notebooks-{name}", figures, [row])
        write_into(NOTEBOOKS / f"{name}.py", what, figure)


def write_into(notebook: Path, what: str, figure: str) -> None:
    """Replace the figure beside `what` in the table of a notebook's first cell."""
    line = re.compile(rf"^(# \| {re.escape(what)} \| )[^|]*", re.MULTILINE)
    text, count = line.subn(rf"\g<1>{figure} ", notebook.read_text("utf-8"))
    if not count:
        raise SystemExit(f"The table of {notebook.name} does not name {what!r}.")
    notebook.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
