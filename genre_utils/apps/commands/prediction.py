"""The command `predict`: posters in, tables of their genres out."""

import argparse
import glob
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from genre_utils import networks
from genre_utils.apps import batch_prediction
from genre_utils.apps.commands import checks
from genre_utils.predictor import Predictor, table_rows
from genre_utils.saved_model import check_files
from genre_utils.support import check_writable, is_device, only_writer, printable


def predict(options: argparse.Namespace) -> int:
    """Predict the top genres of posters."""
    if options.top < 1:
        raise ValueError(f"--top is {options.top}: give 1 or more.")
    if options.ray or options.ray_address:
        return _predict_on_ray(options)
    if options.parquet:
        raise ValueError("--parquet goes with --ray: without it, give --csv or --json.")
    tables = {"--csv": options.csv, "--json": options.json}
    tables = {option: file for option, file in tables.items() if file and file != "-"}
    _check_tables(options, tables)
    _check_posters(options)
    own = batch_prediction.own_files(tables.values())
    one_poster = not options.list and len(options.paths) == 1 and os.path.isfile(options.paths[0])
    # Side by side, posters are read fastest on a core each.
    threads = 0 if one_poster else 1
    predictor = Predictor.load(checks.model_folder(options), not options.no_text, threads=threads)
    if predictor.model.card["training"].get("sample"):
        print("This model was trained on drawn posters only, the sample.", file=sys.stderr)
    with _log_file([*tables.values()]) as file:
        count = None
        # A pipe can be read only once.
        if not options.list or (options.list != "-" and os.path.isfile(options.list)):
            count = sum(1 for _ in batch_prediction.list_inputs(_posters(options), own))
        inputs = [os.path.abspath(path) for path in (*options.paths, options.list) if path]
        inputs += [os.getcwd()] * bool(options.list)  # what its paths are relative to
        log = batch_prediction.ResumableLog(file, predictor, inputs)
        try:
            for found in log.fill(predictor, _posters(options), count, own):
                if found.error:
                    named = f"{printable(found.poster)}: {printable(found.error)}"
                    tqdm.write(f"not predicted: {named}", file=sys.stderr)  # above the bar
        except KeyboardInterrupt:
            _write_tables(options, log, predictor.genres)
            done = sum(1 for _ in log.read())
            kept = not all(map(is_device, tables.values()))
            again = ". Run the same command again to continue" if kept else ""
            raise KeyboardInterrupt(f"stopped; {done} posters are predicted{again}.") from None
        if options.list and not any(True for _ in log.read()):
            _say_list_is_empty(options)
        return _write_tables(options, log, predictor.genres)


def _write_tables(
    options: argparse.Namespace, log: batch_prediction.ResumableLog, genres: Sequence[str]
) -> int:
    top = None if options.all_genres else options.top
    names = genres if options.all_genres else ("rank", "genre", "score")
    if options.csv:
        columns = ("poster", *names, "error")
        batch_prediction.write_csv_rows(table_rows(log.read(), genres, top), columns, options.csv)
    if options.json:
        batch_prediction.write_json_rows(table_rows(log.read(), genres, top), options.json)
    if not (options.csv or options.json):
        good = (row for row in table_rows(log.read(), genres, top) if not row.pop("error"))
        batch_prediction.print_table(list(good))
    predicted = any(one.error is None for one in log.read())
    return checks.DONE if predicted else checks.NOTHING_DONE


@contextmanager
def _log_file(files: Sequence[str]) -> Iterator[Path]:
    """Yield the log's place: beside the first file to write, kept until that is written."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as locks:
        # Beside a device, such as /dev/stdout, not everybody may write.
        files = [file for file in files if not is_device(file)] or [f"{folder}/predictions"]
        log = batch_prediction.partial_file(files[0])
        for file in (*files, log):
            locks.enter_context(only_writer(file))
        yield log
        log.unlink()


def _check_tables(options: argparse.Namespace, tables: Mapping[str, str]) -> None:
    """Refuse, before the long work, tables that would replace what is kept, or each other."""
    inputs = dict.fromkeys(options.paths, "which is read")
    if options.list and options.list != "-":
        inputs[options.list] = "the list that is read"
    for option, file in tables.items():
        checks.check_output(option, file, inputs | checks.model_files(options))
    own = [batch_prediction.own_files([file]) for file in (options.csv, options.json) if file]
    if len(own) == 2 and own[0] & own[1]:
        raise ValueError(
            f"--csv {options.csv} and --json {options.json} would be written over each other: "
            "give other names."
        )


def _check_posters(options: argparse.Namespace) -> None:
    """Refuse a command without posters, and a list that is no file of paths."""
    if not (options.paths or options.list):
        raise ValueError("predict needs a PATH, or --list with a file of paths.")
    if options.list not in (None, "-"):
        advice = "give it without --list, or a file with a path a line"
        checks.check_list("--list", options.list, advice)


def _posters(options: argparse.Namespace) -> Iterator[str]:
    """Yield the paths of the command line, and those in a list without holding it in memory."""
    for path in options.paths:
        yield from _matching(path)
    if options.list:
        source = 0 if options.list == "-" else options.list
        with open(source, encoding=checks.encoding_of(source), errors="surrogateescape") as lines:
            yield from (line.rstrip("\r\n") for line in lines if line.strip())


def _say_list_is_empty(options: argparse.Namespace) -> None:
    print(f"--list {options.list} names no poster: write a path a line.", file=sys.stderr)


def _matching(path: str) -> list[str]:
    """List what a pattern such as `*.png` stands for; not all shells do that, cmd.exe does not."""
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    return sorted(glob.glob(path, recursive=True)) or [path]


def _predict_on_ray(options: argparse.Namespace) -> int:
    checks.check_ray()
    from genre_utils.apps import on_ray

    if not options.parquet or options.csv or options.json:
        raise ValueError("--ray writes Parquet: give --parquet DIR, and no --csv or --json.")
    written = Path(options.parquet).resolve()
    for path in filter(os.path.isdir, options.paths):
        if written.is_relative_to(Path(path).resolve()):
            raise ValueError(
                f"--parquet {options.parquet} is inside {path}, where its files would be taken for "
                "posters: give a folder elsewhere."
            )
    if Path(options.parquet).is_dir() and any(Path(options.parquet).iterdir()):
        raise ValueError(f"{options.parquet} holds files already: give a new folder to --parquet.")
    if "://" not in options.parquet:
        advice = "give a new folder inside one that you may write to."
        check_writable(Path(options.parquet), f"--parquet {options.parquet}", advice)
    _check_posters(options)
    model = checks.model_folder(options)
    # Before each of Ray's workers finds out for itself.
    check_files(model, networks.read_card(model), not options.no_text)
    work = options.parquet, model, not options.no_text, options.ray_address
    predicted, bad = on_ray.predict(_posters(options), *work)
    if not predicted + bad:
        _say_list_is_empty(options)  # a path is always a poster, if a bad one
        return checks.NOTHING_DONE
    print(
        f"{predicted} posters predicted, {bad} not (column error); the table is in "
        f"{options.parquet}"
    )
    return checks.DONE if predicted else checks.NOTHING_DONE
