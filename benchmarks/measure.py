"""What the benchmarks share: the real posters, alternating clocks, results with their machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from genre_utils import dataset, sources
from genre_utils.support import write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow", "simplejpeg")


def options_parser(description: str, posters: int = 0) -> argparse.ArgumentParser:
    """Give a parser with `--posters`, the number of posters to use; 0 means all."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--posters",
        type=int,
        default=posters,
        help=f"posters to use, 0 for all (default: {posters or 'all'})",
    )
    return parser


def real_posters(limit: int) -> dataset.Dataset:
    """Load the real posters, at most `limit` of them (0: all); exits where there is only a sample.

    Drawn posters decode faster than printed ones, so figures on them would say nothing.
    """
    source = sources.find_data()
    if source.is_sample:
        raise SystemExit(
            f"Benchmarks need the real posters: set {sources.VARIABLE} to the folder that holds "
            "their CSV and pictures."
        )
    return dataset.load_dataset(source, limit)


def alternate(
    sides: dict[str, Callable[[], Any]],
    rounds: int,
    after: Callable[[], Any] = lambda: None,
) -> dict[str, list[float]]:
    """Time all sides in turn, `rounds` times; gives each one's seconds, a figure a round.

    Every second round runs backwards, so that neither a machine growing slower nor what one
    side leaves behind favours a side. `after` cleans up after each side, off the clock.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            sides[side]()
            seconds[side].append(round(time.perf_counter() - start, 4))
            after()
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the median over the rounds of one side's seconds divided by the other's."""
    return round(median(a / b for a, b in zip(above, below, strict=True)), 3)


def save(name: str, content: dict[str, Any]) -> None:
    """Write `results/<name>.json`, with the machine and the versions that gave the figures.

    On JAX and PyTorch the file is called `<name>-jax.json` and `<name>-torch.json`.
    """
    RESULTS.mkdir(exist_ok=True)
    write_json(_file(name), {"machine": describe_machine(), **content})


def saved(name: str) -> dict[str, Any]:
    """Give what `save` wrote under this name, on this backend, without the machine."""
    file = _file(name)
    content = json.loads(file.read_text("utf-8")) if file.exists() else {}
    content.pop("machine", None)
    return content


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
    """Give the number of cores that this process may use; `taskset` leaves it fewer than all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def _file(name: str) -> Path:
    keras = sys.modules.get("keras")
    backend = keras.backend.backend() if keras else "tensorflow"
    return RESULTS / f"{name}{'' if backend == 'tensorflow' else f'-{backend}'}.json"


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
