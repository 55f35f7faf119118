"""Write the tables of benchmarks/README.md from the rows in the result files.

    python benchmarks/report.py

Replaces what stands between the markers; a result that has no file is "not measured yet".
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
HEADS = ("what", "goal", "figure", "measured", "command")
# The result files of each table, in order; with a `*` those that there are.
TABLES = {
    "reading": ("reading-command", "reading-before", "reading-one"),
    "prediction": (
        *(f"prediction-{part}" for part in ("cold", "one_with_words", "one", "many", "before")),
        *("prediction-folder", "prediction-folder-small", "prediction-folder_with_words"),
        *("runtimes-litert", "runtimes-int8", "runtimes-avx2", "page", "on_ray"),
    ),
    "training": (
        *(f"notebooks-{name}" for name in ("explore", "train", "predict")),
        "finished",
        *("pipeline-cache", "pipeline-epoch", "pipeline-fine_tuning", "fine_tuning", "start"),
        *("pipeline-epoch-jax", "pipeline-epoch-torch", "memory", "memory-jax"),
        *("memory-torch", "memory-head", "memory-head-jax", "memory-head-torch"),
    ),
    "steps": ("steps-*",),
}


def main() -> None:
    """Replace everything between markers."""
    readme = FOLDER / "README.md"
    text = readme.read_text("utf-8")
    for name, content in sections().items():
        pattern = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
        text = pattern.sub(lambda _, content=content: content + "\n", text)
    readme.write_text(text, "utf-8")


def sections() -> dict[str, str]:
    """Return what stands between each pair of markers: the tables, and the machines."""
    tables = {name: "\n".join(_table(patterns)) for name, patterns in TABLES.items()}
    machines: dict[str, list[str]] = {}
    for patterns in TABLES.values():
        for file in (file for pattern in patterns for file in _files(pattern)):
            machine = ", ".join(f"{key} {value}" for key, value in _read(file)["machine"].items())
            machines.setdefault(machine, []).append(f"`{file.stem}`")
    lines = [f"- {', '.join(files)}: {machine}" for machine, files in machines.items()]
    return {**tables, "machines": "\n".join(lines)}


def _table(patterns: tuple[str, ...]) -> list[str]:
    rows = [HEADS, ["---"] * len(HEADS)]
    for pattern in patterns:
        files = _files(pattern)
        if not files and "*" not in pattern:
            rows.append((f"`{pattern}`", "", "not measured yet", "", ""))
        for result in map(_read, files):
            measured = f"{result['measured']}, version {result['version']}"
            for row in result["rows"]:
                command = f"`{row['command']}`"
                rows.append((row["what"], row["goal"], row["figure"], measured, command))
    return [f"| {' | '.join(row)} |" for row in rows]


def _files(pattern: str) -> list[Path]:
    return sorted(RESULTS.glob(f"{pattern}.json"))


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


if __name__ == "__main__":
    main()
