"""Write the README's table of figures from the files that the trainings wrote.

    python benchmarks/readme.py

Reads `genre_utils/released/metrics.json` and the trainings that `record.py` kept, and replaces what
stands between the two markers in `README.md`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from genre_utils.evaluation import METRICS, paired_in_words

ROOT = Path(__file__).parent.parent
RELEASED = "efficientnet_lite0 and words, test"
FROZEN = "efficientnet_lite2 + efficientnet_lite0"
# name in the table, result file, system in it
OTHERS = (
    ("published CNN, 250 × 250", "seed_cnn.json", "seed_cnn"),
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
MARKERS = ("<!-- figures -->", "<!-- end of figures -->")


def main() -> None:
    """Replace the table in the README."""
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    pattern = re.compile(f"(?<={MARKERS[0]}\n).*?(?={MARKERS[1]})", re.DOTALL)
    readme.write_text(pattern.sub(lambda _: table(), text), "utf-8")


def table() -> str:
    """Return the table as Markdown: baselines, the published network, the parts, the whole."""
    released = read_results(ROOT / "genre_utils/released/metrics.json")
    rows = {name: released[f"{name}, test"] for name in ("all zeros", "genre prior")}
    for name, file, system in OTHERS:
        path = ROOT / "benchmarks/results" / file
        if path.exists():
            rows[name] = read_results(path)[f"{system}, test"]
    rows["picture alone"] = released["picture alone, test"]
    rows["words alone"] = released["words alone, test"]
    rows["**released model: both**"] = released[RELEASED]
    lines = [
        "| on the public test set | " + " | ".join(METRICS[key] for key in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, result in rows.items():
        cells = [_cell(result.get(key)) for key in COLUMNS]
        if interval := result.get("macro_map_interval"):
            cells[0] += f" ({interval[0]:.3f}–{interval[1]:.3f})"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _paired(), ""])


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
