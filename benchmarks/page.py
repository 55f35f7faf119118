"""Does the page's memory grow with the posters that are dropped on it, and how soon does it answer?

    python benchmarks/page.py [--posters 500] [--runs 3]

Opens the page in a process of its own, `python -m genre_utils app`, and drops posters on it, ten
at a time, each time as another visitor; words are read. Every 50 posters the resident memory of
that process is noted: the last figure beside the first is what grew. Of every drop it is noted
after how long the first poster's answer was there, and all ten. The first drop, which finds
networks that have not computed yet, counts too. Each run opens a new page. Writes
`benchmarks/results/page.json`; needs `pip install '.[app]'`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from statistics import median
from typing import Any

import measure
import psutil
import record
from gradio_client import Client, handle_file

AT_ONCE, NOTED = 10, 50
ANNOUNCED = "The page is open at "
ANSWERED = "<article"  # each poster's answer is one


def main() -> None:
    """Drop the posters on as many pages as there are runs, and write what was noted."""
    parser = measure.options_parser(__doc__, posters=500)
    parser.add_argument("--runs", type=int, default=3, help="pages, one after the other")
    options = parser.parse_args()
    paths = measure.real_posters(options.posters).posters["path"].tolist()
    runs = [one_run(paths) for _ in range(options.runs)]
    command = "python benchmarks/page.py"
    figures: dict[str, Any] = {"runs": runs}
    firsts = [drop["first"] for run in runs for drop in run["drops"]]
    alls = [drop["all"] for run in runs for drop in run["drops"]]
    figures |= {"first": median(firsts), "all": median(alls)}
    first = f"{median(firsts):.1f} s, {max(firsts):.1f} s at most (all ten: {median(alls):.1f} s)"
    rows = [record.Row("The page's first answer to a drop of ten posters", "≤ 3 s", first, command)]
    if len(paths) > NOTED:
        kept = [run["megabytes"] for run in runs]
        figures["grown"] = round(median(run[-1] / run[0] for run in kept) - 1, 3)
        memory = f"{100 * figures['grown']:+.1f} % in the median of {len(runs)} runs ("
        memory += "; ".join(f"{run[0]} to {run[-1]} MB" for run in kept) + ")"
        what = f"Memory of the page, {NOTED} to {NOTED * len(kept[0])} posters"
        rows.append(record.Row(what, "≤ +5 %, ≤ 1.5 GB", memory, command))
    record.save("page", figures, rows)


def one_run(paths: list[str]) -> dict[str, Any]:
    """Open a page and drop all posters on it; returns its memory and the seconds of each drop."""
    page = psutil.Popen(
        [sys.executable, "-m", "genre_utils", "app", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    run: dict[str, Any] = {"megabytes": [], "drops": []}
    try:
        announced = next(line for line in page.stdout if line.startswith(ANNOUNCED))
        address = announced.removeprefix(ANNOUNCED).strip()
        for start in range(0, len(paths), AT_ONCE):
            run["drops"].append(drop(paths[start : start + AT_ONCE], address))
            if (start + AT_ONCE) % NOTED == 0:
                run["megabytes"].append(round(page.memory_info().rss / 1e6))
                print(f"{start + AT_ONCE} posters: {run['megabytes'][-1]} MB", flush=True)
    finally:
        page.terminate()
        page.wait()
    return run


def free_port() -> int:
    """Return a port that nothing uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def drop(paths: list[str], address: str) -> dict[str, float]:
    """Have posters predicted as a visitor; returns after how many seconds what was shown."""
    visitor = Client(address, verbose=False)
    files = [handle_file(path) for path in paths]
    start, first = time.perf_counter(), 0.0
    job = visitor.submit(files, 3, api_name="/predict")
    # Not by iterating over the job, which holds the lock that its answers wait for.
    while not job.done():
        if not first and any(ANSWERED in str(answer) for answer in job.outputs()):
            first = time.perf_counter() - start
        time.sleep(0.02)
    whole = time.perf_counter() - start
    job.result()  # raises what went wrong
    visitor.close()
    return {"first": round(first or whole, 2), "all": round(whole, 2)}


if __name__ == "__main__":
    main()
