"""What a network hands to its heads, beside what these make of it."""

from __future__ import annotations

from typing import Any

from genre_utils.networks.onnx import RuntimeNetwork
from genre_utils.networks.onnx_graph import HEAD


def with_features(network: Any) -> Any:
    """Return a network with the features that enter its heads behind its logits.

    `network` is one of `models`, in Keras or ONNX Runtime, or the mean of two; the answer maps the
    same inputs to `(n, genres + features)`. A network without a head, and one in a file for other
    programs, stays as it is.
    """
    if isinstance(network, RuntimeNetwork):
        return network.with_features()
    layers = getattr(network, "layers", ())
    parts = [layer for layer in layers if layer.name in ("first", "second")] or [network]
    if any(HEAD not in (layer.name for layer in getattr(part, "layers", ())) for part in parts):
        return network
    import keras

    (given,) = network.inputs
    features = [keras.Model(part.inputs, part.get_layer(HEAD).input)(given) for part in parts]
    logits = keras.tree.flatten(network.output)
    return keras.Model(given, keras.layers.Concatenate(dtype="float32")([*logits, *features]))
