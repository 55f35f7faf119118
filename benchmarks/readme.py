"""Write the README's table of figures from the files that the trainings wrote.

    python benchmarks/readme.py

Reads `genre_utils/released/metrics.json` and `benchmarks/results/seed_cnn.json` and replaces what
stands between the two markers in `README.md`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from genre_utils.evaluation import METRICS

ROOT = Path(__file__).parent.parent
MARKERS = ("<!-- figures -->", "<!-- end of figures -->")


def main() -> None:
    """Replace the table in the README."""
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    pattern = re.compile(f"(?<={MARKERS[0]}\n).*?(?={MARKERS[1]})", re.DOTALL)
    readme.write_text(pattern.sub(lambda _: table(), text), "utf-8")


def table() -> str:
    """Give the table as Markdown: baselines, the published network, the released model."""
    released = json.loads((ROOT / "genre_utils/released/metrics.json").read_text("utf-8"))
    results = released["results"]
    rows = {name: results[f"{name}, test"] for name in ("all zeros", "genre prior")}
    published = ROOT / "benchmarks/results/seed_cnn.json"
    if published.exists():
        seed = json.loads(published.read_text("utf-8"))
        rows["published CNN, 250 × 250"] = seed["results"]["seed_cnn, test"]
    rows["**released model**"] = results[f"{released['settings']['model']}, test"]
    lines = [
        "| on the public test set | " + " | ".join(METRICS.values()) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for name, result in rows.items():
        cells = [_cell(result.get(key)) for key in METRICS]
        if interval := result.get("macro_map_interval"):
            cells[0] += f" ({interval[0]:.3f}–{interval[1]:.3f})"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


if __name__ == "__main__":
    main()
