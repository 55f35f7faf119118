"""A network with its features, the inputs of its heads, behind its logits."""

from typing import Any

from genre_utils.networks.onnx import RuntimeNetwork
from genre_utils.networks.onnx_graph import HEAD, PARTS


def with_features(network: Any) -> Any:
    """Return a network with its features behind its logits: `(n, genres + features)`.

    `network` is one of `models` that has a head, in Keras or ONNX Runtime, or the mean of two. An
    exported one (LiteRT), which hands out no features, stays as it is.
    """
    if isinstance(network, RuntimeNetwork):
        return network.with_features()
    if not hasattr(network, "layers"):
        return network
    import keras

    parts = averaged_networks(network)
    wide = [
        keras.Model(part.inputs, [*keras.tree.flatten(part.output), part.get_layer(HEAD).input])
        for part in parts
    ]
    given, (logits, *features) = network.inputs, wide[0].outputs
    if len(parts) > 1:
        of_each, features = zip(*(one(given) for one in wide), strict=True)
        logits = network.get_layer("mean")(list(of_each))
    return keras.Model(given, keras.layers.Concatenate(dtype="float32")([logits, *features]))


def averaged_networks(network: Any) -> list[Any]:
    """Return the networks that one of `models.average_models` consists of; else itself."""
    layers = getattr(network, "layers", ())
    return [one for one in layers if one.name in PARTS and hasattr(one, "layers")] or [network]
