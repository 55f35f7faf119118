"""How fast are the words on posters read, beside RapidOCR called one by one, in how much memory?

    python benchmarks/reading.py [--posters 200]

Two child processes take turns, twice each: one runs `read_posters` into an empty cache, on all
cores; the other calls `RapidOCR` out of the box (but for the angle classifier, which is off in
both) on one file after the other, which uses all cores for each. A few posters are read off the
clock first. The memory is the highest that each child with all its children had together while it
worked. Then one warm `Reader.read` at a time, on all cores, as a prediction calls it, of posters
as they are and of copies three times as wide. Writes `benchmarks/results/reading.json`.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np
from PIL import Image

from genre_utils import images, ocr

ONE = 21  # posters read one at a time
LARGER = 3
PACKAGES = ("rapidocr", "onnxruntime")


def main() -> None:
    """Measure many posters, then one at a time, and write the result."""
    options = measure.options_parser(__doc__, posters=200).parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    measure.PACKAGES += PACKAGES
    result: dict[str, Any] = {"posters": len(paths), "many": measure_many(paths, rounds=2)}
    with child() as pool:
        result["one"] = pool.submit(measure_one, paths[:ONE]).result()
    measure.save("reading", result)
    print(result)


def measure_many(paths: Sequence[str], rounds: int) -> dict[str, Any]:
    """Time both sides in turn, each in a process of its own, and watch their memory."""
    with child() as ours, child() as theirs:
        pools = {"read_posters": (ours, read_all), "one_by_one": (theirs, one_by_one)}
        sides: dict[str, Callable[[], Any]] = {}
        peaks = dict.fromkeys(pools, 0)
        for side, (pool, work) in pools.items():
            root = pool.submit(os.getpid).result()
            pool.submit(work, paths[:4]).result()

            def run(side=side, pool=pool, work=work, root=root) -> None:
                with watched(root) as seen:
                    pool.submit(work, paths).result()
                peaks[side] = max(peaks[side], seen[0])

            sides[side] = run
        seconds = measure.alternate(sides, rounds)
    return {
        "posters_a_second": {s: round(len(paths) / median(t), 2) for s, t in seconds.items()},
        "speed_beside_one_by_one": measure.ratio(seconds["one_by_one"], seconds["read_posters"]),
        "peak_mb": {side: round(peak / 1e6) for side, peak in peaks.items()},
        "seconds": seconds,
    }


def measure_one(paths: Sequence[str]) -> dict[str, Any]:
    """Time single readings of decoded posters, and of larger copies of them."""
    reader = ocr.Reader(threads=os.cpu_count() or 1)
    posters = [images.read_poster(path) for path in paths]
    reader.read(posters[0])
    result = {}
    for side, scale in (("as_they_are", 1), ("larger", LARGER)):
        seconds = []
        for rgb in posters:
            size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
            copy = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
            start = time.perf_counter()
            reader.read(copy)
            seconds.append(time.perf_counter() - start)
        result[side] = {"median": round(median(seconds), 3), "slowest": round(max(seconds), 3)}
    return {"posters": len(posters), "times_as_wide": LARGER, "seconds": result}


@cache
def our_reader() -> ocr.Reader:
    """Give one reader a process, so that its models are loaded once."""
    return ocr.Reader()


def read_all(paths: Sequence[str]) -> None:
    """Read posters into a cache that nobody has filled."""
    with tempfile.TemporaryDirectory() as folder:
        words = ocr.WordCache(Path(folder) / "words.jsonl")
        ocr.read_posters(paths, words, our_reader())


@cache
def their_reader() -> Callable[[str], Any]:
    """Make RapidOCR as its manual does."""
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.use_cls": False, "Global.log_level": "critical"})


def one_by_one(paths: Sequence[str]) -> None:
    """Read posters as anyone would; what cannot be read is passed over."""
    for path in paths:
        with suppress(Exception):
            their_reader()(path)


def child() -> ProcessPoolExecutor:
    """Start one fresh process that stays for several tasks."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


@contextmanager
def watched(root: int) -> Iterator[list[int]]:
    """Note the highest memory of a process and all below it, in bytes, while the block runs."""
    try:
        import psutil
    except ImportError:
        raise SystemExit("Watching memory needs psutil: pip install psutil.") from None
    process, peak, done = psutil.Process(root), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            with suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                peak[0] = max(peak[0], sum(each.memory_info().rss for each in tree))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
