"""Keep the figures of a training that the tables compare with.

    python benchmarks/record.py --run outputs/seed_cnn
    python benchmarks/record.py --run outputs/frozen

Copies the `metrics.json` of a finished training (the commands for them stand in the README) and the
sum of its epochs' seconds to `benchmarks/results/<name of the folder>.json`, from where `readme.py`
and `learning_speed.py` take them. An epoch's seconds hold its scoring on validation. The machine
noted is the one that this command runs on: run it where the training ran, and with the same
`taskset` if the training had one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import measure
import pandas as pd


def main() -> None:
    """Write the result file, or say why there is nothing to write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="OUTPUT_DIR")
    folder = parser.parse_args().run
    file = folder / "metrics.json"
    if not file.exists():
        raise SystemExit(f"{folder} holds no finished training: there is no {file.name} in it.")
    metrics = json.loads(file.read_text("utf-8"))
    if metrics["sample"]:
        raise SystemExit(f"{folder} was trained on the drawn sample: train on the real posters.")
    history = folder / "history.csv"
    seconds = pd.read_csv(history)["seconds"] if history.exists() else pd.Series([0.0])
    # Row 0 of the history is the network before its first epoch.
    measured = {"epochs": len(seconds) - 1, "seconds": round(float(seconds.sum()), 1)}
    measure.save(folder.name, {**measured, **metrics})
    print(measured)


if __name__ == "__main__":
    main()
