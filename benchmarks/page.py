"""Does the page's memory grow with the posters that are dropped on it?

    python benchmarks/page.py [--posters 500]

Opens the page in a process of its own, `python -m genre_utils app`, and drops posters on it, ten
at a time, each time as another visitor; words are read. Every 50 posters the resident memory of
that process is noted, and `benchmarks/results/page.json` written anew: the last figure beside the
first is what grew. Needs `pip install '.[app]'`.
"""

from __future__ import annotations

import subprocess
import sys

import measure
import psutil
from gradio_client import Client, handle_file

AT_ONCE, NOTED = 10, 50
ANNOUNCED = "The page is open at "


def main() -> None:
    """Drop the posters, and note the memory."""
    options = measure.options_parser(__doc__, posters=500).parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    page = psutil.Popen(
        [sys.executable, "-m", "genre_utils", "app"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said = next(line for line in page.stdout if line.startswith(ANNOUNCED))
        drop(paths, said.removeprefix(ANNOUNCED).strip(), page)
    finally:
        page.terminate()


def drop(paths: list[str], address: str, page: psutil.Process) -> None:
    """Have all posters predicted; writes the memory after every 50."""
    rows = []
    for start in range(0, len(paths), AT_ONCE):
        visitor = Client(address, verbose=False)
        some = [handle_file(path) for path in paths[start : start + AT_ONCE]]
        visitor.predict(some, 3, api_name="/predict")
        visitor.close()
        if (start + AT_ONCE) % NOTED == 0:
            megabytes = round(page.memory_info().rss / 1e6)
            rows.append({"posters": start + AT_ONCE, "megabytes": megabytes})
            print(rows[-1], flush=True)
            grown = round(megabytes / rows[0]["megabytes"] - 1, 3)
            measure.save("page", {"rows": rows, "grown": grown})


if __name__ == "__main__":
    main()
