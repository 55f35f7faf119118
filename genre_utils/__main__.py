"""The command line: `python -m genre_utils predict poster.jpg`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from genre_utils import __version__, environment
from genre_utils.files import as_csv, make_writable, replacing
from genre_utils.reading import WORDS_FILE

if TYPE_CHECKING:
    from genre_utils.predictor import Prediction

PREDICTED, NOTHING_PREDICTED, WRONG_USE, STOPPED = 0, 1, 2, 130

LEFT_OUT = {
    "trained_on": "left out, because the model was trained on them",
    "unreadable": "left out, because they cannot be read",
    "genres_not_shared": "genres left out, because only the model or only the data have them",
}

EXAMPLES = {
    "predict": """
  python -m genre_utils predict poster.jpg
  python -m genre_utils predict posters/ --csv genres.csv --no-text
  python -m genre_utils predict posters/ --all-genres --json - --model outputs/model""",
    "evaluate": """
  python -m genre_utils evaluate --data data/
  python -m genre_utils evaluate --data data/ --model outputs/model --json metrics.json""",
    "read": """
  python -m genre_utils read --data data/
  python -m genre_utils read --data data/ --import readings.jsonl.gz""",
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
    options = _parser().parse_args(arguments)
    environment.choose_backend()
    try:
        return options.run(options)
    except (ValueError, OSError) as error:  # DataError, ModelError and what a disk says
        print(f"poster-genres: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("poster-genres: stopped.", file=sys.stderr)
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="poster-genres",
        description="Which genres does this movie have, judging by its poster alone?",
        epilog="examples:" + "".join(EXAMPLES.values()) + "\n\nCOMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    predict = _command(commands, "predict", "the top genres of posters")
    predict.add_argument("paths", nargs="+", metavar="PATH", help="picture, or folder of pictures")
    predict.add_argument("--top", type=int, default=3, help="genres a poster (default: 3)")
    predict.add_argument(
        "--all-genres", action="store_true", help="one row a poster, a column for every genre"
    )
    predict.add_argument("--csv", metavar="FILE", help="write the table as CSV; - prints it")
    predict.set_defaults(run=_predict)

    evaluate = _command(commands, "evaluate", "score the model on posters with known genres")
    evaluate.add_argument("--data", required=True, metavar="DIR", help="folder of posters, or CSV")
    evaluate.add_argument("--ids", metavar="FILE", help="ids to score (default: the test set)")
    evaluate.add_argument(
        "--words", metavar="FILE", help=f"words read before (default: {WORDS_FILE})"
    )
    evaluate.set_defaults(run=_evaluate)

    read = _command(commands, "read", "read the words on the posters of a data set")
    read.add_argument("--data", required=True, metavar="DIR", help="folder of posters, or CSV")
    read.add_argument(
        "--words", metavar="FILE", help=f"where they are kept (default: {WORDS_FILE})"
    )
    read.add_argument(
        "--import", metavar="FILE", dest="readings", help="take readings made elsewhere first"
    )
    read.set_defaults(run=_read)

    app = _command(commands, "app", "open a web page to drop posters on")
    app.add_argument("--port", type=int, default=7860, help="(default: 7860)")
    app.add_argument(
        "--host", default="127.0.0.1", help="address to open at (default: this machine's own)"
    )
    app.add_argument(
        "--share", action="store_true", help="make a public link, through Gradio's servers"
    )
    app.set_defaults(run=_app)

    card = _command(commands, "card", "write the model's card, MODEL_CARD.md, into its folder")
    card.set_defaults(run=_card)

    for command in (predict, evaluate, app, card):
        command.add_argument("--model", metavar="DIR", help="model folder (default: the released)")
    for command in (predict, evaluate, app):
        command.add_argument(
            "--no-text", action="store_true", help="judge the picture alone, which is faster"
        )
    for command in (predict, evaluate):
        command.add_argument("--json", metavar="FILE", help="write JSON; - prints it")
    return parser


def _command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"examples:{EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _predict(options: argparse.Namespace) -> int:
    environment.import_keras()
    from genre_utils.predictor import Predictor

    if options.top < 1:
        raise ValueError(f"--top is {options.top}: give 1 or more.")
    for file in (options.csv, options.json):
        _check_writable(file)
    predictor = Predictor.load(_model(options), not options.no_text)
    done, stopped = _until_stopped(predictor.stream(options.paths))
    if options.all_genres:
        table = predictor.full_table(done)
    else:
        table = predictor.top_table(done, options.top)
    bad = table[table["error"].notna()]
    for name, error in zip(bad["poster"], bad["error"], strict=True):
        print(f"not predicted: {name}: {error}", file=sys.stderr)
    if options.csv:
        _write(options.csv, as_csv(table))
    if options.json:
        _write(options.json, table.to_json(orient="records", indent=1, force_ascii=False) + "\n")
    if not (options.csv or options.json):
        shown = table[table["error"].isna()].drop(columns="error")
        print(shown.round(3).to_string(index=False) if len(shown) else "no poster was predicted")
    if stopped:
        print(f"poster-genres: stopped; predicted by then: {len(done)}.", file=sys.stderr)
        return STOPPED
    return PREDICTED if len(bad) < table["poster"].size else NOTHING_PREDICTED


def _until_stopped(predictions: Iterator[Prediction]) -> tuple[list[Prediction], bool]:
    """Collect predictions to their end or until Ctrl-C; says which of them it was."""
    done = []
    try:
        for prediction in predictions:
            done.append(prediction)
    except KeyboardInterrupt:
        return done, True
    return done, False


def _evaluate(options: argparse.Namespace) -> int:
    environment.import_keras()
    from genre_utils import dataset, evaluation, sources
    from genre_utils.predictor import Predictor
    from genre_utils.reading import WordCache

    _check_writable(options.json)
    data = dataset.load_dataset(sources.find_data(options.data))
    cache = None if options.no_text else WordCache(options.words or WORDS_FILE)
    predictor = Predictor.load(_model(options), not options.no_text, cache)
    posters = _chosen(data, options.ids)
    known = predictor.model.was_trained_on(posters["id"])
    posters = posters[~posters["id"].isin(known)]
    scores = predictor.predict_all(posters["path"].tolist())
    readable = scores["error"].isna().to_numpy()
    genres = [genre for genre in predictor.genres if genre in data.genres]
    left_out = {
        "trained_on": known,
        "unreadable": posters["id"][~readable].tolist(),
        "genres_not_shared": sorted(set(predictor.genres) ^ set(data.genres)),
    }
    print(data.source.how, file=sys.stderr)
    for reason, names in left_out.items():
        if names:
            print(f"{LEFT_OUT[reason]}: {', '.join(names)}", file=sys.stderr)
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
        _write(options.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if options.json != "-":
        print(evaluation.comparison(results).round(4).T.to_string())
    return PREDICTED


def _read(options: argparse.Namespace) -> int:
    from genre_utils import dataset, reading, sources

    file = Path(options.words or WORDS_FILE)
    make_writable(file.parent)
    source = sources.find_data(options.data)
    print(source.how, file=sys.stderr)
    posters = dataset.load_dataset(source).posters
    cache = reading.WordCache(file)
    if options.readings:
        paths = dict(zip(posters["id"], posters["path"], strict=True))
        taken = reading.import_readings(options.readings, paths, cache)
        print(f"{taken} readings were new in {options.readings}")
    done = reading.read_posters(posters["path"].tolist(), cache)
    for path, reason in done.unreadable.items():
        print(f"not read: {Path(path).name}: {reason}", file=sys.stderr)
    print(
        f"{len(posters)} posters: {done.new} read now, {len(done.lines) - done.new} read before, "
        f"{len(done.unreadable)} cannot be read; the words are in {file}"
    )
    return PREDICTED if done.lines else NOTHING_PREDICTED


def _app(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("The page needs Gradio: pip install 'poster-genres[app]'.")
    environment.import_keras()
    from genre_utils import app
    from genre_utils.predictor import Predictor

    predictor = Predictor.load(_model(options), not options.no_text)
    app.launch(predictor, options.port, options.share, options.host, wait=True)
    return PREDICTED


def _card(options: argparse.Namespace) -> int:
    environment.import_keras()
    from genre_utils.model_card import write_model_card

    print(write_model_card(_model(options)))
    return PREDICTED


def _chosen(data: Any, ids: str | None) -> pd.DataFrame:
    """Give the rows to score: those listed in a file of ids, or the test set."""
    if ids is None:
        return data.part("test")
    lines = Path(ids).read_text("utf-8-sig").splitlines()
    wanted = [line.strip() for line in lines if line.strip()]
    unknown = sorted(set(wanted) - set(data.posters["id"]))
    if unknown:
        print(f"left out, because they are not in the data: {', '.join(unknown)}", file=sys.stderr)
    return data.posters[data.posters["id"].isin(wanted)]


def _model(options: argparse.Namespace) -> Path:
    from genre_utils.model_folder import RELEASED

    return Path(options.model) if options.model else RELEASED


def _check_writable(file: str | None) -> None:
    """Fail before the long work, not after it."""
    if file is None or file == "-":
        return
    folder = Path(file).absolute().parent
    if Path(file).is_dir():
        raise ValueError(f"{file} cannot be written: it is a folder.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{file} cannot be written: {folder} is no folder you may write to.")


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
        return
    with replacing(Path(file)) as temporary:
        temporary.write_text(text, "utf-8", newline="")


if __name__ == "__main__":
    sys.exit(main())
