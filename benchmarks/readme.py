"""Write the README's figures from the files that the trainings wrote, and its lines of code.

    python benchmarks/readme.py

Reads `genre_utils/released/metrics.json`, the trainings that `record.py` kept, the scores that
`tools/release/ablations.py` wrote and the files of the short path, and replaces what stands
between the markers in `README.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from genre_utils.apps import paired_in_words
from genre_utils.evaluation import METRICS

ROOT = Path(__file__).parent.parent
BOTH = " and words, test"  # the end of the released model's name among its results
FROZEN = "efficientnet_lite2 + efficientnet_lite0"
# name in the table, result file, system in it
OTHERS = (
    ("seed CNN, 250 × 250", "seed_cnn.json", "seed_cnn"),
    ("picture alone, frozen networks", "frozen.json", FROZEN),
)
COLUMNS = (
    "macro_map",
    "macro_map_all",
    "micro_map",
    "macro_roc_auc",
    "top3_recall",
    "top1_hit",
    "macro_f1_tuned",
    "calibration_error",
    "calibration_error_top3",
    "element_accuracy",
)
ABLATION_COLUMNS = (
    *("macro_map", "micro_map", "macro_roc_auc", "top3_recall", "top1_hit"),
    *("calibration_error", "calibration_error_top3"),
)
# What to read to change the model, in this order.
SHORT_PATH = {
    "genre_utils/batches.py": "what a network is shown: pixels, crops, texts",
    "genre_utils/models.py": "the networks, and what fine-tuning leaves frozen",
    "genre_utils/training.py": "optimizer, heads, the validation score",
    "genre_utils/fusion.py": "how picture and words become one score",
    "notebooks/train.py": "the story: `compile`, `fit`, report, saved model",
}


def main() -> None:
    """Replace everything between markers."""
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    for name, content in sections().items():
        pattern = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
        text = pattern.sub(lambda _, content=content: content + "\n", text)
    readme.write_text(text, "utf-8")


def sections() -> dict[str, str]:
    """Return what stands between each pair of markers."""
    return {
        "figures": figures(),
        "ablations": ablations("ablations-joint"),
        "ablations of the networks": ablations("ablations", "release without a joint head"),
        "short path": short_path(),
    }


def short_path() -> str:
    """Return the files to read to change the model, with the number of their lines."""
    lines = ["| file | lines | what stands there |", "|---|---|---|"]
    for file, what in SHORT_PATH.items():
        count = len((ROOT / file).read_text("utf-8").splitlines())
        lines.append(f"| [`{file}`]({file}) | {count} | {what} |")
    return "\n".join(lines)


def figures() -> str:
    """Return the table of figures: baselines, the seed CNN, the parts, the whole."""
    released = read_results(ROOT / "genre_utils/released/metrics.json")
    rows = {name: released[f"{name}, test"] for name in ("all zeros", "genre prior")}
    for name, file, system in OTHERS:
        path = ROOT / "benchmarks/results" / file
        if path.exists():
            rows[name] = read_results(path)[f"{system}, test"]
    rows["picture alone"] = released["picture alone, test"]
    rows["words alone"] = released["words alone, test"]
    (both,) = (name for name in released if name.endswith(BOTH))
    rows["**released model: both**"] = released[both]
    return "\n".join([*_table(rows, COLUMNS), "", _paired()])


def ablations(name: str, whole: str = "released model") -> str:
    """Return the table of models that lack something, and how sure the difference is.

    `whole` is what the model that lacks nothing, the released one then, is called now.
    """
    file = ROOT / f"benchmarks/results/{name}.json"
    if not file.exists():
        return "Not measured yet."
    content = json.loads(file.read_text("utf-8"))
    rows = {key.replace("released model", whole): r for key, r in content["results"].items()}
    lines = _table(rows, ABLATION_COLUMNS)
    lines[0] += f" the {whole} is better in |"
    lines[1] += "---|"
    for i, name in enumerate(content["results"], start=2):
        lines[i] += f" {_difference(content['pairs'].get(name))} |"
    return "\n".join(lines)


def _table(results: Mapping[str, dict], columns: Sequence[str]) -> list[str]:
    lines = [
        "| on the public test set | " + " | ".join(METRICS[key] for key in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, result in results.items():
        cells = [_cell(result.get(key)) for key in columns]
        if interval := result.get("macro_map_interval"):
            cells[0] += f" ({interval[0]:.3f}–{interval[1]:.3f})"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _difference(pair: dict | None) -> str:
    if pair is None:
        return ""
    low, high = pair["interval"]
    return f"{pair['share']:.1%} of draws, by {pair['difference']:.3f} ({low:+.3f} to {high:+.3f})"


def read_results(file: Path) -> dict:
    """Read the figures of every system in a file that a training wrote."""
    return json.loads(file.read_text("utf-8"))["results"]


def _paired() -> str:
    file = ROOT / "genre_utils/released/metrics.json"
    paired = json.loads(file.read_text("utf-8"))["both against picture alone"]
    return paired_in_words(paired, "the model with words", "its picture alone")


def _cell(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


if __name__ == "__main__":
    main()
