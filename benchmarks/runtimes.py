"""Which file predicts faster, ONNX or LiteRT, and what does rounding the released model cost?

    python benchmarks/runtimes.py [--posters 200] [--words outputs/words.jsonl] [--half DIR]

Speed: the picture's network of the released model in ONNX Runtime, as `predict` uses it, and
exported as LiteRT into a temporary folder, for TensorFlow's own interpreter, both on all cores, one
poster at a time and four; the sides in turn, the median of the rounds. Loss: the macro mAP of the
released model, which is in 8 bits, beside that of `--half`, the folder of the same model in half
precision, on validation posters. Their words were learned from (see the README), so the figures are
high: it is their difference that counts. Writes `benchmarks/results/runtimes.json`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np

from genre_utils import ocr
from genre_utils.apps import export
from genre_utils.predictor import CPU_BATCH
from genre_utils.saved_model import RELEASED, load_model


def main() -> None:
    """Measure speed and loss, and write both."""
    parser = measure.options_parser(__doc__, posters=200)
    parser.add_argument("--words", type=Path, default=ocr.WORDS_FILE)
    parser.add_argument("--half", type=Path, required=True, help="the model in half precision")
    options = parser.parse_args()
    validation = measure.real_posters(0)
    rows = validation.part("validation").iloc[: options.posters or None]
    labels, cache = validation.labels(rows), ocr.WordCache(options.words)
    models = [load_model(folder, runtime=True) for folder in (options.half, RELEASED)]
    loss = export.compare(*models, rows["path"].tolist(), labels, cache)
    result = {"speed": measure_speed(), "loss": loss}
    print(result)
    measure.save("runtimes", result)


def measure_speed(rounds: int = 21) -> dict[str, Any]:
    """Time both on the same pixels; gives milliseconds a poster and their ratio by batch."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model"
        shutil.copytree(RELEASED, copy)
        export.export_model(copy, "litert")
        networks = {kind: export.load_exported(copy, kind).network for kind in ("onnx", "litert")}
        speeds = {}
        for size in (1, CPU_BATCH):
            pixels = np.full((size, *networks["onnx"].input_shape[1:]), 127, np.uint8)
            sides = {
                kind: lambda network=network: network.predict_on_batch(pixels)  # noqa: B023
                for kind, network in networks.items()
            }
            measure.alternate(sides, 2)
            seconds = measure.alternate(sides, rounds)
            speeds[size] = {
                kind: round(1000 * median(times) / size, 1) for kind, times in seconds.items()
            }
            speeds[size]["ratio"] = measure.ratio(seconds["onnx"], seconds["litert"])
    return speeds


if __name__ == "__main__":
    main()
