"""EfficientNet-Lite in plain Keras 3: the backbones that work without internet.

Architecture: Tan and Le, "EfficientNet" (ICML 2019), in the Lite variant of the TensorFlow
authors (`tensorflow/tpu`, `models/official/efficientnet/lite`): no squeeze-and-excitation, ReLU6
everywhere, stem and last convolution not scaled in width.
"""

import math
from pathlib import Path

import keras
import numpy as np
from keras import layers

# An archive a network, with one array a weight, named `<layer>/<position>`.
WEIGHTS = Path(__file__).parent.parent / "weights"

# name: (width multiplier, depth multiplier)
VARIANTS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}

# (repeats, kernel side, stride, expansion, channels) of each stage before scaling.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, TOP_CHANNELS = 32, 1280

# Stages (by position) whose last feature map is pooled too: the top knows objects, these know
# palette, texture and lettering. They raise the cross-validated macro mAP of a head on frozen
# features from 0.319 to 0.340 (`benchmarks/experiments.md`). The factor brings their means, which
# no ReLU6 has bounded, to the spread of the top's; without it they would drown it.
POOLED_STAGES = (2, 3, 4, 5)
POOLED_FACTOR = 1 / 8


def build_efficientnet_lite(name: str, image_size: tuple[int, int]) -> keras.Model:
    """Build a backbone with its ImageNet weights.

    Input: RGB `(n, height, width, 3)` with values 0–255. Output: feature maps averaged over
    their area and joined, `(n, features)`: first the 1280 of the last map, the layer
    `"feature_map"`, then those of four earlier stages.
    """
    width, depth = VARIANTS[name]
    inputs = keras.Input((*image_size, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(inputs)
    x = _conv(x, "stem", STEM_CHANNELS, kernel=3, stride=2)
    block, pooled = 0, []
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        # The first and the last stage keep their depth, as in the authors' `fix_head_stem`.
        if 0 < stage < len(STAGES) - 1:
            repeats = math.ceil(repeats * depth)
        channels = round_channels(channels * width)
        for repeat in range(repeats):
            stride_here = stride if repeat == 0 else 1
            x = _mbconv(x, f"block{block}", kernel, stride_here, expansion, channels)
            block += 1
        if stage in POOLED_STAGES:
            mean = layers.GlobalAveragePooling2D(name=f"stage{stage}_pooled")(x)
            pooled.append(layers.Rescaling(POOLED_FACTOR, name=f"stage{stage}_scaled")(mean))
    x = _conv(x, "top", TOP_CHANNELS, kernel=1)
    x = layers.Activation("linear", name="feature_map")(x)
    top = layers.GlobalAveragePooling2D(name="pooled")(x)
    outputs = layers.Concatenate(name="features")([top, *pooled])
    model = keras.Model(inputs, outputs, name=name)
    with np.load(WEIGHTS / f"{name}.npz", allow_pickle=False) as arrays:
        for layer in model.layers:
            places = range(len(layer.weights))
            layer.set_weights([arrays[f"{layer.name}/{place}"] for place in places])
    return model


def _mbconv(x, name: str, kernel: int, stride: int, expansion: int, channels: int):
    """Inverted residual block: widen, filter each channel, narrow (Sandler et al., 2018)."""
    shortcut = x
    if expansion != 1:
        x = _conv(x, f"{name}_expand", x.shape[-1] * expansion, kernel=1)
    x = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _normalise(x, f"{name}_depthwise")
    x = _conv(x, f"{name}_project", channels, kernel=1, activate=False)
    if stride == 1 and shortcut.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _conv(x, name: str, channels: int, kernel: int, stride: int = 1, activate: bool = True):
    x = layers.Conv2D(
        channels, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return _normalise(x, name, activate)


def _normalise(x, name: str, activate: bool = True):
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu6")(x) if activate else x


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, never below nine tenths of the wish (the authors' rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
