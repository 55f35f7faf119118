"""The command line: `python -m genre_utils predict poster.jpg`."""

from __future__ import annotations

import argparse
import codecs
import glob
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genre_utils import __version__, machine
from genre_utils.ocr import WORDS_FILE
from genre_utils.support import check_writable, expand_user, only_writer, printable, share_heap

if TYPE_CHECKING:  # seconds that `predict` need not wait
    import pandas as pd

    from genre_utils.ocr import WordCache

PREDICTED, NOTHING_PREDICTED, WRONG_USE, STOPPED = 0, 1, 2, 130

LEFT_OUT = {
    "trained_on": "left out, because the model was trained on them",
    "unreadable": "left out, because they cannot be read",
    "genres_not_shared": "genres left out, because only the model or only the data have them",
}

# What cannot be known of the posters to score, by whether the card lists the training pictures.
UNKNOWN = {
    True: "a training poster is known by its id and by its file's bytes: what was saved anew under "
    "another id, or learned by a film's title alone, is not known and is scored.",
    False: "this model's card lists no training pictures: a training poster is known by its id "
    "only, and under another id it is scored.",
}

WRITABLE = "give {option} a file in a folder that you may write to."

EXAMPLES = {
    "predict": """
  python -m genre_utils predict poster.jpg
  python -m genre_utils predict posters/ --csv genres.csv --no-text
  python -m genre_utils predict posters/ --all-genres --json - --model outputs/model
  python -m genre_utils predict --list paths.txt --json scores.jsonl""",
    "evaluate": """
  python -m genre_utils evaluate --data data/
  python -m genre_utils evaluate --data data/ --model outputs/model --json metrics.json""",
    "read": """
  python -m genre_utils read --data data/
  python -m genre_utils read --data data/ --import readings.jsonl.gz""",
    "export": """
  python -m genre_utils export --model outputs/model
  python -m genre_utils export --format litert --int8 --model outputs/model""",
    "app": """
  python -m genre_utils app
  python -m genre_utils app --port 8000 --model outputs/model""",
    "card": """
  python -m genre_utils card
  python -m genre_utils card --model outputs/model""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: at least one poster was predicted, scored or read; 1: none could be; 2: wrong use; 130:
    stopped by Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # A name of any letters can be printed to a terminal of few.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    if options.run is None:
        parser.print_help(sys.stderr)
        parser.exit(WRONG_USE, "\nposter-genres: give a COMMAND from the list above.\n")
    if warning := machine.outdated():
        print(warning, file=sys.stderr)
    share_heap()
    try:
        machine.choose_backend()
        return options.run(options)
    except (ValueError, OSError) as error:  # DataError, ModelError and what a disk says
        lines = map(printable, str(error).splitlines())
        print("poster-genres:", "\n".join(lines), file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt as stop:
        print(f"poster-genres: {stop}" if str(stop) else "poster-genres: stopped.", file=sys.stderr)
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="poster-genres",
        description="Predict a film's genres from its poster: its picture and the words on it.",
        epilog="examples:" + "".join(EXAMPLES.values()) + "\n\nCOMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    predict = _command(commands, "predict", "the top genres of posters", _predict)
    _path(predict, "paths", "picture, or folder of pictures", "PATH", nargs="*")
    _path(predict, "--list", "file with a path a line; - reads them")
    predict.add_argument("--top", type=int, default=3, help="genres a poster (default: 3)")
    _flag(predict, "--all-genres", "one row a poster, a column for every genre")
    _path(predict, "--csv", "write the table as CSV; - prints it")
    _path(predict, "--parquet", "with --ray: where the result goes", "DIR")

    evaluate = _command(
        commands, "evaluate", "score the model on posters with known genres", _evaluate
    )
    _path(evaluate, "--data", "folder of posters, or CSV", "DIR", required=True)
    _path(evaluate, "--ids", "ids to score (default: the test set)")
    _path(evaluate, "--words", f"words read before (default: {WORDS_FILE})")

    read = _command(commands, "read", "read the words on the posters of a data set", _read)
    _path(read, "--data", "folder of posters, or CSV", "DIR", required=True)
    _path(read, "--words", f"where they are kept (default: {WORDS_FILE})")
    _path(read, "--import", "take readings made elsewhere first", dest="readings")
    _flag(read, "--anew", "read again what was read with other settings")

    app = _command(commands, "app", "open a web page to drop posters on", _app)
    app.add_argument("--port", type=_port, default=7860, help="(default: 7860)")
    app.add_argument(
        "--host", default="127.0.0.1", help="address to open at (default: this machine's own)"
    )
    _flag(app, "--share", "make a public link, through Gradio's servers")

    what = "write the model's card, MODEL_CARD.md, into its folder"
    card = _command(commands, "card", what, _card)

    export = _command(commands, "export", "write the model's networks as ONNX or LiteRT", _export)
    export.add_argument("--format", choices=("onnx", "litert"), default="onnx")
    _flag(
        export, "--int8", "the model itself in 8 bits; with --data also what convolutions compute"
    )
    _path(export, "--convert", "rewrite a model of the format before", "DIR")
    _path(export, "--data", "posters that calibrate 8 bits, and that are scored", "DIR")
    _path(export, "--words", f"their words (default: {WORDS_FILE})")

    for command in (predict, read):
        _flag(command, "--ray", "work on Ray, on all its machines")
        command.add_argument("--ray-address", metavar="ADDRESS", help="a cluster's (default: here)")
    for command in (predict, evaluate, app, card, export):
        _path(command, "--model", "model folder (default: the released)", "DIR")
    for command in (predict, evaluate, app):
        _flag(command, "--no-text", "use the picture alone, which is faster")
    for command in (predict, evaluate):
        _path(command, "--json", "write JSON; - prints it")
    return parser


def _path(
    command: argparse.ArgumentParser, option: str, what: str, metavar: str = "FILE", **more: Any
) -> None:
    command.add_argument(option, type=_expand_path, metavar=metavar, help=what, **more)


def _expand_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty, as of a variable that is not set")
    return expand_user(text)


def _flag(command: argparse.ArgumentParser, option: str, what: str) -> None:
    command.add_argument(option, action="store_true", help=what)


def _command(
    commands: Any, name: str, what: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"examples:{EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 65535")
    return int(text)


def _predict(options: argparse.Namespace) -> int:
    from genre_utils.apps import catalogue
    from genre_utils.predictor import Predictor

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
    own = catalogue.own_files(tables.values())
    one_poster = not options.list and len(options.paths) == 1 and os.path.isfile(options.paths[0])
    # Side by side, posters are read fastest on a core each.
    threads = 0 if one_poster else 1
    predictor = Predictor.load(_model(options), not options.no_text, threads=threads)
    if predictor.model.card["training"].get("sample"):
        print("This model was trained on drawn posters only, the sample.", file=sys.stderr)
    with _log_file([*tables.values()]) as file:
        count = None
        # A pipe can be read only once.
        if not options.list or (options.list != "-" and os.path.isfile(options.list)):
            count = sum(1 for _ in catalogue.list_inputs(_posters(options), own))
        inputs = [os.path.abspath(path) for path in (*options.paths, options.list) if path]
        inputs += [os.getcwd()] * bool(options.list)  # what its paths are relative to
        log = catalogue.ResumableLog(file, predictor, inputs)
        try:
            for found in log.fill(predictor, _posters(options), count, own):
                if found.error:
                    named = f"{printable(found.poster)}: {printable(found.error)}"
                    print(f"not predicted: {named}", file=sys.stderr)
        except KeyboardInterrupt:
            _write_tables(options, log, predictor.genres)
            done = sum(1 for _ in log.read())
            again = "; the same command goes on behind them" if tables else ""
            raise KeyboardInterrupt(f"stopped; {done} posters are predicted{again}.") from None
        if options.list and not any(True for _ in log.read()):
            print(f"--list {options.list} names no poster: write a path a line.", file=sys.stderr)
        return _write_tables(options, log, predictor.genres)


def _write_tables(options: argparse.Namespace, log: Any, genres: Sequence[str]) -> int:
    from genre_utils.apps import catalogue
    from genre_utils.predictor import table_rows

    top = None if options.all_genres else options.top
    names = genres if options.all_genres else ("rank", "genre", "score")
    if options.csv:
        columns = ("poster", *names, "error")
        catalogue.write_csv(table_rows(log.read(), genres, top), columns, options.csv)
    if options.json:
        catalogue.write_json(table_rows(log.read(), genres, top), options.json)
    if not (options.csv or options.json):
        good = (row for row in table_rows(log.read(), genres, top) if not row.pop("error"))
        catalogue.print_table(list(good))
    predicted = any(error is None for _, _, error in log.read())
    return PREDICTED if predicted else NOTHING_PREDICTED


@contextmanager
def _log_file(files: Sequence[str]) -> Iterator[Path]:
    """Yield the log's place: beside the first file to write, kept until that is written."""
    from genre_utils.apps import catalogue

    with tempfile.TemporaryDirectory() as folder, ExitStack() as locks:
        files = files or [f"{folder}/predictions"]
        log = catalogue.partial_file(files[0])
        for file in (*files, log):
            locks.enter_context(only_writer(file))
        yield log
        log.unlink()


def _check_tables(options: argparse.Namespace, tables: Mapping[str, str]) -> None:
    """Refuse, before the long work, tables by their option that would cost something."""
    from genre_utils.apps import catalogue

    if options.csv and options.csv == options.json:
        raise ValueError(f"--csv and --json are both {options.csv}: give each a name of its own.")
    inputs = dict.fromkeys(options.paths, "which is read")
    if options.list and options.list != "-":
        inputs[options.list] = "the list that is read"
    for option, file in tables.items():
        _check_output(option, file, inputs | _model_files(options))
    own = [catalogue.own_files([file]) for file in tables.values()]
    if len(own) == 2 and own[0] & own[1]:
        raise ValueError(
            f"--csv {options.csv} and --json {options.json} would be written over each other: "
            "give other names."
        )


def _check_posters(options: argparse.Namespace) -> None:
    """Refuse a command without posters, and a list that is no file of paths."""
    from genre_utils.images import is_picture
    from genre_utils.support import is_address

    name = options.list
    if not (options.paths or name):
        raise ValueError("predict needs a PATH, or --list with a file of paths.")
    if name in (None, "-"):
        return
    why = ""
    if os.path.isdir(name):
        why = ", a folder: give it without --list, or a file with a path a line."
    elif os.path.isfile(name) and is_picture(name):
        why = ", a picture: give it without --list, or a file with a path a line."
    elif not os.path.exists(name) and is_address(name):
        why = ", an internet address: download the list, and the pictures, first."
    elif not os.path.exists(name):
        why = ": there is no such file."
    if why:
        raise ValueError(f"--list is {name}{why}")


def _posters(options: argparse.Namespace) -> Iterator[str]:
    """Yield the paths of the command line, and those in a list without holding it in memory."""
    for path in options.paths:
        yield from _matching(path)
    if options.list:
        source = 0 if options.list == "-" else options.list
        with open(source, encoding=_encoding(source), errors="surrogateescape") as lines:
            yield from (line.rstrip("\r\n") for line in lines if line.strip())


def _encoding(source: str | int) -> str:
    """Return the encoding of a list: UTF-16, which PowerShell writes, or UTF-8."""
    start = b""
    if os.path.isfile(source):
        with open(source, "rb") as file:
            start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _matching(path: str) -> list[str]:
    """List what a pattern such as `*.png` stands for; not all shells do that, cmd.exe does not."""
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    return sorted(glob.glob(path, recursive=True)) or [path]


def _predict_on_ray(options: argparse.Namespace) -> int:
    _check_ray()
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
    _check_posters(options)
    how = options.parquet, _model(options), not options.no_text, options.ray_address
    predicted, bad = on_ray.predict(_posters(options), *how)
    print(
        f"{predicted} posters predicted, {bad} not (column error); the table is in "
        f"{options.parquet}"
    )
    return PREDICTED if predicted else NOTHING_PREDICTED


def _check_ray() -> None:
    if not all(map(importlib.util.find_spec, ("ray", "pyarrow"))):
        raise ValueError("--ray needs Ray: pip install 'poster-genres[ray]'.")


def _export(options: argparse.Namespace) -> int:
    machine.import_keras()
    from genre_utils import dataset, saved_model, sources
    from genre_utils.apps import export

    if options.convert:
        with only_writer(options.convert):
            export.convert_model(Path(options.convert))
        print(f"{options.convert} has format {export.FORMAT} now.")
        return PREDICTED
    folder = _writable_model(options)
    data = None
    if options.data or os.environ.get(sources.VARIABLE):
        data = dataset.load_dataset(sources.find_data(options.data))
    before = saved_model.load_model(folder)
    with only_writer(folder):
        if options.int8 and options.format == "onnx":
            pixels = None
            if data:
                paths = data.part("train")["path"]
                pixels = export.calibration_pixels(paths, before.image_size)
            export.to_int8(folder, pixels)
        for file in export.export_model(folder, options.format, options.int8):
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    if data:
        posters = data.part("validation")
        labels = posters.reindex(columns=before.genres, fill_value=0).to_numpy()
        after = export.load_exported(folder, options.format)
        cache = _known_words(options.words)
        lost = export.compare(before, after, posters["path"].tolist(), labels, cache)
        print(
            f"On {lost['posters']} validation posters, {lost['with_text']} of them with words, "
            f"macro mAP is {lost['after']:.4f}, and {lost['before']:.4f} before, a loss of "
            f"{lost['before'] - lost['after']:.4f}; two scores differ by "
            f"{lost['difference']:.4f} at most."
        )
    elif options.int8:
        print("What 8 bits cost is said where --data names posters with genres.", file=sys.stderr)
    return PREDICTED


def _evaluate(options: argparse.Namespace) -> int:
    if options.json and options.json != "-":
        words = options.words or str(WORDS_FILE)
        inputs = dict.fromkeys(filter(None, (options.data, options.ids, words)), "which is read")
        _check_output("--json", options.json, inputs | _model_files(options))
    with only_writer(options.json) if options.json not in (None, "-") else nullcontext():
        return _score(options)


def _score(options: argparse.Namespace) -> int:
    from genre_utils import apps, dataset, evaluation, sources
    from genre_utils.apps import catalogue
    from genre_utils.predictor import Predictor

    if options.no_text and options.words:
        raise ValueError("--words names words that --no-text leaves out: give only one of them.")
    if options.ids and not Path(options.ids).is_file():
        why = "it is no file" if Path(options.ids).exists() else "there is no such file"
        raise ValueError(f"--ids is {options.ids}: {why}. Give a file with an id a line.")
    cache = None if options.no_text else _known_words(options.words)
    source = sources.find_data(options.data)
    if options.json and options.json != "-":
        _check_output("--json", options.json, {str(source.csv): "the table that is read"})
    data = dataset.load_dataset(source)
    predictor = Predictor.load(_model(options), not options.no_text, cache)
    posters = _chosen(data, options.ids)
    chosen = len(posters)
    was_trained_on = predictor.model.was_trained_on
    known = posters["id"].isin(was_trained_on(posters["id"], posters["path"]))
    films = was_trained_on(data.imdb_ids.values())
    known |= posters["path"].map(data.imdb_ids).isin(films)
    trained_on, posters = posters["id"][known].tolist(), posters[~known]
    scores = predictor.predict_all(posters["path"].tolist())
    readable = scores["error"].isna().to_numpy()
    genres = [genre for genre in predictor.genres if genre in data.genres]
    left_out = {
        "trained_on": trained_on,
        "unreadable": posters["id"][~readable].tolist(),
        "genres_not_shared": sorted(set(predictor.genres) ^ set(data.genres)),
    }
    _say(data)
    for reason, names in left_out.items():
        if names:
            print(f"{LEFT_OUT[reason]}: {printable(', '.join(names))}", file=sys.stderr)
    print(UNKNOWN[bool(predictor.model.card["training_pictures"])], file=sys.stderr)
    which = "listed in --ids" if options.ids else "of the test set"
    print(
        f"{readable.sum()} of {chosen} posters {which} are scored; the data hold "
        f"{len(data.posters)}.",
        file=sys.stderr,
    )
    if not readable.any() or not genres:
        print("poster-genres: no poster is left to score.", file=sys.stderr)
        return NOTHING_PREDICTED
    labels = posters.loc[readable, genres].to_numpy()
    thresholds = [predictor.thresholds[predictor.genres.index(genre)] for genre in genres]
    probabilities, extra = scores.loc[readable, genres].to_numpy(), data.has_missing_column
    results = {"model": evaluation.evaluate(labels, probabilities, genres, thresholds, extra)}
    train = data.part("train")[genres].to_numpy()
    results |= evaluation.baselines(train, labels, genres, extra)
    if options.json:
        content = {"results": results, "left_out": left_out, "sample": data.source.is_sample}
        with catalogue.opened(options.json) as out:
            out.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if options.json != "-":
        print(apps.comparison(results).round(4).T.to_string())
    return PREDICTED


def _say(data: Any) -> None:
    """Print where the posters were found, and how much of what is wrong with their table."""
    print(data.source.how, file=sys.stderr)
    if summary := data.audit.summary():
        print(printable(summary), file=sys.stderr)


def _known_words(file: str | None) -> WordCache:
    """Open the words read before; a file that was named must be there."""
    if file and not Path(file).exists():
        raise ValueError(f"--words is {file}: there is no such file.")
    from genre_utils.ocr import WordCache

    return WordCache(file or WORDS_FILE)


def _read(options: argparse.Namespace) -> int:
    from genre_utils import dataset, ocr, sources

    file = Path(options.words or WORDS_FILE)
    check_writable(file.parent, f"--words {file}", WRITABLE.format(option="--words"))
    if options.ray or options.ray_address:
        _check_ray()
    source = sources.find_data(options.data)
    data = dataset.load_dataset(source)
    _say(data)
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
    return PREDICTED if done.lines else NOTHING_PREDICTED


def _app(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("The page needs Gradio: pip install 'poster-genres[app]'.")
    machine.import_keras()
    from genre_utils.apps import page
    from genre_utils.predictor import Predictor
    from genre_utils.saved_model import load_model

    # Scores come from ONNX Runtime: Keras compiles the text network anew for each length of text.
    predictor = Predictor.load(_model(options), not options.no_text)
    network = load_model(_model(options), has_text=False).network
    where = options.port, options.share, options.host
    page.launch(predictor, *where, wait=True, network=network)
    return PREDICTED


def _card(options: argparse.Namespace) -> int:
    from genre_utils.apps import write_model_card

    folder = _writable_model(options)
    with only_writer(folder):
        print(write_model_card(folder))
    return PREDICTED


def _chosen(data: Any, ids: str | None) -> pd.DataFrame:
    """Return the rows to score: those listed in a file of ids, in any spelling, or the test set."""
    from genre_utils.sources import normal_id

    if ids is None:
        return data.part("test")
    lines = Path(ids).read_text(_encoding(ids), "backslashreplace").splitlines()
    wanted = {normal_id(line): line.strip() for line in lines if line.strip()}
    ids = data.posters["id"].map(normal_id)
    unknown = sorted(line for poster, line in wanted.items() if poster not in set(ids))
    if unknown:
        named = printable(", ".join(unknown))
        print(f"left out, because they are not in the data: {named}", file=sys.stderr)
    return data.posters[ids.isin(wanted)]


def _model(options: argparse.Namespace) -> Path:
    from genre_utils.saved_model import RELEASED

    return Path(options.model) if options.model else RELEASED


def _model_files(options: argparse.Namespace) -> dict[str, str]:
    """Return the files of the model, and of its training, which no table may replace."""
    from genre_utils.saved_model import KNOWN_FILES

    names = (*KNOWN_FILES, "model.json", "metrics.json", "settings.json")
    return {str(_model(options) / name): "a file of the model" for name in names}


def _writable_model(options: argparse.Namespace) -> Path:
    """Return the folder of a model into which the command writes; a missing one is named later."""
    folder = _model(options)
    if folder.is_dir():
        advice = "copy it to where you may write, and name the copy by --model."
        check_writable(folder, str(folder), advice)
    return folder


def _check_output(option: str, file: str, inputs: Mapping[str, str]) -> None:
    """Fail before the long work, not after it; the sentence names the option that helps.

    `inputs` says of each path that the command reads what it is: nothing is written over them, nor
    over a picture, nor over a table that is not one of predictions.
    """
    from genre_utils.images import is_picture
    from genre_utils.sources import is_other_table

    folder, advice = Path(file).absolute().parent, WRITABLE.format(option=option)
    if Path(file).is_dir():
        raise ValueError(f"{option} {file} cannot be written: it is a folder. Name a file.")
    if not folder.is_dir():
        raise ValueError(
            f"{option} {file} cannot be written (there is no folder {folder}): {advice}"
        )
    check_writable(folder, f"{option} {file}", advice)
    known = {os.path.realpath(path): what for path, what in inputs.items()}
    what = known.get(os.path.realpath(file))
    if not what and os.path.isfile(file):
        what = is_picture(file) and "which is a picture"
        what = what or (is_other_table(Path(file)) and "which is a table of something else")
    if what:
        raise ValueError(f"{option} would write over {file}, {what}: give another name.")


if __name__ == "__main__":
    sys.exit(main())
