"""Keep what was measured: figures, rows of the tables, machine, date and version.

    python benchmarks/record.py --run outputs/seed_cnn
    python benchmarks/record.py --run outputs/frozen

Every benchmark writes its result file with `save`. As a command it keeps a training that the
README's table compares with: it copies the `metrics.json` of a finished one (the commands for them
stand in the README) and the sum of its epochs' seconds to `benchmarks/results/<name of the
folder>.json`. An epoch's seconds hold its scoring on validation. The machine noted is the one that
this command runs on: run it where the training ran, and with the same `taskset` if the training
had one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from genre_utils import __version__
from genre_utils.support import write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "onnxruntime", "rapidocr")
PACKAGES += ("numpy", "pillow", "simplejpeg")


class Row(NamedTuple):
    """One line of the tables in README.md; `figure` is text, `goal` is `—` where none is set."""

    what: str
    goal: str
    figure: str
    command: str


def save(name: str, figures: dict[str, Any], rows: Sequence[Row] = ()) -> None:
    """Write `results/<name>.json` and print the rows.

    On JAX and PyTorch the file is called `<name>-jax.json` and `<name>-torch.json`, and the rows
    say so.
    """
    keras = sys.modules.get("keras")
    backend = keras.backend.backend() if keras else "tensorflow"
    if backend != "tensorflow":
        name = f"{name}-{backend}"
        rows = [
            row._replace(
                what=f"{row.what}, Keras on {backend}",
                command=f"KERAS_BACKEND={backend} {row.command}",
            )
            for row in rows
        ]
    for row in rows:
        print(f"{row.what}: {row.figure} (goal: {row.goal})", flush=True)
    when = {"measured": date.today().isoformat(), "version": __version__}
    content = {**when, "machine": describe_machine(), "rows": [row._asdict() for row in rows]}
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {**content, **figures})


def describe_machine() -> dict[str, Any]:
    """Name what the figures depend on: processor, cores, system and versions."""
    machine = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "cores_used": usable_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            machine[package] = importlib.metadata.version(package)
    return machine


def usable_cores() -> int:
    """Return the number of cores that this process may use; `taskset` leaves it fewer than all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def _cpu_name() -> str:
    """Return the processor's name; on Linux with VNNI, the instructions that 8 bits profit from."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        entries = [line.split(":", 1) for line in lines if ":" in line]
        info = {key.strip(): value.strip() for key, value in entries}
        vnni = [flag for flag in info.get("flags", "").split() if "vnni" in flag]
        if "model name" in info:
            return " ".join([info["model name"], *vnni])
    return platform.processor() or platform.machine()


def main() -> None:
    """Keep a training's figures, or say why there is nothing to keep."""
    import pandas as pd

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
    save(folder.name, {**measured, **metrics})
    print(measured)


if __name__ == "__main__":
    main()
