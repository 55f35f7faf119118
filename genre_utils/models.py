"""The networks: pixels or words in, one logit a genre out, on every Keras backend.

A picture's network takes RGB `(n, height, width, 3)`, uint8 or float, with values 0–255;
normalisation is its first layer. The words' network takes token ids `(n, tokens)`. Both return
logits `(n, genres)`; the sigmoid of a logit is the score.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import layers

from genre_utils.networks import VARIANTS, build_efficientnet_lite, check_own_network
from genre_utils.support import did_you_mean

# Networks of `keras.applications` whose preprocessing is one of their layers.
APPLICATIONS = {
    "efficientnetv2-b0": "EfficientNetV2B0",
    "efficientnetv2-b1": "EfficientNetV2B1",
    "efficientnetv2-b2": "EfficientNetV2B2",
    "efficientnetv2-b3": "EfficientNetV2B3",
    "efficientnetv2-s": "EfficientNetV2S",
    "convnext_tiny": "ConvNeXtTiny",
    "convnext_small": "ConvNeXtSmall",
    "mobilenetv3_large": "MobileNetV3Large",
}
OFFLINE = ("seed_cnn", *VARIANTS)
# Networks with a backbone trained on ImageNet; all others start from random weights.
PRETRAINED = (*VARIANTS, *APPLICATIONS)

# The smallest side of which four valid 5×5 convolutions, each halved by pooling, leave one pixel.
SEED_CNN_SMALLEST = 76

# `builder((height, width), genres)` of each network that `register_network` has added.
Builder = Callable[[tuple[int, int], int], keras.Model]
_registered: dict[str, Builder] = {}


def register_network(name: str, builder: Builder) -> None:
    """Make `name` a network that `build_model` and the parameter MODEL know.

    `builder(image_size, n_genres)` gets (height, width) and returns any Keras model of Keras' own
    layers that maps RGB `(n, height, width, 3)`, 0–255, to logits `(n, n_genres)`. A second call
    with the same name replaces the first. Raises `ValueError` for a name that is taken or no text,
    and for what is no such builder.
    """
    if not isinstance(name, str) or not name.strip() or name in (*OFFLINE, *APPLICATIONS):
        raise ValueError(f"The name {name!r} is taken or no text: give your network another one.")
    try:
        inspect.signature(builder).bind((400, 272), 24)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The builder of {name!r} is not called as builder(image_size, n_genres) ({error})."
        ) from None
    _registered[name] = builder


def names() -> tuple[str, ...]:
    """Return the names of all networks."""
    return (*OFFLINE, *APPLICATIONS, *_registered)


def choose_networks(first: str, second: str, image_size: int | tuple[int, int]) -> dict[str, str]:
    """Return the names of the picture's networks by part of a training: `"picture"`, `"second"`.

    Leaves the second out, and prints so, if the first has no backbone from ImageNet. Raises
    `ValueError` as `check_model` does; builds nothing.
    """
    check_model(first, image_size)
    if not second:
        return {"picture": first}
    if second not in PRETRAINED:
        raise ValueError(
            f"SECOND_MODEL is {second!r}: give one of {', '.join(PRETRAINED)}, or '' for none."
            f"{did_you_mean(second, PRETRAINED)}"
        )
    if first not in PRETRAINED:
        print(f"{first} learns alone: SECOND_MODEL is left out.")
        return {"picture": first}
    return {"picture": first, "second": second}


def check_model(name: str, image_size: int | tuple[int, int]) -> None:
    """Raise `ValueError` for an unknown name, for no size, and for one too small for `seed_cnn`."""
    if name not in names():
        raise ValueError(
            f"MODEL is {name!r}: give one of {', '.join(names())}.{did_you_mean(name, names())} A "
            "network of your own needs models.register_network before this."
        )
    smaller = min(_sides(image_size))
    if name == "seed_cnn" and smaller < SEED_CNN_SMALLEST:
        raise ValueError(
            f"seed_cnn needs pictures of at least {SEED_CNN_SMALLEST} pixels a side, not "
            f"{image_size}: give a larger IMG_SIZE."
        )


def has_backbone(network: keras.Model) -> bool:
    """Return whether a network consists of a pretrained `"backbone"` and a `"head"` on it."""
    return {"backbone", "head"} <= {layer.name for layer in network.layers}


def with_backbone(networks: Mapping[str, keras.Model]) -> dict[str, keras.Model]:
    """Return the networks that have a backbone, by name."""
    return {name: network for name, network in networks.items() if has_backbone(network)}


def is_pretrained(network: keras.Model) -> bool:
    """Return whether a network, of pictures or words, has a pretrained part."""
    encoder = {layer.name: layer for layer in network.layers}.get("encoder")  # or one's own layer
    in_encoder = {layer.name for layer in getattr(encoder, "layers", ())}
    return has_backbone(network) or "word" in in_encoder


def build_model(name: str, image_size: int | tuple[int, int], genres: Sequence[str]) -> keras.Model:
    """Build a network for `genres`; `image_size` is a side, or (height, width), in pixels.

    `name` is one of `names()`. Those of `PRETRAINED` consist of two layers: `"backbone"`, with
    ImageNet weights, and `"head"`, with random ones. Raises `ValueError` for an unknown name or
    size and for a registered network that does not fit, `ConnectionError` when ImageNet weights
    cannot be downloaded.
    """
    check_model(name, image_size)
    if name == "seed_cnn":
        return seed_cnn(_sides(image_size), len(genres))
    if name in _registered:
        network = _registered[name](_sides(image_size), len(genres))
        check_own_network(name, network, _sides(image_size), len(genres))
        return network
    backbone = _build_backbone(name, _sides(image_size))
    head = build_head(backbone.output_shape[-1], len(genres))
    inputs = keras.Input((*_sides(image_size), 3), name="pixels")
    return keras.Model(inputs, head(backbone(inputs)), name=name.replace("-", "_"))


def average_models(*networks: keras.Model) -> keras.Model:
    """Return one network whose logits are the mean of two networks'; of one alone, that network.

    Two take pixels of one size. They become its layers and are renamed `"first"` and `"second"`.
    """
    if len(networks) == 1:
        return networks[0]
    first, second = networks
    first.name, second.name = "first", "second"
    pixels = keras.Input(first.input_shape[1:], name="pixels")
    # A loaded network may return its one output in a list.
    logits = [keras.tree.flatten(network(pixels))[0] for network in networks]
    mean = layers.Average(name="mean", dtype="float32")(logits)
    return keras.Model(pixels, mean, name="two_networks")


def join_networks(
    networks: Mapping[str, keras.Model],
    names: Mapping[str, str],
    image_size: tuple[int, int],
    genres: Sequence[str],
) -> keras.Model:
    """Return the mean of networks, by part of a training, for pictures of (height, width).

    Networks with a backbone are built anew, by their `names`, and get the weights of these. Others
    stay as they are.
    """
    resized = dict(networks)
    for part, network in with_backbone(networks).items():
        resized[part] = build_model(names[part], image_size, genres)
        resized[part].set_weights(network.get_weights())
    return average_models(*resized.values())


def build_words_model(encoder: keras.Model, genres: Sequence[str]) -> keras.Model:
    """Build the network of the words: `encoder`, and a head like a picture's, with random weights.

    Input: int32 token ids `(n, tokens)`, 0 where there is none. Output: logits `(n, genres)`.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    head = build_head(encoder.output_shape[-1], len(genres))
    return keras.Model(tokens, head(encoder(tokens)), name="words")


def build_head(features: int, genres: int) -> keras.Model:
    """Build the part over a backbone: from features `(n, features)` to logits `(n, genres)`."""
    return keras.Sequential(
        [
            keras.Input((features,)),
            layers.Dropout(0.3),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            # Full precision on every machine, because logits are summed and compared.
            layers.Dense(genres, dtype="float32"),
        ],
        name="head",
    )


def seed_cnn(image_size: tuple[int, int], genres: int) -> keras.Model:
    """Build the small network that tutorials train on the public posters: the baseline.

    It maps pixels of `image_size`, (height, width), to logits `(n, genres)`.
    """
    model = keras.Sequential(name="seed_cnn")
    model.add(keras.Input((*image_size, 3), name="pixels"))
    model.add(layers.Rescaling(1 / 255))
    for filters in (16, 32, 64, 64):
        model.add(layers.Conv2D(filters, 5, activation="relu"))
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    for units in (128, 64):
        model.add(layers.Dense(units, activation="relu"))
        model.add(layers.Dropout(0.5))
    model.add(layers.Dense(genres, dtype="float32"))
    return model


def freeze_for_fine_tuning(network: keras.Model) -> None:
    """Freeze what fine-tuning on a few thousand posters would harm rather than help.

    Batch normalisation keeps ImageNet's means and variances, because small batches estimate them
    less well. The first layers, whose maps have a quarter of the picture's height or more, see
    edges and grain, which are the same on posters as on photographs. They have few weights, and
    take much of the time because their maps are large. In the network of the words the vectors of
    single tokens stay: most tokens are on none of a few thousand posters. In a network without a
    pretrained part nothing is frozen.
    """
    if has_backbone(network):
        backbone = network.get_layer("backbone")
        height = backbone.input_shape[1]
        for layer in backbone.layers:
            shape = keras.tree.flatten(layer.output)[0].shape
            # A backbone for pictures of any size does not tell how large its maps are.
            early = len(shape) == 4 and bool(height and shape[1]) and 4 * shape[1] >= height
            layer.trainable = not (early or isinstance(layer, layers.BatchNormalization))
    elif is_pretrained(network):
        network.get_layer("encoder").get_layer("word").trainable = False


def _build_backbone(name: str, image_size: tuple[int, int]) -> keras.Model:
    if name in VARIANTS:
        backbone = build_efficientnet_lite(name, image_size)
    else:
        constructor = getattr(keras.applications, APPLICATIONS[name])
        try:
            backbone = constructor(
                include_top=False, weights="imagenet", input_shape=(*image_size, 3), pooling="avg"
            )
        except Exception as error:  # Keras raises a bare Exception when a download fails
            if "fetch failure" not in str(error):
                raise
            raise ConnectionError(
                f"The ImageNet weights of {name} could not be downloaded ({error}). "
                f"Without internet these models work: {', '.join(OFFLINE)}."
            ) from None
    backbone.name = "backbone"
    return backbone


def _sides(image_size: int | tuple[int, int]) -> tuple[int, int]:
    sides = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(sides) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in sides):
        raise ValueError(f"The size is {image_size!r}: give a side, or (height, width), in pixels.")
    return int(sides[0]), int(sides[1])
