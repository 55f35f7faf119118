"""The commands that show, describe or export a model: `app`, `card` and `export`."""

import argparse
import importlib.util
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from genre_utils import dataset, machine, networks, saved_model, sources
from genre_utils.apps import write_model_card
from genre_utils.apps.commands import checks
from genre_utils.predictor import Predictor
from genre_utils.support import check_writable, only_writer


def app(options: argparse.Namespace) -> int:
    """Open a web page to drop posters on."""
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("The page needs Gradio: pip install '.[app]' in the repository.")
    networks.read_card(checks.model_folder(options))
    _check_place(options.host, options.port)
    machine.import_keras()
    from genre_utils.apps import page

    # Scores come from ONNX Runtime: Keras compiles the text network anew for each length of text.
    predictor = Predictor.load(checks.model_folder(options), not options.no_text)
    network = saved_model.load_model(checks.model_folder(options), has_text=False).network
    where = options.port, options.share, options.host
    page.launch(predictor, *where, wait=True, network=network)
    return checks.DONE


def _check_place(host: str, port: int) -> None:
    """Raise `ValueError` where no page can be opened, before the model is loaded for it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, TypeError) as error:  # the latter: no name of a host
        raise ValueError(
            f"The page cannot be opened at {host}, port {port} ({error}): close the page that is "
            "open there, or give another --host or --port."
        ) from None


def card(options: argparse.Namespace) -> int:
    """Write the model's card into its folder."""
    folder = _writable_model(options)
    with only_writer(folder):
        print(write_model_card(folder))
    return checks.DONE


def export(options: argparse.Namespace) -> int:
    """Write the model's networks as ONNX or LiteRT."""
    if options.convert:
        return _convert(options)
    kind = options.format or "onnx"
    folder = _writable_model(options)
    model_card = networks.read_card(folder)
    networks.check_card(model_card, ["genres"], folder)
    data = _scored_posters(options, model_card["genres"])
    machine.import_keras()
    from genre_utils.apps import export

    before = saved_model.load_model(folder)
    cache = checks.known_words(options.words) if data else None
    with only_writer(folder):
        if options.int8 and kind == "onnx":
            pixels = None
            if data:
                paths = data.part("train")["path"]
                pixels = export.calibration_pixels(paths, before.image_size)
            export.to_int8(folder, pixels)
        for file in export.export_model(folder, kind, options.int8):
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    if data:
        posters = data.part("validation")
        labels = posters.reindex(columns=before.genres, fill_value=0).to_numpy()
        after = export.load_exported(folder, kind)
        print(export.compare(before, after, posters["path"].tolist(), labels, cache))
    elif options.int8:
        print(
            "Give --data DIR, posters with genres, to see how much the 8 bits cost.",
            file=sys.stderr,
        )
    return checks.DONE


def _convert(options: argparse.Namespace) -> int:
    folder = Path(options.convert)
    if options.model or options.data or options.words or options.int8 or options.format:
        raise ValueError("--convert rewrites a folder and does nothing else: give it alone.")
    if not (folder / "model.json").is_file():
        raise ValueError(f"--convert is {folder}, which holds no model: there is no model.json.")
    machine.import_keras()
    from genre_utils.apps import export

    with only_writer(folder):
        export.convert_model(folder)
    print(f"{folder} has format {networks.FORMAT} now.")
    return checks.DONE


def _scored_posters(options: argparse.Namespace, genres: Sequence[str]) -> dataset.Dataset | None:
    """Return the posters that say what the export costs, before it begins; `None` if none are."""
    if not options.data:
        if options.words:
            raise ValueError("--words holds the words on the posters of --data: give --data, too.")
        return None
    data = dataset.load_dataset(sources.find_data(options.data))
    data.check_parts(("train", "validation"))
    shared = [genre for genre in genres if genre in data.genres]
    if not data.part("validation")[shared].to_numpy().any():
        raise ValueError(
            f"No validation poster of {data.source.folder} has a genre of the model, whose genres "
            f"are {', '.join(genres)}: give posters that have."
        )
    return data


def _writable_model(options: argparse.Namespace) -> Path:
    """Return the folder of a model into which the command writes; a missing one is named later."""
    folder = checks.model_folder(options)
    if folder.is_dir():
        advice = "copy it to where you may write, and name the copy by --model."
        check_writable(folder, str(folder), advice)
    return folder
