"""What the benchmarks share: the real posters, whole commands, alternating clocks."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from genre_utils import dataset, sources


def options_parser(description: str, posters: int | None = None) -> argparse.ArgumentParser:
    """Return a parser; with `posters`, it has `--posters`, the number to use, and 0 means all."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if posters is not None:
        what = f"posters to use, 0 for all (default: {posters})"
        parser.add_argument("--posters", type=int, default=posters, help=what)
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


@contextmanager
def linked(paths: Sequence[str], count: int = 0) -> Iterator[Path]:
    """Make a folder of `count` links to the posters, over and over (0: one each), for a while.

    The folder's parent is empty but for it: there is room for what a command writes.
    """
    with TemporaryDirectory() as folder:
        links = Path(folder) / "posters"
        links.mkdir()
        for i in range(count or len(paths)):
            (links / f"{i:07d}.jpg").symlink_to(os.path.abspath(paths[i % len(paths)]))
        yield links


def alternate(
    sides: dict[str, Callable[[], Any]],
    rounds: int,
    after: Callable[[], Any] = lambda: None,
) -> dict[str, list[float]]:
    """Time all sides in turn, `rounds` times; returns each one's seconds, a figure a round.

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
    """Return the median over the rounds of one side's seconds divided by the other's."""
    return round(median(a / b for a, b in zip(above, below, strict=True)), 3)


def run(*arguments: str, cwd: Path | None = None) -> str:
    """Run this Python with arguments; returns what it printed. A failure shows its error."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def watch(*arguments: str, children: bool = False) -> tuple[float, list[float]]:
    """Run this Python with arguments; returns its seconds, and its memory in MB as it went on.

    With `children` the processes that it starts count, too; to look for them takes time.
    """
    import psutil

    start, megabytes = time.perf_counter(), []
    child = psutil.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while child.poll() is None:
        with suppress(psutil.Error):  # it may have ended since
            tree = [child, *(child.children(recursive=True) if children else ())]
            megabytes.append(sum(process.memory_info().rss for process in tree) / 1e6)
        time.sleep(1 if children else 0.1)
    if child.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed.")
    return time.perf_counter() - start, megabytes


def commit_of(worktree: Path) -> str:
    """Return the commit that a worktree stands at; exits for a folder that is none."""
    git = ["git", "-C", str(worktree), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True)
    if done.returncode or not (worktree / "genre_utils").is_dir():
        raise SystemExit(
            f"{worktree} is no worktree of this project: git worktree add {worktree} 50b5772"
        )
    return done.stdout.strip()


def in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run `work` in a fresh process; returns its answer."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
