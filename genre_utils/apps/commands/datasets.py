"""The commands that work on a data set: `evaluate`, figures of a model, and `read`, its words."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from genre_utils import apps, dataset, evaluation, ocr, sources
from genre_utils.apps import batch_prediction
from genre_utils.apps.commands import checks
from genre_utils.predictor import Predictor
from genre_utils.support import check_writable, first_of, folder_of, only_writer, printable

LEFT_OUT = {
    "trained_on": "left out, because the model was trained on posters of these ids or files",
    "unreadable": "left out, because they cannot be read",
    "genres_not_shared": "genres left out, because only the model or only the data have them",
}

NAMED = 100  # unknown ids in a message

# Which training posters are not recognised, by whether `model.json` lists the training pictures.
UNKNOWN = {
    True: "training posters are recognised by their ids and by their files' bytes; a picture saved "
    "anew under another id, or a film of which only the title was learned, is scored.",
    False: "this model's model.json lists no training pictures: training posters are recognised by "
    "their ids only, and under another id they are scored.",
}


def evaluate(options: argparse.Namespace) -> int:
    """Score the model on posters with known genres."""
    if options.json and options.json != "-":
        words = options.words or str(ocr.WORDS_FILE)
        inputs = dict.fromkeys(filter(None, (options.data, options.ids, words)), "which is read")
        checks.check_output("--json", options.json, inputs | checks.model_files(options))
    with only_writer(options.json) if options.json not in (None, "-") else nullcontext():
        return _score(options)


def _score(options: argparse.Namespace) -> int:
    if options.no_text and options.words:
        raise ValueError("--words names words that --no-text leaves out: give only one of them.")
    if options.ids:
        checks.check_list("--ids", options.ids, "give a file with an id a line")
    cache = None if options.no_text else checks.known_words(options.words)
    source = sources.find_data(options.data)
    if options.json and options.json != "-":
        checks.check_output("--json", options.json, {str(source.csv): "the table that is read"})
    data = dataset.load_dataset(source)
    predictor = Predictor.load(checks.model_folder(options), not options.no_text, cache)
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
    _print_findings(data)
    for reason, names in left_out.items():
        if names:
            print(f"{LEFT_OUT[reason]}: {printable(', '.join(names))}", file=sys.stderr)
    print(UNKNOWN[bool(predictor.model.card["training_pictures"])], file=sys.stderr)
    which = "listed in --ids" if options.ids else "of the test set"
    scored = readable.sum() if genres else 0
    print(
        f"{scored} of {chosen} posters {which} are scored, on {len(genres)} of the model's "
        f"{len(predictor.genres)} genres; the data hold {len(data.posters)}.",
        file=sys.stderr,
    )
    if not scored:
        why = "" if genres else ": the model and the data have no genre in common"
        print(f"poster-genres: no poster is left to score{why}.", file=sys.stderr)
        return checks.NOTHING_DONE
    labels = posters.loc[readable, genres].to_numpy()
    thresholds = [predictor.thresholds[predictor.genres.index(genre)] for genre in genres]
    probabilities = scores.loc[readable, genres].to_numpy()
    # A poster without a genre of both may have one of the others.
    extra = data.has_missing_column and not left_out["genres_not_shared"]
    results = {"model": evaluation.evaluate(labels, probabilities, genres, thresholds, extra)}
    train = data.part("train")[genres].to_numpy()
    results |= evaluation.baselines(train, labels, genres, extra)
    if options.json:
        content = {"results": results, "left_out": left_out, "sample": data.source.is_sample}
        with batch_prediction.opened(options.json) as out:
            out.write(batch_prediction.to_json(content, options.json, indent=1) + "\n")
    if options.json != "-":
        print(apps.comparison(results).round(4).T.to_string())
    return checks.DONE


def _chosen(data: dataset.Dataset, ids: str | None) -> pd.DataFrame:
    """Return the rows to score: those listed in a file of ids, in any spelling, or the test set."""
    if ids is None:
        return data.part("test")
    lines = Path(ids).read_text(checks.encoding_of(ids), "backslashreplace").splitlines()
    written = {line.strip() for line in lines if line.strip()}
    posters, normal = data.posters["id"], data.posters["id"].map(sources.normal_id)
    # As it stands, an id may name a folder, which its other spellings leave out.
    wanted = {sources.normal_id(line): line for line in written.difference(posters)}
    unknown = sorted(wanted[poster] for poster in wanted.keys() - set(normal))
    if unknown:
        named = printable(first_of(unknown, NAMED))
        print(f"left out, because they are not in the data: {named}", file=sys.stderr)
    return data.posters[posters.isin(written) | normal.isin(wanted)]


def read(options: argparse.Namespace) -> int:
    """Read the words on the posters of a data set."""
    file = Path(options.words or ocr.WORDS_FILE)
    advice = checks.WRITABLE.format(option="--words")
    check_writable(folder_of(file), f"--words {file}", advice)
    if options.ray or options.ray_address:
        checks.check_ray()
    if options.readings:
        checks.check_list("--import", options.readings, "give a file of readings, a line a poster")
    data = dataset.load_dataset(sources.find_data(options.data))
    _print_findings(data)
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


def _print_findings(data: dataset.Dataset) -> None:
    """Print where the posters were found, and how much of what is wrong with their table."""
    print(data.source.description, file=sys.stderr)
    if summary := data.audit.summary():
        print(printable(summary), file=sys.stderr)
