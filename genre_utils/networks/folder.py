"""A network in a model folder: `NAME.json`, its config, and `NAME.safetensors`, its arrays."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genre_utils.networks import int8 as eight_bits
from genre_utils.networks import keras_config, onnx
from genre_utils.networks.arrays import AGAIN, Array, load_arrays, naming, save_arrays
from genre_utils.networks.onnx_graph import Graph
from genre_utils.support import DataError

if TYPE_CHECKING:  # seconds that a command without Keras need not wait
    import keras


def save_folder_network(
    network: keras.Model, file: Path, int8: bool = False, calibration: np.ndarray | None = None
) -> None:
    """Write `file`, a `NAME.json`, and the weights beside it; see `save_model`."""
    config, arrays, ranges = keras_config.to_config(network), keras_config.to_arrays(network), {}
    if int8:
        try:
            rounded, ranges = eight_bits.to_int8(config, arrays, calibration)
        except NotImplementedError as error:
            raise DataError(
                f"The network is not rounded to 8 bits: {error}. Without --data its dense layers "
                "and tables are."
            ) from None
    else:
        rounded = {name: Array.half(values) for name, values in arrays.items()}
    save_arrays(rounded, file.with_suffix(".safetensors"))
    file.write_text(json.dumps({"network": config, "ranges": ranges}), "utf-8")


def save_weights(network: keras.Model, file: Path) -> None:
    """Write a network's weights alone, in half precision and in their order."""
    arrays = {f"{i:04d}": Array.half(values) for i, values in enumerate(network.get_weights())}
    save_arrays(arrays, file)


def load_weights(network: keras.Model, file: Path, advice: str = AGAIN) -> None:
    """Set a network's weights to those that `save_weights` wrote of it.

    Raises `DataError`, which ends with `advice`, for a damaged file and for another network's.
    """
    arrays = load_arrays(file, advice)
    with naming(file, "has the weights of another network", advice):
        network.set_weights([arrays[name].wide() for name in sorted(arrays)])
        keras_config.settle_layers(network)


def load_folder_network(file: Path, runtime: bool = False) -> keras.Model | onnx.RuntimeNetwork:
    """Load what `save_folder_network` wrote; with `runtime` for ONNX Runtime, where it can be.

    Raises `DataError` for anything that is not a network of Keras' own layers with its weights.
    """
    config, ranges = read_config(file)
    weights = file.with_suffix(".safetensors")
    arrays = load_arrays(weights)
    with suppress(NotImplementedError):  # what only Keras can compute is left to Keras
        if runtime:
            return onnx.RuntimeNetwork(config, arrays, weights, ranges)
    with naming(file, "cannot be computed by Keras"):
        return keras_config.from_config(config, arrays)


def read_config(file: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return a network's config and its feature maps' ranges; raises `DataError`."""
    with naming(file, "is no config of a network"):
        if file.stat().st_size > keras_config.MAX_CONFIG:
            raise DataError("it is larger than any config of this project")
        content = json.loads(file.read_text("utf-8"))
        config, ranges = content["network"], content["ranges"]
        keras_config.check_config(config)
        for low, high in ranges.values():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise DataError("the range of a feature map has no two ends")
        return config, ranges


def to_onnx(file: Path) -> bytes:
    """Return a network as an ONNX model with its weights inside; raises `DataError`."""
    (config, ranges), arrays = read_config(file), load_arrays(file.with_suffix(".safetensors"))
    try:
        graph = Graph(arrays, ranges).write(config)
        onnx.open_session(graph)
        return graph
    except Exception as error:  # ONNX Runtime has many
        raise DataError(
            f"{file} cannot be written as ONNX: {error}. `predict` computes it by Keras, and "
            "--format litert may write it."
        ) from None
