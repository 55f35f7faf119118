"""What does Ray cost on one machine, where there is nothing to gain from it?

    pip install '.[ray]' && python benchmarks/on_ray.py [--posters 1000] [--model DIR]

Two whole processes, each alone, in turn and twice: `python -m genre_utils predict FOLDER --no-text`
on links to the posters, with `--csv` and with `--ray --parquet`. Ray's time holds its start, two
workers that each load the model, and the writing of the table. Writes
`benchmarks/results/on_ray.json`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

import measure
import record

from genre_utils.saved_model import RELEASED


def main() -> None:
    """Time both ways and write the result."""
    parser = measure.options_parser(__doc__, posters=1000)
    parser.add_argument("--model", type=Path, default=RELEASED, help="model folder")
    options = parser.parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    with measure.linked(paths) as links:
        table = links.parent / "table"
        command = ("-m", "genre_utils", "predict", str(links), "--no-text")
        command += ("--model", str(options.model))
        sides = {
            "ray": lambda: measure.run(*command, "--ray", "--parquet", str(table)),
            "plain": lambda: measure.run(*command, "--csv", f"{table}.csv"),
        }
        seconds = measure.alternate(sides, 2, after=lambda: shutil.rmtree(table, True))
    ratio = measure.ratio(seconds["ray"], seconds["plain"])
    took = {side: round(median(times), 1) for side, times in seconds.items()}
    text = f"{ratio:.2f} × ({took['ray']:.0f} s and {took['plain']:.0f} s, {len(paths)} posters, "
    row = record.Row(
        "The same posters on Ray on this machine, beside the plain command, time",
        "—",
        text + "picture alone)",
        f"python benchmarks/on_ray.py --posters {len(paths)}",
    )
    record.save("on_ray", {"posters": len(paths), "ratio": ratio, "seconds": took}, [row])


if __name__ == "__main__":
    main()
