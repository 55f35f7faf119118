"""How fast is fine-tuning on this machine: in which precision, compiled by XLA or not?

    python benchmarks/steps.py                       # on the accelerator that Keras sees
    KERAS_BACKEND=jax python benchmarks/steps.py
    python benchmarks/steps.py --model efficientnet_lite0 --size 192 128 --batch 16 --steps 4

Times steps of fine-tuning, as the train notebook does them, on one batch that stays in memory, in
float32 and in bfloat16 (Keras' `mixed_bfloat16`), with and without `jit_compile`, the sides in
turn; then epochs on batches that `PosterBatches` makes, with augmentation, beside as many on that
batch, in the precision that `machine.connect` chooses. The pictures are the drawn sample: a
step takes as long on any. The result is added to `benchmarks/results/steps.json`, one row a device
and backend, and printed as the row of the table in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from genre_utils import machine

machine.choose_backend()
CONNECTED = machine.connect()

import keras  # noqa: E402
import measure  # noqa: E402
from pipeline import Constant  # noqa: E402
from report import steps_row  # noqa: E402

from genre_utils import batches, dataset, models, sources, training  # noqa: E402
from genre_utils.support import write_json  # noqa: E402

SIDES = {
    f"{precision}{', XLA' if xla else ''}": (policy, xla)
    for precision, policy in (("float32", "float32"), ("bfloat16", "mixed_bfloat16"))
    for xla in (False, True)
}


def main() -> None:
    """Measure, keep the row, and print it."""
    options = parse()
    batches = sample_batches(tuple(options.size), options.batch * machine.replicas())
    options.steps = min(options.steps, len(batches))
    constant = Constant(batches[0], options.steps)
    chosen = keras.config.dtype_policy().name
    seconds = measure.alternate(
        {side: fit_of(options, constant, *how) for side, how in sides().items()}, options.rounds
    )
    keras.config.set_dtype_policy(chosen)
    auto = fit_of(options, constant, chosen, "auto")
    fed = measure.alternate({"posters": partial(auto, batches), "constant": auto}, options.rounds)
    posters = len(constant.batch[0]) * options.steps
    row = {
        "connected": CONNECTED,
        "machine": measure.describe_machine(),
        "model": options.model,
        "size": options.size,
        "batch": options.batch,
        "posters_a_second": {
            side: round(posters / median(times), 2) for side, times in seconds.items()
        },
        "fed_beside_constant": measure.ratio(fed["posters"], fed["constant"]),
    }
    keep(row)
    print(steps_row(row))


def parse() -> argparse.Namespace:
    """Read the options; the defaults are those of the train notebook."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet_lite2", help="of models.MODELS")
    parser.add_argument("--size", type=int, nargs=2, default=[400, 272], help="height and width")
    parser.add_argument("--batch", type=int, default=16, help="posters a step and device")
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, the sides in turn")
    return parser.parse_args()


def sides() -> dict[str, tuple[str, bool]]:
    """Give the ways to compute a step that this backend knows: only PyTorch has no XLA."""
    xla = keras.backend.backend() != "torch"
    return {side: how for side, how in SIDES.items() if xla or not how[1]}


def sample_batches(size: tuple[int, int], batch: int) -> batches.PosterBatches:
    """Give augmented batches of the drawn sample."""
    data = dataset.load_dataset(sources.find_data("sample"))
    paths = data.posters["path"].tolist()
    folder = Path(tempfile.gettempdir()) / "poster-genres-steps"
    cache = batches.fill_cache(paths, size, folder)
    labels = data.labels(data.posters)
    return batches.PosterBatches(cache, paths, labels, batch, seed=0, augmented=True)


def fit_of(options: argparse.Namespace, constant: Constant, policy: str, xla: bool | str) -> Any:
    """Build and compile a network as the notebook fine-tunes it; gives a warm `fit` of it."""
    keras.config.set_dtype_policy(policy)
    model = models.build_model(options.model, tuple(options.size), constant.batch[1][0])
    models.freeze_for_fine_tuning(model.get_layer("backbone"))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(training.gentle_adam(1000, 16, 16), loss, jit_compile=xla)

    def fit(batches: keras.utils.PyDataset = constant) -> None:
        model.fit(batches, steps_per_epoch=options.steps, shuffle=False, verbose=0)

    fit()  # compiles
    return fit


def keep(row: dict[str, Any]) -> None:
    """Put a row into the result file, in place of an older one of the same device and backend."""
    file = measure.RESULTS / "steps.json"
    rows = json.loads(file.read_text("utf-8"))["rows"] if file.exists() else []
    rows = [old for old in rows if old["connected"] != row["connected"]]
    write_json(file, {"rows": [*rows, row]})


if __name__ == "__main__":
    main()
