"""The command line: `python -m genre_utils predict poster.jpg`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from genre_utils import __version__
from genre_utils.apps import commands
from genre_utils.ocr import WORDS_FILE
from genre_utils.support import FULL, expand_user, printable

WRONG_USE, STOPPED = 2, 130
MORE = "COMMAND --help says more. A model is trained in notebooks/train.ipynb."

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
    if options.command is None:
        parser.print_help(sys.stderr)
        parser.exit(WRONG_USE, "\nposter-genres: give a COMMAND from the list above.\n")
    from genre_utils import machine  # `--help` need not wait for it

    if warning := machine.outdated():
        print(warning, file=sys.stderr)
    machine.share_heap()
    try:
        machine.choose_backend()
        return getattr(commands, options.command)(options)
    except (ValueError, OSError, ImportError) as error:  # of a disk, of a missing package
        text = str(error)
        if isinstance(error, OSError) and error.errno in FULL and not error.filename:
            text = f"the standard output cannot be written ({error.strerror})."
        lines = map(printable, text.splitlines())
        print("poster-genres:", "\n".join(lines), file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt as stop:
        print(f"poster-genres: {stop}" if str(stop) else "poster-genres: stopped.", file=sys.stderr)
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="poster-genres",
        description="Predict a film's genres from its poster: its picture and the words on it.",
        epilog=f"examples:{''.join(EXAMPLES.values())}\n\n{MORE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(command=None)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    predict = _command(verbs, "predict", "the top genres of posters")
    _path(predict, "paths", "picture, or folder of pictures", "PATH", nargs="*")
    _path(predict, "--list", "file with a path a line; - reads standard input")
    predict.add_argument("--top", type=int, default=3, help="genres a poster (default: 3)")
    _flag(predict, "--all-genres", "one row a poster, a column for every genre")
    _path(predict, "--csv", "write the table as CSV; - prints it")
    _path(predict, "--parquet", "folder for the result; needed with --ray", "DIR")

    evaluate = _command(verbs, "evaluate", "score the model on posters with known genres")
    _path(evaluate, "--data", "folder of posters, or CSV", "DIR", required=True)
    _path(evaluate, "--ids", "file with an id a line, to score (default: the test set)")
    _path(evaluate, "--words", f"words read before (default: {WORDS_FILE})")

    read = _command(verbs, "read", "read the words on the posters of a data set")
    _path(read, "--data", "folder of posters, or CSV", "DIR", required=True)
    _path(read, "--words", f"where they are kept (default: {WORDS_FILE})")
    _path(read, "--import", "take readings made elsewhere, from this file, first", dest="readings")
    _flag(read, "--anew", "read again what was read with other settings")

    app = _command(verbs, "app", "open a web page to drop posters on")
    app.add_argument("--port", type=_port, default=7860, help="(default: 7860)")
    app.add_argument(
        "--host", default="127.0.0.1", help="address to open at (default: this machine's own)"
    )
    _flag(app, "--share", "make a public link, through Gradio's servers")

    what = "write the model's card, MODEL_CARD.md, into its folder"
    card = _command(verbs, "card", what)

    export = _command(verbs, "export", "write the model's networks as ONNX or LiteRT")
    export.add_argument("--format", choices=("onnx", "litert"), help="(default: onnx)")
    _flag(
        export, "--int8", "8 bits: the model itself, or LiteRT files; with --data convolutions, too"
    )
    _path(export, "--convert", "rewrite a model of the format before", "DIR")
    _path(export, "--data", "posters that calibrate 8 bits, and are scored", "DIR")
    _path(export, "--words", f"their words (default: {WORDS_FILE})")

    for command in (predict, read):
        _flag(command, "--ray", "work on Ray, on all its machines")
        where = "address of a Ray cluster (default: start Ray here)"
        command.add_argument("--ray-address", metavar="ADDRESS", help=where)
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


def _command(verbs: Any, name: str, what: str) -> argparse.ArgumentParser:
    command = verbs.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"examples:{EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=name)
    return command


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
