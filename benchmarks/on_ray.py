"""What does Ray cost on one machine, where there is nothing to gain from it?

    pip install '.[ray]' && python benchmarks/on_ray.py [--posters 1000] [--model DIR]

Two whole processes, each alone, in turn and twice: `python -m genre_utils predict FOLDER --no-text`
on links to the posters, with `--csv` and with `--ray --parquet`. Ray's time holds its start, two
workers that each load the model, and the writing of the table. Writes
`benchmarks/results/on_ray.json`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from statistics import median

import measure
from prediction import run

from genre_utils.saved_model import RELEASED


def main() -> None:
    """Time both ways and write the result."""
    parser = measure.options_parser(__doc__, posters=1000)
    parser.add_argument("--model", type=Path, default=RELEASED, help="model folder")
    options = parser.parse_args()
    paths = map(Path, measure.real_posters(options.posters).posters["path"])
    with tempfile.TemporaryDirectory() as folder:
        links, table = Path(folder) / "posters", Path(folder) / "table"
        links.mkdir()
        for path in paths:
            (links / path.name).symlink_to(path.resolve())
        command = ("-m", "genre_utils", "predict", str(links), "--no-text")
        command += ("--model", str(options.model))
        sides = {
            "ray": lambda: run(*command, "--ray", "--parquet", str(table)),
            "plain": lambda: run(*command, "--csv", f"{table}.csv"),
        }
        seconds = measure.alternate(sides, 2, after=lambda: shutil.rmtree(table, True))
        count = len(list(links.iterdir()))
    result = {
        "posters": count,
        "ratio": measure.ratio(seconds["ray"], seconds["plain"]),
        "seconds": {side: round(median(times), 1) for side, times in seconds.items()},
    }
    print(result)
    measure.save("on_ray", result)


if __name__ == "__main__":
    main()
