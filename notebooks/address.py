"""Write the repository's address into the notebooks: their badges and their set-up cells.

    python notebooks/address.py https://github.com/OWNER/NAME

The address stands in no file until it is known; with an empty one (`''`) it is taken out again.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import jupytext

FOLDER = Path(__file__).parent
MARKER = "<!-- badges -->"
BADGES = {
    "Open in Colab": (
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{path}/blob/main/notebooks/{name}.ipynb",
    ),
    "Open in Kaggle": (
        "https://kaggle.com/static/images/open-in-kaggle.svg",
        "https://kaggle.com/kernels/welcome?src=https://github.com/{path}/blob/main/notebooks/{name}.ipynb",
    ),
}


def main() -> None:
    """Rewrite every notebook that has a place for badges, both halves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="https://github.com/OWNER/NAME, or '' for none")
    address = parser.parse_args().address
    path = address.removeprefix("https://github.com/").removesuffix(".git").strip("/")
    if address and (path == address or not re.fullmatch(r"[\w.-]+/[\w.-]+", path)):
        parser.error(f"{address!r} is no address like https://github.com/OWNER/NAME")
    for source in sorted(FOLDER.glob("*.py")):
        text = source.read_text("utf-8")
        if source != Path(__file__) and MARKER in text:
            source.write_text(fill_in(text, path, source.stem), "utf-8")
            jupytext.write(jupytext.read(source), source.with_suffix(".ipynb"))
            print(source.name)


def fill_in(text: str, path: str, name: str) -> str:
    """Give a notebook's source with badges and clone address of `OWNER/NAME`; empty: without."""
    badges = [
        f"[![{what}]({image})]({link.format(path=path, name=name)})"
        for what, (image, link) in BADGES.items()
    ]
    line = " ".join([MARKER, *(badges if path else [])])
    text = re.sub(f"{MARKER}.*", line, text)
    clone = f"https://github.com/{path}" if path else ""
    return re.sub(r'^REPOSITORY = ".*?"', f'REPOSITORY = "{clone}"', text, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
