"""Write the repository's address into all badges and set-up cells, for a fork, too.

    python notebooks/address.py https://github.com/OWNER/NAME

The address stands in `notebooks/address.txt`, empty until it is known, and is copied from there:
into the badges of the README and the notebooks, and into the notebooks' set-up cells, which have
nothing else when they are opened alone. An empty address (`''`) takes it out again.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from jupytext.cli import jupytext

FOLDER = Path(__file__).parent
ADDRESS = FOLDER / "address.txt"
README = FOLDER.parent / "README.md"
NOTEBOOKS = ("explore", "train", "predict")
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
    """Keep the address and copy it into the README and both halves of every notebook."""
    example = "example: python notebooks/address.py https://github.com/OWNER/NAME"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=example)
    parser.add_argument("address", help="https://github.com/OWNER/NAME, or '' for none")
    address = parser.parse_args().address
    path = repository(address)
    if address and not path:
        parser.error(f"{address!r} is no address like https://github.com/OWNER/NAME")
    ADDRESS.write_text(f"https://github.com/{path}\n" if path else "", "utf-8")
    for file in (README, *(FOLDER / f"{name}.py" for name in NOTEBOOKS)):
        file.write_text(filled_in(file, path), "utf-8")
        if file != README:
            jupytext(["--to", "ipynb", "--update", "--quiet", str(file)])
        print(file.name)


def repository(address: str) -> str:
    """Return `OWNER/NAME` of an address; empty when it is not one of GitHub."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", address.strip())
    return found[1] if found else ""


def filled_in(file: Path, path: str) -> str:
    """Return a file's text with badges and clone address of `OWNER/NAME`; empty: without."""
    names = NOTEBOOKS if file == README else (file.stem,)
    badges = [
        f"[![{what}: {name}]({image})]({link.format(path=path, name=name)})"
        for name in names
        for what, (image, link) in BADGES.items()
    ]
    line = " ".join([MARKER, *(badges if path else [])])
    text = re.sub(f"{MARKER}.*", line, file.read_text("utf-8"))
    clone = f"https://github.com/{path}" if path else ""
    return re.sub(r'^REPOSITORY = ".*?"', f'REPOSITORY = "{clone}"', text, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
