"""The model card: what a saved model is, how good it is and what it is not for, from its own files.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genre_utils import networks
from genre_utils.evaluation import FEW_POSITIVES, METRICS
from genre_utils.support import replacing

CARD_FILE = "MODEL_CARD.md"
TEMPLATE = Path(__file__).with_suffix(".md")
SHOWN = ("macro_map", "micro_map", "top3_recall", "top1_hit", "macro_f1_tuned", "calibration_error")
# A genre with fewer test posters has a figure that another draw of posters would turn over.
RARE = 20

SAMPLE = (
    "**Trained on the drawn sample, posters that never existed: its scores mean nothing for real "
    "posters.**"
)
PUBLIC = (
    "Its genres are those of the public IMDb posters (W.-T. Chu and H.-J. Guo, *Movie Genre "
    "Classification based on Poster Images with Deep Neural Networks*, MUSA2 2017): films and "
    "series from about 1980 to 2015, most of them American."
)
FILMS = (
    "The picture model is the mean of two networks: one was fine-tuned on all training posters, "
    "the other on the public ones alone. The text models learned from the words on posters and "
    "from the titles, names and genres of {films:,} entries about films: `README.md` and `NOTICE` "
    "name the tables. No film of the public test posters was among them, nor of the 591 fixed "
    "validation posters. A few decisions were made when test figures were known: `README.md`, "
    '"How good is it?", lists them.'
)
JOINT = (
    " Each network of the picture has a second head, trained on the features of all training "
    "posters. A joint head, on the features of picture and words, was trained with the text model. "
    "The score is a logistic regression on the logits of picture, text model, n-grams and joint "
    "head."
)
OWN = "It was trained on posters of its maker's own, of which this is known: {known}."
STARTED = (
    " Parts of it began as those of the released model, which had learned from {others:,} other "
    "posters and films."
)


def write_model_card(folder: Path) -> Path:
    """Write `MODEL_CARD.md` into a model's folder; returns its path.

    Raises `DataError` where there is no model.
    """
    text = model_card(folder)
    file = Path(folder) / CARD_FILE
    with replacing(file) as temporary:
        temporary.write_text(text, "utf-8")
    return file


def model_card(folder: Path) -> str:
    """Return the card as Markdown, from `model.json` and, where it is there, `metrics.json`.

    The second adds the figures genre by genre. What was not measured is said to be missing.
    """
    folder = Path(folder)
    card, file = networks.read_card(folder), folder / "metrics.json"
    measured = networks.read_json(file) if file.exists() else {"results": {}}
    with networks.naming(folder, "has files from which no card can be written"):
        training, (height, width) = card["training"], card["image_size"]
        text = TEMPLATE.read_text("utf-8").format(
            title=_title(training),
            height=height,
            width=width,
            reads="reads its words" if training.get("read_text") else "does not read its words",
            n_genres=len(card["genres"]),
            genres=", ".join(map(_plain, card["genres"])),
            trained_with=_trained_with(training, _has_backbone(folder / "picture.json")),
            origin=_origin(card),
            posters=_posters(card),
            last_fit=_last_fit(training),
            figures=_figures(card["metrics"]),
            limits=_limits(card, _per_genre(measured["results"])),
        )
    return re.sub(r" *\n{2,}", "\n\n", text)  # a title or paragraph may be empty


def _title(training: Mapping[str, Any]) -> str:
    networks = [name for name in (training.get("model"), training.get("second_model")) if name]
    return " + ".join(networks) + (" and words" if training.get("read_text") else "")


def _has_backbone(config: Path) -> bool:
    return not config.exists() or '"backbone"' in config.read_text("utf-8")


def _trained_with(training: dict[str, Any], has_backbone: bool) -> str:
    loss = training.get("loss")
    training = training | {"loss": loss.get("name") if isinstance(loss, dict) else None}
    reads = bool(training.get("read_text"))
    names = ["start"] * has_backbone + ["encoder"] * reads  # nothing else is pretrained
    names += ["loss", "epochs", *["word_epochs"] * reads, "batch_size", "seed"]
    known = {name: training[name] for name in names if training.get(name) is not None}
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items())
    return f"Trained with {settings}." if settings else ""


def _origin(card: Mapping[str, Any]) -> str:
    training = card["training"]
    others = len(card["training_ids"]) - _learned_from(card)
    began = STARTED.format(others=others) if others else ""
    if training.get("sample"):
        return SAMPLE + began
    if training.get("films"):
        joint = JOINT if "joint" in card["sums"] else ""
        return f"{PUBLIC} {FILMS.format(films=training['films'])}{joint}"
    return (PUBLIC if training.get("public") else OWN.format(known=_known(card))) + began


def _learned_from(card: Mapping[str, Any]) -> int:
    return card["training"].get("posters", len(card["training_ids"]))


def _posters(card: Mapping[str, Any]) -> str:
    posters = [f"{_learned_from(card):,} for training"]
    for split in ("validation", "test"):
        found = [r["posters"] for name, r in card["metrics"].items() if name.endswith(f", {split}")]
        posters += [f"{found[0]:,} for {split}"] if found else []
    return ", ".join(posters)


def _known(card: Mapping[str, Any]) -> str:
    """Say what a card knows of posters that are nobody else's: genres, and the pictures' size."""
    counts = card["training"].get("posters_of") or {}
    genres = [f"{name} on {counts[name]}" if name in counts else name for name in card["genres"]]
    size = card["training"].get("size")
    pictures = f"; pictures of about {size[0]} × {size[1]} pixels (height × width)" if size else ""
    return f"their genres ({', '.join(map(_plain, genres))}){pictures}"


def _last_fit(training: Mapping[str, Any]) -> str:
    if not training.get("last_fit"):
        return ""
    parts = ["the picture's networks"] if training.get("epochs") else []
    parts += ["the text models"] if training.get("read_text") else []
    return (
        f" After that, {' and '.join(parts)} were trained again on the training and the validation "
        "posters, which are counted together above."
    )


def _figures(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not metrics:
        return "Not measured."
    rows = [["system, posters", *(METRICS[key] for key in SHOWN)]]
    for name, result in metrics.items():
        cells = [_cell(result.get(key)) for key in SHOWN]
        if interval := result.get("macro_map_interval"):
            cells[0] += f" ({interval[0]:.3f}–{interval[1]:.3f})"
        rows.append([name, *cells])
    return (
        f"{_table(rows)}\n\nIn brackets: 95 % bootstrap intervals. Macro mAP is the mean average "
        f"precision of the genres on {FEW_POSITIVES} or more posters. *All zeros* and *genre "
        "prior* are baselines that see no poster."
    )


def _limits(card: Mapping[str, Any], genres: Mapping[str, Mapping[str, Any]]) -> str:
    limits = [
        "Posters unlike those of its training may be predicted wrongly, drawn ones among them."
    ]
    if card["training"].get("read_text"):
        limits.append(
            "Words are read best in Latin letters and understood best in English; names that stood "
            "on no training poster tell it nothing."
        )
    rare = [genre for genre, figures in genres.items() if figures["support"] < RARE]
    if rare:
        names = ", ".join(map(_plain, rare))
        limits.append(f"Fewer than {RARE} test posters, so hardly measured: {names}.")
    text = "\n".join(f"- {limit}" for limit in limits)
    return text + (f"\n\n{_genre_table(genres)}" if genres else "")


def _genre_table(genres: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["genre", "test posters", "average precision", "95 % interval"]]
    for genre, figures in genres.items():
        low, high = figures.get("interval") or (None, None)
        interval = f"{low:.3f}–{high:.3f}" if low is not None else ""
        precision = _cell(figures["average_precision"])
        rows.append([genre, str(figures["support"]), precision, interval])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = head, ["---"] * len(head), *body
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in lines)


def _plain(name: str) -> str:
    """Write a name so that it parts no table of Markdown, and is no HTML."""
    return name.replace("|", "\\|").replace("<", "&lt;")


def _per_genre(results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return the genres' figures of the whole model on test, which stand first of all on test."""
    tests = [result["per_genre"] for name, result in results.items() if name.endswith(", test")]
    return tests[0] if tests else {}


def _cell(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"
