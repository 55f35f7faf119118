"""What makes fine-tuning on a CPU faster: smaller pictures, frozen first layers, batches, oneDNN?

    python benchmarks/fine_tuning.py [--rounds 3] [--steps 10] [--model efficientnet_lite2]

Steps of fine-tuning on one batch of the drawn sample that stays in memory, each setting in
processes of its own (oneDNN, the library of TensorFlow's fast layers, is chosen before TensorFlow
starts), which take turns. Beside the train notebook's own way, portraits 272 pixels wide in
batches of 16 with frozen first layers, each setting changes one thing. Speeds are posters a
second, the median of the rounds; what a setting does to the loss is not measured here. Writes
`benchmarks/results/fine_tuning.json`.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import Any

import measure
import record

OWN = {"width": 272, "batch": 16, "frozen": True, "onednn": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "as the notebook does it": {},
    "portraits 192 pixels wide": {"width": 192},
    "portraits 320 pixels wide": {"width": 320},
    "no layer frozen": {"frozen": False},
    "batches of 8": {"batch": 8},
    "batches of 32": {"batch": 32},
    "without oneDNN": {"onednn": False},
}


def main() -> None:
    """Measure all settings in turn and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet_lite2", help="of models.names()")
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3, help="processes a setting")
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {what: [] for what in SETTINGS}
    for number in range(options.rounds):
        for what in list(SETTINGS)[:: -1 if number % 2 else 1]:
            setting = OWN | SETTINGS[what]
            os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(setting["onednn"]))
            speed = measure.in_child(posters_a_second, options.model, options.steps, setting)
            speeds[what].append(round(speed, 2))
            print(f"{what}: {speed:.1f} posters/s", flush=True)
    own = speeds["as the notebook does it"]
    command = f"python benchmarks/fine_tuning.py --rounds {options.rounds} --steps {options.steps}"
    rows = []
    for what, each in speeds.items():
        text = f"{median(each):.1f} posters/s"
        if each is not own:
            text = f"{measure.ratio(each, own):.2f} × ({median(each):.1f} and {median(own):.1f} "
            text += "posters/s)"
        what = f"Fine-tuning {options.model}, {what}, speed"
        rows.append(record.Row(what, "—", text, command))
    record.save("fine_tuning", {"own": OWN, "posters_a_second": speeds}, rows)


def posters_a_second(model: str, steps: int, setting: dict[str, Any]) -> float:
    """Return how many posters a second one setting learns from, after a first round."""
    import steps as benchmark
    from pipeline import Constant

    from genre_utils import images

    size = images.poster_size(setting["width"], "portrait")
    batch = benchmark.sample_batches(size, setting["batch"])[0]
    constant = Constant(batch, steps)
    fit = benchmark.fit_of(model, size, constant, "float32", "auto", setting["frozen"])
    start = time.perf_counter()
    fit()
    return steps * len(batch[0]) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
