"""The command `read`: the words on posters, read once and kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genre_utils import dataset, ocr, sources
from genre_utils.apps.commands import checks
from genre_utils.support import check_writable, printable


def read(options: argparse.Namespace) -> int:
    """Read the words on the posters of a data set."""
    file = Path(options.words or ocr.WORDS_FILE)
    check_writable(file.parent, f"--words {file}", checks.WRITABLE.format(option="--words"))
    if options.ray or options.ray_address:
        checks.check_ray()
    if options.readings:
        checks.check_list("--import", options.readings, "give a file of readings, a line a poster")
    source = sources.find_data(options.data)
    data = dataset.load_dataset(source)
    checks.print_findings(data)
    posters = data.posters
    cache = ocr.WordCache(file)
    if options.readings:
        paths = dict(zip(posters["id"], posters["path"], strict=True))
        taken = ocr.import_readings(options.readings, paths, cache)
        print(f"{taken} readings were new in {options.readings}")
    paths = posters["path"].tolist()
    if options.ray or options.ray_address:
        from genre_utils.apps import on_ray

        done = on_ray.read(paths, cache, options.ray_address, options.anew)
    else:
        done = ocr.read_posters(paths, cache, anew=options.anew)
    for path, reason in done.unreadable.items():
        print(f"not read: {printable(Path(path).name)}: {printable(reason)}", file=sys.stderr)
    print(
        f"{len(posters)} posters: {done.new} read now, {len(done.lines) - done.new} read before, "
        f"{len(done.unreadable)} cannot be read; the words are in {file}"
    )
    return checks.DONE if done.lines else checks.NOTHING_DONE
