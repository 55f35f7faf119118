"""A Keras network taken apart into its config and its arrays, and put together again.

A config may come from a stranger. Keras' own layers are built from it, whichever these are, but
none that holds code or reads files; nothing else in it is followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genre_utils import machine
from genre_utils.networks.arrays import Array
from genre_utils.support import DataError, short_hash

if TYPE_CHECKING:  # seconds that a command without Keras need not wait
    import keras

MAX_CONFIG = 20_000_000  # bytes; that of the largest network here has 1 MB

# Where Keras keeps what a network may consist of. Functions, which stand in `keras.activations`
# and elsewhere, are named by a plain word in a config of built-in layers.
MODULES = {
    *("keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints"),
    *("keras.src.models.functional", "keras.src.models.sequential"),
}
OPERATIONS = "keras.src.ops."
BESIDE = ("keras.src.applications.convnext", "LayerScale")  # a layer that stands beside its network
# Layers and values with code or a file in them.
REFUSED = {
    *("Lambda", "function", "__lambda__", "__typespec__", "__bytes__"),
    *("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("IndexLookup", "StringLookup", "IntegerLookup", "TextVectorization", "FeatureSpace"),
}
# What Keras writes for values that are none of JSON's, among them arrays of these numbers.
PLAIN = {"__tuple__", "__keras_tensor__", "__ellipsis__", "__slice__"}
ARRAYS = {"__numpy__", "__tensor__"}
NUMBERS = ["bool", *(f"float{bits}" for bits in (16, 32, 64))]
NUMBERS += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]

# Left out of a network's config: the losses and optimizers of its parts, and what Keras writes
# since 3.14, at its default in all networks of ours; Colab and Kaggle have 3.13, which refuses it.
LEFT_OUT = {
    *("compile_config", "renorm", "renorm_clipping", "renorm_momentum"),
    *("input_axes", "output_axes", "use_gate", "sliding_window"),
}


def to_config(network: keras.Model) -> dict[str, Any]:
    """Return a network's config, plain JSON; raises `DataError` for layers not of Keras itself."""
    import keras

    config = _leave_out(keras.saving.serialize_keras_object(network))
    check_config(config)
    return config


def from_config(config: Mapping[str, Any], arrays: Mapping[str, Array]) -> keras.Model:
    """Build a network with its weights; raises `DataError` when they do not fit each other."""
    check_config(config)
    machine.import_keras()
    import keras

    try:
        network = keras.saving.deserialize_keras_object(dict(config), safe_mode=True)
        weights = named_weights(network)
    except Exception as error:  # each layer and each backend has its own
        # Without the code of a function, or a layer's whole config.
        reason = str(error).rpartition("Exception encountered: ")[2].partition(": {")[0][:200]
        raise DataError(
            f"its config cannot be built by Keras {keras.__version__} ({reason})"
        ) from None
    if strange := sorted(set(weights) ^ set(arrays)):
        which = "is missing" if strange[0] in weights else "belongs to no layer"
        raise DataError(f"the array {strange[0]!r} {which}")
    for name, weight in weights.items():
        if tuple(weight.shape) != arrays[name].values.shape:
            raise DataError(
                f"the array {name!r} has the shape {arrays[name].values.shape}, and its layer "
                f"takes {tuple(weight.shape)}"
            )
        weight.assign(arrays[name].wide())
    settle_layers(network)
    return network


def settle_layers(network: keras.Model) -> None:
    """Let layers that were adapted to data compute what they keep beside their new weights."""
    import keras

    layers = network._flatten_layers()  # those within wrappers, too
    adapted = [layer for layer in layers if isinstance(layer, keras.layers.Normalization)]
    for layer in adapted:
        layer.finalize_state()
    if adapted:  # functions that were compiled before hold what these kept then
        network.predict_function = network.test_function = network.train_function = None


def to_arrays(network: keras.Model) -> dict[str, np.ndarray]:
    """Return a network's weights by the name of their layer and their own, float32."""
    import keras

    return {
        name: np.asarray(keras.ops.convert_to_numpy(weight), np.float32)
        for name, weight in named_weights(network).items()
    }


def named_weights(network: keras.Model, path: str = "") -> dict[str, keras.Variable]:
    """Return a network's variables by `layer/variable`, with the models around as folders."""
    import keras

    named = {}
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            named |= named_weights(layer, f"{path}{layer.name}/")
            continue
        for name, weight in zip(_short_names(layer.weights), layer.weights, strict=True):
            # Keras numbers weights without a name, in each network built otherwise.
            name = f"{path}{layer.name}/" + re.sub(r"\bvariable_\d+$", "variable", name)
            if name in named:
                raise DataError(f"two weights are called {name}")
            named[name] = weight
    return named


def _short_names(weights: Sequence[keras.Variable]) -> Iterator[str]:
    """Yield the shortest end of each weight's path that no other one has."""
    paths = [weight.path.split("/") for weight in weights]
    for parts in paths:
        # Layers within a layer have variables of one name; theirs come before it.
        for start in range(len(parts) - 1, -1, -1):
            if sum(other[start - len(parts) :] == parts[start:] for other in paths) == 1:
                break
        yield "/".join(parts[start:])


def check_config(config: Any, more: Collection[str] = ()) -> None:
    """Raise `DataError` unless a config consists of Keras' own layers without code or files.

    `more` are modules of Keras whose classes may stand in it, too.
    """
    if isinstance(config, dict) and "class_name" in config:
        _check_part(config, MODULES.union(more))
    if isinstance(config, str) and ("/" in config or "\\" in config):
        raise DataError(f"{config[:80]!r} in its config may be a file: no layer needs one")
    if isinstance(config, (list, dict)):
        for part in config.values() if isinstance(config, dict) else config:
            check_config(part, more)


def check_own_network(name: str, network: Any, image_size: Sequence[int], genres: int) -> None:
    """Raise `ValueError` unless a network of the user's own can be trained, saved and loaded.

    It maps pixels `(n, *image_size, 3)` to logits `(n, genres)`, and has Keras' own layers only.
    """
    import keras

    shapes = (None, *image_size, 3), (None, genres)
    if not isinstance(network, keras.Model):
        raise ValueError(
            f"The builder of {name!r} returned {network!r}, not a keras.Model: let it return one."
        )
    try:
        own = network.input_shape, network.output_shape
    except AttributeError:  # what Keras says of a network that does not know its inputs
        raise ValueError(
            f"The network {name!r} does not know its inputs: begin it with "
            "keras.Input((*image_size, 3)). A subclass of keras.Model cannot be loaded afterwards."
        ) from None
    if own != shapes:
        raise ValueError(
            f"The network {name!r} turns {own[0]} into {own[1]}: it should take pixels {shapes[0]} "
            f"and give logits {shapes[1]}."
        )
    if isinstance(getattr(network, "output", None), dict):
        raise ValueError(f"The network {name!r} gives a dict: give its logits alone.")
    if ending := _ending(network.outputs[0]):
        raise ValueError(
            f"The network {name!r} ends in {ending}: leave it out. The loss and the saved model "
            "take logits."
        )
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    are_two_models = len(layers) == 2 and all(isinstance(one, keras.Model) for one in layers)
    # They are trained apart.
    if {"backbone", "head"} <= {layer.name for layer in layers} and not are_two_models:
        raise ValueError(
            f"The network {name!r} has layers named 'backbone' and 'head' and is more than the "
            "head on the backbone: make two models of them, the whole network, or rename them."
        )
    try:
        config = json.loads(json.dumps(to_config(network)))
        from_config(config, {n: Array.half(values) for n, values in to_arrays(network).items()})
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The network {name!r} could be trained, and not be loaded afterwards: {error}. Build "
            "it of Keras' own layers."
        ) from None


def _ending(logits: keras.KerasTensor) -> str:
    """Return the activation, by its name, that a network's last layer ends in; empty for none."""
    import keras

    layers = keras.layers
    last, node, index = logits._keras_history
    if isinstance(last, keras.Model):
        outputs = getattr(last, "outputs", None)  # a subclass has none, and is refused later
        return _ending(outputs[index]) if outputs else ""
    activation = getattr(last, "activation", None)
    kind = getattr(activation, "__name__", type(activation or last).__name__)
    through = layers.Dropout, layers.Identity, layers.Reshape, layers.Flatten
    if isinstance(last, through) or (isinstance(last, layers.Activation) and kind == "linear"):
        return _ending(last._inbound_nodes[node].input_tensors[0])
    known = {name.replace("_", "") for name in dir(keras.activations)} - {"linear"}
    return kind if kind.replace("_", "").lower() in known else ""


def architecture(network: keras.Model) -> str:
    """Return a hash of a network's layers, 12 hexadecimal digits, whatever weights it has."""
    # Keras numbers the names of layers, and goes on counting when a cell runs again.
    layers = re.sub(r'_\d+"', '"', json.dumps(to_config(network), sort_keys=True))
    return short_hash(layers)


def _check_part(config: dict[str, Any], modules: Collection[str]) -> None:
    kind, module = config["class_name"], config.get("module")
    # A registered name is looked up among the classes of whoever imports this package.
    registered = config.get("registered_name") or kind
    known = isinstance(module, str) and (module in modules or module.startswith(OPERATIONS))
    known = known or (module, kind) == BESIDE
    if kind in PLAIN:
        known = config.keys() <= {"class_name", "config", "items"}
    if kind in ARRAYS:
        inner = config.get("config")
        known = isinstance(inner, dict) and inner.keys() == {"value", "dtype"}
        known = known and inner["dtype"] in NUMBERS
    if not known or kind in REFUSED or registered != kind:
        if not (module or kind in REFUSED | PLAIN | ARRAYS):  # a class of a notebook
            raise DataError(f"the class {registered} is not Keras', and a model holds no code")
        named = f"{module}.{registered}" if module else registered
        raise DataError(f"{named} is no layer of Keras, or holds code or files, as no model may")


def _leave_out(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: _leave_out(v) for k, v in config.items() if k not in LEFT_OUT}
    if isinstance(config, (list, tuple)):
        return [_leave_out(value) for value in config]
    # Trained in half precision on an accelerator, a model computes in full precision anywhere.
    return "float32" if config in ("mixed_bfloat16", "bfloat16") else config
