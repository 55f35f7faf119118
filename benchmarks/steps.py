"""How fast is fine-tuning on this machine: in which precision, compiled by XLA or not?

    python benchmarks/steps.py                       # on the accelerator that Keras sees
    KERAS_BACKEND=jax python benchmarks/steps.py
    python benchmarks/steps.py --model efficientnet_lite0 --size 192 128 --batch 16 --steps 4

Times steps of fine-tuning, as the train notebook does them, on one batch that stays in memory, in
float32 and in bfloat16 (Keras' `mixed_bfloat16`), with and without `jit_compile`, the sides in
turn; then epochs on batches that `PosterBatches` makes, with augmentation, beside as many on that
batch, in the precision that `machine.connect` chooses. The pictures are the drawn sample: a
step takes as long on any. Writes `benchmarks/results/steps-DEVICE.json` and prints the row of the
table in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from genre_utils import machine

machine.choose_backend()
CONNECTED = machine.connect()

import keras  # noqa: E402
import measure  # noqa: E402
import record  # noqa: E402
from pipeline import Constant  # noqa: E402

from genre_utils import batches, dataset, models, sources, training  # noqa: E402

SIDES = {
    f"{precision}{', XLA' if xla else ''}": (policy, xla)
    for precision, policy in (("float32", "float32"), ("bfloat16", "mixed_bfloat16"))
    for xla in (False, True)
}


def main() -> None:
    """Measure and keep the row."""
    options = parse()
    size = tuple(options.size)
    batches = sample_batches(size, options.batch * machine.replicas())
    steps = min(options.steps, len(batches))
    constant = Constant(batches[0], steps)
    chosen = keras.config.dtype_policy().name
    fits = {side: fit_of(options.model, size, constant, *how) for side, how in sides().items()}
    seconds = measure.alternate(fits, options.rounds)
    keras.config.set_dtype_policy(chosen)
    auto = fit_of(options.model, size, constant, chosen, "auto")
    fed = measure.alternate({"posters": partial(auto, batches), "constant": auto}, options.rounds)
    posters = len(constant.batch[0]) * steps
    speeds = {side: round(posters / median(times), 2) for side, times in seconds.items()}
    ratio = measure.ratio(fed["posters"], fed["constant"])
    figures = {"connected": CONNECTED, "model": options.model, "size": size}
    figures |= {"batch": options.batch, "posters_a_second": speeds, "fed_beside_constant": ratio}
    device = CONNECTED.split(". ")[0]
    what = (
        f"A step of fine-tuning {options.model} at {size[0]} × {size[1]}, {options.batch} posters "
    )
    each = ", ".join(f"{side} {speed:.1f}" for side, speed in speeds.items())
    text = f"{each} posters/s; an epoch on posters beside one batch {100 * (ratio - 1):+.1f} % time"
    command = f"python benchmarks/steps.py --model {options.model} --size {size[0]} {size[1]}"
    row = record.Row(f"{what}a device: {device}", "—", text, f"{command} --batch {options.batch}")
    kind = re.sub(r"\W+", "-", device.split(",")[0]).lower()
    record.save(f"steps-{kind}", figures, [row])


def parse() -> argparse.Namespace:
    """Read the options; the defaults are those of the train notebook."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet_lite2", help="of models.names()")
    parser.add_argument("--size", type=int, nargs=2, default=[400, 272], help="height and width")
    parser.add_argument("--batch", type=int, default=16, help="posters a step and device")
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, the sides in turn")
    return parser.parse_args()


def sides() -> dict[str, tuple[str, bool]]:
    """Return the ways to compute a step that this backend knows: only PyTorch has no XLA."""
    xla = keras.backend.backend() != "torch"
    return {side: how for side, how in SIDES.items() if xla or not how[1]}


def sample_batches(size: tuple[int, int], batch: int) -> batches.PosterBatches:
    """Return augmented batches of the drawn sample."""
    data = dataset.load_dataset(sources.find_data("sample"))
    paths = data.posters["path"].tolist()
    folder = Path(tempfile.gettempdir()) / "poster-genres-steps"
    cache = batches.fill_cache(paths, size, folder)
    labels = data.labels(data.posters)
    return batches.PosterBatches(cache, paths, labels, batch, seed=0, augmented=True)


def fit_of(
    name: str,
    size: tuple[int, int],
    constant: Constant,
    policy: str,
    xla: bool | str,
    frozen: bool = True,
) -> Callable:
    """Build and compile a network as the notebook fine-tunes it; returns a warm `fit` of it.

    Unless `frozen`, the first layers of the backbone learn, too.
    """
    keras.config.set_dtype_policy(policy)
    model = models.build_model(name, size, constant.batch[1][0])
    if frozen:
        models.freeze_for_fine_tuning(model)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(training.finetune_optimizer(1000, 16, 16), loss, jit_compile=xla)

    def fit(batches: keras.utils.PyDataset = constant) -> None:
        model.fit(batches, steps_per_epoch=len(constant), shuffle=False, verbose=0)

    fit()  # compiles
    return fit


if __name__ == "__main__":
    main()
