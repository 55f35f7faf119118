"""Networks in 8 bits: weights in steps, and feature maps between their ends on some posters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genre_utils.networks.arrays import BLOCK, FEWEST_WEIGHTS, Array, Arrays
from genre_utils.networks.onnx import open_session
from genre_utils.networks.onnx_graph import build_graph, layers_of


def to_int8(
    config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], pixels: np.ndarray | None = None
) -> tuple[dict[str, Array], dict[str, list[float]]]:
    """Round a network's weights to 8 bits; returns them, and the ranges of its feature maps.

    Tables of dense layers and embeddings have a scale for 16 neighbours. With `pixels`, some 60
    posters `(n, height, width, 3)`, convolutions are rounded too, with a scale a channel, and so
    are the maps between them, each between its least and greatest value on these posters (static
    quantisation: Jacob et al., CVPR 2018). Raises `NoGraphError` where the network has
    layers whose graph is not known.
    """
    ranges = {} if pixels is None else _measure(config, arrays, pixels)
    depthwise = {
        path for path, layer in layers_of(config) if layer["class_name"] == "DepthwiseConv2D"
    }
    rounded = {}
    for name, values in arrays.items():
        if values.ndim == 4 and ranges:
            height, width, inputs, _ = values.shape
            inputs = 1 if name.rpartition("/")[0] in depthwise else inputs
            rounded[name] = Array.int8(values, (height, width, inputs, 1))
        elif 1 < values.ndim < 4 and values.size >= FEWEST_WEIGHTS and not values.shape[-1] % BLOCK:
            rounded[name] = Array.int8(values, (*(1,) * (values.ndim - 1), BLOCK))
        else:
            rounded[name] = Array.half(values)
    return rounded, ranges


def _measure(
    config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], pixels: np.ndarray
) -> dict[str, list[float]]:
    """Return the least and greatest value of each feature map on some posters."""
    plain = Arrays({name: Array(values) for name, values in arrays.items()}, {})
    session, each_run = open_session(build_graph(config, plain, observe=True))
    names = [output.name for output in session.get_outputs()[1:]]
    source = session.get_inputs()[0].name
    ranges = {name: [0.0, 0.0] for name in names}
    for poster in pixels:
        maps = session.run(names, {source: poster[None].astype(np.float32)}, each_run)
        for name, values in zip(names, maps, strict=True):
            low, high = ranges[name]
            ranges[name] = [min(low, float(values.min())), max(high, float(values.max()))]
    return ranges
