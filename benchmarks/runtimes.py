"""What do 8 bits save and cost, and which file predicts faster, ONNX or LiteRT?

    python benchmarks/runtimes.py [--posters 200] [--only int8 litert]
    gdb -batch -x benchmarks/hide_avx512.py --args python benchmarks/runtimes.py --only avx2

The picture's network of the released model on pixels of its size, one poster at a time and four, on
all cores, the sides in turn, the median of the rounds:

- int8: as it is released, in 8 bits, beside the same weights in ONNX Runtime as floats; once more
  by the arithmetic for processors without VNNI, the instructions for 8 bits;
- avx2: the same two, and gdb hides from ONNX Runtime what is newer than AVX2;
- litert: as floats in ONNX Runtime beside LiteRT, in TensorFlow's own interpreter.

The machine in the result files says whether the processor has VNNI.
Writes `benchmarks/results/runtimes-PART.json`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import measure
import numpy as np
import record

from genre_utils.apps import export
from genre_utils.networks import RuntimeNetwork, onnx
from genre_utils.predictor import CPU_BATCH
from genre_utils.saved_model import RELEASED, load_model, save_model

COMMAND = "python benchmarks/runtimes.py --only {}"
UNDER_GDB = f"gdb -batch -x benchmarks/hide_avx512.py --args {COMMAND}"


def main() -> None:
    """Measure each part, and write its result."""
    parser = measure.options_parser(__doc__, posters=200)
    parts = {"int8": int8, "avx2": avx2, "litert": litert}
    parser.add_argument("--only", nargs="+", choices=parts, help="parts (default: int8, litert)")
    options = parser.parse_args()
    for part in options.only or ("int8", "litert"):
        parts[part](options)


def int8(options: Any) -> None:
    """Time the released picture network beside itself in floats."""
    eight_bits = load_model(has_text=False, runtime=True).network
    figures = in_turn({"int8": eight_bits, "int8_without_vnni": no_vnni(), "float": floats()})
    size = sum(file.stat().st_size for file in RELEASED.glob("picture.*")) / 1e6
    figures["megabytes"] = round(size, 1)
    rows = [
        beside_floats(figures, posters, side, without, COMMAND.format("int8"))
        for side, without in (("int8", ""), ("int8_without_vnni", " as without VNNI"))
        for posters in (1, CPU_BATCH)
    ]
    record.save("runtimes-int8", figures, rows)


def avx2(options: Any) -> None:
    """Time the same two as on a processor of AVX2 alone."""
    if "AVX512_HIDDEN" not in os.environ:
        raise SystemExit(f"Nothing hides AVX-512: {UNDER_GDB.format('avx2')}")
    figures = in_turn({"int8_without_vnni": no_vnni(), "float": floats()})
    command = UNDER_GDB.format("avx2")
    rows = [
        beside_floats(figures, posters, "int8_without_vnni", " as with AVX2 alone", command)
        for posters in (1, CPU_BATCH)
    ]
    record.save("runtimes-avx2", figures, rows)


def no_vnni() -> RuntimeNetwork:
    """Load the released picture network as on a processor without VNNI."""
    with mock.patch.object(onnx, "has_vnni", lambda: False):
        return load_model(has_text=False, runtime=True).network


def floats() -> RuntimeNetwork:
    """Load the released picture network with its weights as floats."""
    with tempfile.TemporaryDirectory() as folder:
        return load_model(save_floats(Path(folder)), runtime=True).network


def beside_floats(
    figures: dict[Any, Any], posters: int, side: str, which: str, command: str
) -> record.Row:
    """Return the row of one side in 8 bits."""
    of = figures[posters]
    return record.Row(
        f"The picture's network in 8 bits{which} beside floats, {posters} at a time, speed",
        "≥ 1 ×",
        f"{1 / of[f'{side}_ratio']:.2f} × ({of[side]:.0f} and {of['float']:.0f} ms a poster)",
        command,
    )


def litert(options: Any) -> None:
    """Time ONNX beside LiteRT."""
    with tempfile.TemporaryDirectory() as folder:
        copy = save_floats(Path(folder))
        export.export_model(copy, "litert")
        kinds = ("onnx", "litert")
        figures = in_turn({kind: export.load_exported(copy, kind).network for kind in kinds})
    rows = [
        record.Row(
            f"ONNX beside LiteRT, floats, {posters} at a time, time",
            "—",
            f"{figures[posters]['onnx_ratio']:.2f} × ({figures[posters]['onnx']:.0f} and "
            f"{figures[posters]['litert']:.0f} ms a poster)",
            COMMAND.format("litert"),
        )
        for posters in (1, CPU_BATCH)
    ]
    record.save("runtimes-litert", figures, rows)


def save_floats(folder: Path) -> Path:
    """Save the released picture model with its weights in half precision, computed as floats."""
    model = load_model(has_text=False)
    fusions = {"picture": model.fusions["picture"]}
    training = model.card["training"]
    save_model(folder, model.network, None, fusions, model.genres, model.thresholds, [], training)
    return folder


def in_turn(networks: dict[str, Any], rounds: int = 21) -> dict[int, dict[str, float]]:
    """Time networks on the same pixels; returns milliseconds a poster by batch.

    `SIDE_ratio` is that side's time divided by the last side's.
    """
    (height, width) = load_model(has_text=False, runtime=True).image_size
    figures = {}
    for posters in (1, CPU_BATCH):
        pixels = np.full((posters, height, width, 3), 127, np.uint8)
        sides = {
            kind: lambda network=network: network.predict_on_batch(pixels)  # noqa: B023
            for kind, network in networks.items()
        }
        measure.alternate(sides, 2)
        seconds = measure.alternate(sides, rounds)
        figures[posters] = {
            kind: round(1000 * median(times) / posters, 1) for kind, times in seconds.items()
        }
        *others, last = networks
        for kind in others:
            figures[posters][f"{kind}_ratio"] = measure.ratio(seconds[kind], seconds[last])
    return figures


if __name__ == "__main__":
    main()
