"""Networks in 8 bits: weights in steps, and feature maps between their ends on some posters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genre_utils.networks.arrays import BLOCK, FEWEST_WEIGHTS, Array
from genre_utils.networks.onnx import open_session
from genre_utils.networks.onnx_graph import Graph, layers_of


def to_int8(
    config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], pixels: np.ndarray | None = None
) -> tuple[dict[str, Array], dict[str, list[float]]]:
    """Round a network's weights to 8 bits; returns them, and the ranges of its feature maps.

    Tables of dense layers and embeddings have a scale for 16 neighbours. With `pixels`, some 60
    posters `(n, height, width, 3)`, convolutions are rounded too, with a scale a channel, and so
    are the maps between them, each between its least and greatest value on these posters (static
    quantisation: Jacob et al., CVPR 2018). Raises `NotImplementedError` for a
    layer whose graph is not known.
    """
    depthwise = {
        path for path, layer in layers_of(config) if layer["class_name"] == "DepthwiseConv2D"
    }
    ranges, means, graph = {}, {}, None
    if pixels is not None:
        graph = Graph({name: Array(one) for name, one in arrays.items()})
        ranges, means = _measure(graph.write(config, observe=True), pixels)
    rounded, shifts = {}, {}
    for name, values in arrays.items():
        path = name.rpartition("/")[0]
        if values.ndim == 4 and graph and path in graph.sources:
            height, width, inputs, _ = values.shape
            inputs = 1 if path in depthwise else inputs
            rounded[name] = Array.int8(values, (height, width, inputs, 1))
            error = (rounded[name].wide() - values).sum(axis=(0, 1))  # (in, out)
            mean = means[graph.sources[path]]
            if len(mean) == len(error):
                shift = error * mean[:, None]
                shifts[path] = shift.reshape(-1) if path in depthwise else shift.sum(axis=0)
        elif 1 < values.ndim < 4 and values.size >= FEWEST_WEIGHTS and not values.shape[-1] % BLOCK:
            rounded[name] = Array.int8(values, (*(1,) * (values.ndim - 1), BLOCK))
        else:
            rounded[name] = Array.half(values)
    for path, shift in shifts.items():
        # Rounding moves a channel's mean, which is taken back where the channel is shifted anyway
        # (bias correction: Nagel et al., ICCV 2019).
        if f"{path}/bias" in arrays:
            rounded[f"{path}/bias"] = Array.half(arrays[f"{path}/bias"] - shift)
        elif path in graph.norms:
            name = f"{graph.norms[path]}/moving_mean"
            rounded[name] = Array.half(arrays[name] + shift)
    return rounded, ranges


def _measure(
    model: bytes, pixels: np.ndarray
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Return each feature map's least and greatest value, and its channels' means, on posters."""
    session, each_run = open_session(model)
    names = [output.name for output in session.get_outputs()[1:]]
    source = session.get_inputs()[0].name
    ranges: dict[str, list[float]] = {name: [0.0, 0.0] for name in names}
    means: dict[str, np.ndarray] = dict.fromkeys(names, 0.0)
    for poster in pixels if names else ():  # of no names the session would return all
        maps = session.run(names, {source: poster[None].astype(np.float32)}, each_run)
        for name, values in zip(names, maps, strict=True):
            low, high = ranges[name]
            ranges[name] = [min(low, float(values.min())), max(high, float(values.max()))]
            means[name] = means[name] + values.mean(axis=(0, 2, 3)) / len(pixels)
    return ranges, means
