"""How long does a finished training take to report again?

    python benchmarks/finished.py

Runs the train notebook on the public posters with every parameter at its default, but that words
are read, in `outputs/finished`. The first run trains, and takes as long as that takes. The same
command then runs once more, and finds everything done: that is timed.
Writes `benchmarks/results/finished.json`.
"""

from __future__ import annotations

import time
from pathlib import Path

import measure
import record

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "train.ipynb"
OUTPUT = Path("outputs/finished")
LIMIT = 180  # seconds


def main() -> None:
    """Train, report again, and write how long that took."""
    measure.options_parser(__doc__).parse_args()
    posters = len(measure.real_posters(0).posters)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    parameters = {"READ_TEXT": "yes", "WORDS": OUTPUT / "words.jsonl", "OUTPUT_DIR": OUTPUT}
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        measure.run("-m", "papermill", str(NOTEBOOK), str(OUTPUT / "train.ipynb"), *given)
        seconds.append(round(time.perf_counter() - start, 1))
    row = record.Row(
        f"A finished training of {posters:,} posters and their words reports again",
        f"≤ {LIMIT} s",
        f"{seconds[1]:.0f} s",
        "python benchmarks/finished.py",
    )
    record.save("finished", {"posters": posters, "seconds": seconds[1]}, [row])


if __name__ == "__main__":
    main()
