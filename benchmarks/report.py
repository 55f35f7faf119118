"""Write the tables of benchmarks/README.md from the result files.

    python benchmarks/report.py

Replaces what stands between the markers; what has no result file is "not measured yet".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
NOT_MEASURED = "not measured yet"


class Row(NamedTuple):
    """One line of the speed table: `figure` makes its text from the script's result file.

    What stands after a `-` in `script` tells one result of a script from another.
    """

    what: str
    script: str
    goal: str
    figure: Callable[[dict[str, Any]], str]
    options: str = ""


def beside(side: str) -> Callable[[dict[str, Any]], str]:
    """Give the speed of filling the cache beside another way, in per cent or as a multiple."""

    def figure(result: dict[str, Any]) -> str:
        cache = result["cache"]
        if side not in cache["speed_beside"]:
            return "simplejpeg was not installed"
        ours, other = (round(cache["posters_a_second"][name]) for name in ("fill_cache", side))
        return f"{cache['speed_beside'][side]:.2f} × ({ours} and {other} posters/s)"

    return figure


def epoch(part: str) -> Callable[[dict[str, Any]], str]:
    """Give how much longer steps on posters take than steps on one batch in memory."""

    def figure(result: dict[str, Any]) -> str:
        if part not in result:
            return NOT_MEASURED
        measured = result[part]
        alone = 100 * measured["share_of_batches_alone"]
        return (
            f"{100 * (measured['ratio'] - 1):+.1f} % over {measured['steps']} steps "
            f"(making the batches alone: {alone:.1f} %)"
        )

    return figure


def pipeline_memory(side: int) -> Callable[[dict[str, Any]], str]:
    """Give the pipeline's memory at one picture size for each amount of data."""

    def figure(result: dict[str, Any]) -> str:
        rows = [row for row in result["rows"] if row["side"] == side]
        figures = ", ".join(f"{row['times']} ×: {row['pipeline_mb']} MB" for row in rows)
        return f"{figures} (1 × is {result['posters']} posters)"

    return figure


def largest_process(result: dict[str, Any]) -> str:
    """Give the highest total of all the children that trained the published network."""
    return f"{max(row['fed_mb']['total'] for row in result['rows']) / 1000:.2f} GB"


def warm(part: str) -> Callable[[dict[str, Any]], str]:
    """Give the time of a warm prediction beside the network's own."""

    def figure(result: dict[str, Any]) -> str:
        one = result[part]
        speed = f"{one['posters_a_second']:.0f} posters/s"
        return f"{one['ratio']:.2f} × ({one['milliseconds']:.0f} ms, {speed})"

    return figure


def learning(result: dict[str, Any]) -> str:
    """Give, for each network measured, its time to the published network's score."""
    return "; ".join(
        f"{row['model']} at {row['size'][0]} × {row['size'][1]}: {row['share_of_seed_cnn']:.3f} "
        f"({row['seconds']:.0f} s of {result['seed_cnn_seconds']:.0f} s, {row['posters']} posters; "
        f"test macro mAP then {row['test']:.3f})"
        for row in result["rows"]
    )


def read_speed(result: dict[str, Any]) -> str:
    """Give how fast words are read on all cores beside RapidOCR one by one."""
    many = result["many"]
    ours, theirs = (many["posters_a_second"][side] for side in ("read_posters", "one_by_one"))
    return f"{many['speed_beside_one_by_one']:.2f} × ({ours:.2f} and {theirs:.2f} posters/s)"


def read_one(result: dict[str, Any]) -> str:
    """Give the time of one warm reading, as posters are and of larger copies."""
    seconds = result["one"]["seconds"]
    return (
        f"{seconds['as_they_are']['median']:.2f} s; {result['one']['times_as_wide']} times as wide "
        f"{seconds['larger']['median']:.2f} s"
    )


def cold(result: dict[str, Any]) -> str:
    """Give the time of the whole process that predicts one poster."""
    figures = result["cold"]
    seconds = f"{figures['seconds']:.1f} s and {figures['bare_seconds']:.1f} s"
    return f"{figures['ratio']:.2f} × ({seconds})"


def runtimes(size: str) -> Callable[[dict[str, Any]], str]:
    """Give the time of ONNX beside LiteRT for so many posters at once."""

    def figure(result: dict[str, Any]) -> str:
        found = result["speed"][size]
        return f"{found['ratio']:.2f} × ({found['onnx']:.0f} and {found['litert']:.0f} ms a poster)"

    return figure


def page_memory(result: dict[str, Any]) -> str:
    """Give how the memory of the page grew from the first posters noted to the last."""
    first, last = result["rows"][0], result["rows"][-1]
    return (
        f"{100 * result['grown']:+.1f} % ({first['megabytes']} MB after {first['posters']} "
        f"posters, {last['megabytes']} MB after {last['posters']})"
    )


def rounding(result: dict[str, Any]) -> str:
    """Give the macro mAP before and after the weights are rounded to 8 bits."""
    loss = result["loss"]
    return (
        f"{loss['before'] - loss['after']:.4f} ({loss['before']:.4f} to {loss['after']:.4f}, "
        f"{loss['posters']} validation posters, learned from; two scores differ by "
        f"{loss['difference']:.3f} at most)"
    )


def catalogue(part: str) -> Callable[[dict[str, Any]], str]:
    """Give the speed of a catalogue beside its limit, and the command's memory as it goes on."""

    def figure(result: dict[str, Any]) -> str:
        if part not in result:
            return NOT_MEASURED
        found = result[part]
        memory = ", ".join(map(str, found["megabytes"]))
        return (
            f"{found['share']:.2f} × ({found['posters_a_second']:.1f} posters/s, "
            f"{found['posters']} posters; {memory} MB in each quarter)"
        )

    return figure


SPEED = (
    Row(
        "Filling the pixel cache beside Pillow on all cores, speed",
        "pipeline",
        "≥ 0.90 ×",
        beside("pillow_all_cores"),
    ),
    Row("… beside Pillow on one thread", "pipeline", "≥ 1.8 ×", beside("pillow_one_thread")),
    Row(
        "… beside libjpeg-turbo that decodes only, all cores",
        "pipeline",
        "—",
        beside("libjpeg_turbo_all_cores"),
    ),
    Row(
        "An epoch of the published network at 128 × 128 beside a constant batch, time",
        "pipeline",
        "within 3 %",
        epoch("epoch"),
    ),
    Row(
        "… fine-tuning EfficientNet-Lite2 at 400 × 272 with augmentation",
        "pipeline",
        "—",
        epoch("fine_tuning"),
    ),
    Row(
        "The pipeline's anonymous memory at 250 × 250, by amount of data",
        "memory",
        "≤ 300 MB, flat",
        pipeline_memory(250),
    ),
    Row("… at 400 × 400", "memory", "≤ 300 MB, flat", pipeline_memory(400)),
    Row("Whole process that trains the published network", "memory", "< 2.5 GB", largest_process),
    Row(
        "Whole process that computes frozen features and trains the head, 400 × 400",
        "memory",
        "< 2.5 GB",
        lambda result: f"{result['frozen_features_mb']['total'] / 1000:.2f} GB",
    ),
    Row(
        "One poster by a cold command, picture alone, beside importing Keras and a network, time",
        "prediction",
        "≤ 0.25 ×, < 1 s",
        cold,
    ),
    Row(
        "One poster by a cold command, its words read too",
        "prediction",
        "≤ 4 s",
        lambda result: f"{result['cold']['with_words_seconds']:.1f} s",
    ),
    Row(
        "One poster warm, its words read too, median",
        "prediction",
        "< 1 s",
        lambda result: f"{result['one_with_words']['median']:.2f} s",
    ),
    Row(
        "One poster warm, picture alone, beside the network alone, time",
        "prediction",
        "—",
        warm("one"),
    ),
    Row(
        "Many posters warm, picture alone, beside the network alone, time",
        "prediction",
        "—",
        warm("many"),
    ),
    Row("ONNX beside LiteRT, one poster, time", "runtimes", "—", runtimes("1")),
    Row("… four posters at once", "runtimes", "—", runtimes("4")),
    Row(
        "What the released ONNX files lose beside Keras, macro mAP; scores",
        "runtimes",
        "≤ 0.01 in a score",
        rounding,
    ),
    Row(
        "A catalogue, picture alone, beside the network's own batches, speed",
        "prediction",
        "≥ 0.90 ×, flat",
        catalogue("catalogue"),
    ),
    Row(
        "… of 100,000, with a network of 96 × 64 pixels that decoding outweighs",
        "prediction-small",
        "flat",
        catalogue("catalogue"),
        " --only catalogue --catalogue 100000 --model outputs/small",
    ),
    Row(
        "… with words, beside the speed of reading them",
        "prediction",
        "≥ 0.90 ×",
        catalogue("worded"),
    ),
    Row(
        "The same posters on Ray on this machine, beside the plain command, time",
        "on_ray",
        "—",
        lambda result: (
            f"{result['ratio']:.2f} × ({result['seconds']['ray']:.0f} s and "
            f"{result['seconds']['plain']:.0f} s, {result['posters']} posters, picture alone)"
        ),
    ),
    Row(
        "Reading the words on all cores beside RapidOCR one by one, speed",
        "reading",
        "≥ 1.8 posters/s",
        read_speed,
    ),
    Row(
        "Memory of the process that reads, at its peak",
        "reading",
        "< 1.5 GB",
        lambda result: f"{result['many']['peak_mb']['read_posters'] / 1000:.2f} GB",
    ),
    Row("One poster's words, warm, median", "reading", "< 1 s", read_one),
    Row("Memory of the page as posters are dropped on it", "page", "≤ +5 %", page_memory),
    Row(
        "Time to the published network's validation macro mAP beside its whole training",
        "learning_speed",
        "≤ 0.1",
        learning,
    ),
)


def main() -> None:
    """Replace everything between markers."""
    readme = FOLDER / "README.md"
    text = readme.read_text("utf-8")
    for name, content in sections().items():
        pattern = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
        text = pattern.sub(lambda _, content=content: content + "\n", text)
    readme.write_text(text, "utf-8")


def sections() -> dict[str, str]:
    """Give what stands between each pair of markers."""
    return {
        "speed": speed(),
        "machines": machines(),
        "backends": backends(),
        "steps": steps(),
        "picture size": picture_size(),
        "pooled stages": pooled_stages(),
        "towers": towers(),
    }


def speed() -> str:
    """Give the table of speed and memory as Markdown."""
    rows = []
    for what, script, goal, figure, options in SPEED:
        result = read_result(script)
        command = f"`python benchmarks/{script.split('-')[0]}.py{options}`"
        rows.append((what, command, goal, figure(result) if result else NOT_MEASURED))
    return table(("what", "command", "goal", "figure"), rows)


def machines() -> str:
    """Give one line a script: the machine and the versions of its figures."""
    lines = []
    scripts = [row.script for row in SPEED if "-" not in row.script]
    for script in dict.fromkeys([*scripts, "seed_cnn", "picture_size"]):
        if result := read_result(script):
            told = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
            lines.append(f"- `{script}.py`: {told}")
    return "\n".join(lines) or NOT_MEASURED


def backends() -> str:
    """Give the goals of loader and memory on each backend as Markdown."""
    rows = []
    for name, suffix in (("TensorFlow", ""), ("JAX", "-jax"), ("PyTorch", "-torch")):
        pipeline, memory = read_result(f"pipeline{suffix}"), read_result(f"memory{suffix}")
        cells = [epoch("epoch")(pipeline) if pipeline else NOT_MEASURED]
        cells += [
            figure(memory) if memory else NOT_MEASURED
            for figure in (pipeline_memory(250), pipeline_memory(400), largest_process)
        ]
        rows.append((name, *cells))
    heads = ("backend", "epoch beside a constant batch", "pipeline's memory at 250 × 250")
    return table((*heads, "at 400 × 400", "whole process that trains"), rows)


def steps() -> str:
    """Give the table of fine-tuning's speed by device, backend and precision as Markdown."""
    result = read_result("steps")
    if result is None:
        return NOT_MEASURED
    heads = ("device, backend and its own choice", "network", "posters a device and step")
    heads += ("posters a second", "epoch on posters beside one batch")
    return "\n".join([table(heads, []), *map(steps_row, result["rows"])])


def steps_row(row: dict[str, Any]) -> str:
    """Give one device's line of that table."""
    speeds = ", ".join(f"{side} {speed:.1f}" for side, speed in row["posters_a_second"].items())
    kind = row["machine"]["cpu"] if row["connected"].startswith("CPU") else ""
    cells = (
        f"{row['connected'].split('. ')[0]} {f'({kind})' if kind else ''}".strip(),
        f"{row['model']} at {row['size'][0]} × {row['size'][1]}",
        str(row["batch"]),
        speeds,
        f"{100 * (row['fed_beside_constant'] - 1):+.1f} % time",
    )
    return f"| {' | '.join(cells)} |"


def picture_size() -> str:
    """Give the table of macro mAP by picture size as Markdown."""
    result = read_result("picture_size")
    if not result:
        return NOT_MEASURED
    rows = [
        (
            f"{row['size'][0]} × {row['size'][1]}",
            row["shape"],
            f"{row['validation']:.3f}",
            f"{max(row['validation_seeds']) - min(row['validation_seeds']):.3f}",
            f"{row['test']:.3f}",
        )
        for row in result["rows"]
    ]
    heads = ("height × width", "shape", "validation macro mAP", "range of the seeds")
    heads += ("test macro mAP",)
    note = f"Heads trained on {result['training_posters']} posters.\n\n"
    return note + table(heads, rows)


def pooled_stages() -> str:
    """Give the cross-validated figures of heads with and without earlier stages as Markdown."""
    result = read_result("pooled_stages")
    if result is None:
        return NOT_MEASURED
    rows = [
        (name, f"{sum(f) / len(f):.3f}", *map("{:.3f}".format, f)) for name, f in result.items()
    ]
    folds = [f"fold {i + 1}" for i in range(len(rows[0]) - 2)]
    return table(("pooled features of", "mean macro mAP", *folds), rows)


def towers() -> str:
    """Give the cross-validated figures of the towers and of the ways to add them as Markdown."""
    result = read_result("towers")
    if result is None:
        return NOT_MEASURED
    rows = [
        (system["system"], f"{system['macro_map']:.3f}", f"{system['calibration_error']:.3f}")
        for system in result["systems"]
    ]
    return table(("system", "macro mAP", "calibration error"), rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows as a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_result(script: str) -> dict[str, Any] | None:
    """Read a script's result file; `None` where it was not measured yet."""
    file = FOLDER / "results" / f"{script}.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None


if __name__ == "__main__":
    main()
