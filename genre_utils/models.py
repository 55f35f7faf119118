"""The networks: pixels or words in, one logit a genre out, on every Keras backend.

A picture's network takes RGB `(n, height, width, 3)`, uint8 or float, with values 0–255;
normalisation is its first layer. The words' network takes token ids `(n, tokens)`. Both give logits
`(n, genres)`; the sigmoid of a logit is the score.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from genre_utils.networks import VARIANTS, build_efficientnet_lite

# The families of keras.applications whose preprocessing is part of the network.
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
MODELS = (*OFFLINE, *APPLICATIONS)

# Four valid 5×5 convolutions, each halved by pooling, need this side to leave one pixel.
SEED_CNN_SMALLEST = 76


def check_model(name: str, image_size: int | tuple[int, int]) -> None:
    """Raise `ValueError` for a name or size that `build_model` cannot serve; builds nothing."""
    if name not in MODELS:
        raise ValueError(f"MODEL is {name!r}: give one of {', '.join(MODELS)}.")
    if name == "seed_cnn" and min(_sides(image_size)) < SEED_CNN_SMALLEST:
        raise ValueError(
            f"seed_cnn needs pictures of at least {SEED_CNN_SMALLEST} pixels a side, not "
            f"{image_size}: give a larger IMG_SIZE."
        )


def check_second(name: str, image_size: int | tuple[int, int]) -> None:
    """Raise `ValueError` for a second network that has no backbone to leave frozen."""
    if name == "seed_cnn" or name not in MODELS:
        fitting = ", ".join(other for other in MODELS if other != "seed_cnn")
        raise ValueError(f"SECOND_MODEL is {name!r}: give one of {fitting}, or '' for none.")
    check_model(name, image_size)


def build_model(name: str, image_size: int | tuple[int, int], genres: Sequence[str]) -> keras.Model:
    """Build a network for `genres`; `image_size` is a side, or (height, width).

    `name` is one of `MODELS`. All but `seed_cnn` consist of two layers: `"backbone"`, with
    ImageNet weights, and `"head"`, drawn anew. Raises `ValueError` for an unknown name or
    size and `ConnectionError` where ImageNet weights cannot be fetched.
    """
    check_model(name, image_size)
    if name == "seed_cnn":
        return seed_cnn(_sides(image_size), len(genres))
    backbone = _build_backbone(name, _sides(image_size))
    head = build_head(backbone.output_shape[-1], len(genres))
    inputs = keras.Input((*_sides(image_size), 3), name="pixels")
    return keras.Model(inputs, head(backbone(inputs)), name=name.replace("-", "_"))


def resize_model(
    network: keras.Model, name: str, image_size: int | tuple[int, int], genres: Sequence[str]
) -> keras.Model:
    """Build a network of `build_model` for pictures of another size, with this one's weights.

    `name` is that of the network, which has a backbone.
    """
    resized = build_model(name, image_size, genres)
    resized.set_weights(network.get_weights())
    return resized


def average_models(first: keras.Model, second: keras.Model) -> keras.Model:
    """Join two networks of pixels into one whose logits are the mean of theirs.

    They are its layers `"first"` and `"second"`, and carry these names from now on.
    """
    first.name, second.name = "first", "second"
    pixels = keras.Input(first.input_shape[1:], name="pixels")
    # A loaded network may give its one output in a list.
    logits = [keras.tree.flatten(network(pixels))[0] for network in (first, second)]
    mean = layers.Average(name="mean", dtype="float32")(logits)
    return keras.Model(pixels, mean, name="two_networks")


def build_words_model(encoder: keras.Model, genres: Sequence[str]) -> keras.Model:
    """Build the network of the words: `encoder`, and a head like a picture's, drawn anew.

    Input: int32 token ids `(n, tokens)`, 0 where there is none. Output: logits `(n, genres)`.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    head = build_head(encoder.output_shape[-1], len(genres))
    return keras.Model(tokens, head(encoder(tokens)), name="words")


def build_head(features: int, genres: int) -> keras.Model:
    """Build the trainable part over a backbone: pooled features `(n, features)` to logits."""
    return keras.Sequential(
        [
            keras.Input((features,)),
            layers.Dropout(0.3),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            # Logits are summed up and compared, in full precision on every machine.
            layers.Dense(genres, dtype="float32"),
        ],
        name="head",
    )


def seed_cnn(image_size: tuple[int, int], genres: int) -> keras.Model:
    """Build the small network that the well-known tutorials train on this data, as a baseline."""
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


def freeze_for_fine_tuning(backbone: keras.Model) -> None:
    """Freeze what fine-tuning on a few thousand posters would harm rather than help.

    Batch normalisation keeps ImageNet's means and variances, which the small batches of one
    machine cannot estimate as well. The layers that work at a quarter of the picture's
    height or more see edges and grain, the same on posters as on photographs: few weights and,
    because their maps are large, much of the work.
    """
    height = backbone.input_shape[1]
    for layer in backbone.layers:
        shape = layer.output.shape
        early = len(shape) == 4 and 4 * shape[1] >= height
        layer.trainable = not (early or isinstance(layer, layers.BatchNormalization))


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
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
