"""Grad-CAM, for all networks of this package on every Keras backend.

Written by hand, because no library computes it on TensorFlow, JAX and PyTorch alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops
from PIL import Image

from genre_utils.models import has_backbone
from genre_utils.networks import averaged_networks

# What turns a feature map, which knows places, into plain features, which do not.
POOLING = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten)


class GradCam:
    """Computes heat maps of what in a poster speaks for a genre (Selvaraju et al., ICCV 2017).

    The method looks at the last feature maps: a channel weighs as much as the genre's logit grows
    with it, and a place is as hot as its channels, so weighted, add up to. Our backbones pool
    several maps, fine and coarse, and an averaged model has several backbones: their heat is added
    up. Several threads may share one.
    """

    def __init__(self, network: keras.Model):
        """Take apart a network of pixels as `models` builds and averages them."""
        self._halves = [_halve(part) for part in averaged_networks(network)]
        self._one_at_a_time = Lock()  # not every backend's network may run in two threads

    def heat(self, pixels: np.ndarray, genres: Sequence[int]) -> np.ndarray:
        """Return a heat map a genre, float32 `(len(genres), height, width)`, from 0 to 1.

        `pixels` is one poster at the network's size, `(height, width, 3)` with values 0–255, and
        `genres` are positions in the network's output. The hottest place of a map is 1; a genre
        that nothing in the poster speaks for has a map of zeros.
        """
        heat = np.zeros((len(genres), *pixels.shape[:2]), np.float32)
        for half in self._halves:
            with self._one_at_a_time:
                maps = keras.tree.flatten(half.feature_extractor.predict_on_batch(pixels[None]))
                gradients = _logit_gradients(half.classifier, maps, genres)
            for of_map, gradient in zip(maps, gradients, strict=True):
                # Summed over its area: the mean of the heat is then what it adds to the logit.
                weights = gradient.sum(axis=(1, 2))
                heat += _enlarge(np.einsum("hwc,gc->ghw", of_map[0], weights), heat.shape[1:])
        heat = np.maximum(heat, 0)
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


class _Half(NamedTuple):
    """A network cut in two: from pixels to feature maps, and from these to logits."""

    feature_extractor: keras.Model
    classifier: keras.Model


def _halve(network: keras.Model) -> _Half:
    if isinstance(network, keras.Sequential):  # the small published network
        return _halve_chain(network)
    if not has_backbone(network):  # one of one's own
        maps = _last_maps(network)
        return _Half(keras.Model(network.input, maps), keras.Model(maps, network.output))
    backbone = network.get_layer("backbone")
    maps = _last_maps(backbone)
    pooled = keras.Model(maps, backbone.output)
    logits = network.get_layer("head")(pooled.output)
    return _Half(keras.Model(backbone.input, maps), keras.Model(pooled.inputs, logits))


def _last_maps(backbone: keras.Model) -> list[keras.KerasTensor]:
    """Return the fewest of the last feature maps that the backbone's output is computed from.

    Squeeze-and-excitation blocks pool earlier maps, too, but only to weigh channels.
    """
    maps = [layer.input for layer in backbone.layers if isinstance(layer, POOLING)]
    for count in range(1, len(maps)):
        with suppress(ValueError):  # Keras': the output needs more than these
            keras.Model(maps[-count:], backbone.output)
            return maps[-count:]
    return maps


def _halve_chain(network: keras.Sequential) -> _Half:
    # Its layers are joined anew: each was joined several times while the network grew.
    pixels = x = keras.Input(network.input_shape[1:])
    maps = []
    for layer in network.layers:
        if isinstance(layer, POOLING):
            maps = [x]
        x = layer(x)
    return _Half(keras.Model(pixels, maps), keras.Model(maps, x))


def _logit_gradients(
    classifier: keras.Model, maps: Sequence[np.ndarray], genres: Sequence[int]
) -> list[np.ndarray]:
    """Return each logit's gradient by each map, `(genres, height, width, channels)`."""
    # The poster stands in the batch once a genre, and each copy is asked for one logit.
    chosen = np.eye(classifier.output_shape[-1], dtype=np.float32)[list(genres)]
    copies = [np.repeat(of_map, len(chosen), axis=0) for of_map in maps]
    return _gradient(lambda tensors: ops.sum(ops.multiply(classifier(tensors), chosen)), copies)


def _gradient(function: Callable, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Differentiate a scalar function of tensors at `arrays`.

    The one place that names backends, because Keras has no gradient that belongs to all of them.
    """
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            value = function(tensors)
        gradients = tape.gradient(value, tensors)
    elif keras.backend.backend() == "jax":
        import jax

        gradients = jax.grad(function)(tensors)
    else:  # PyTorch's tensors differentiate themselves
        tensors = [tensor.requires_grad_() for tensor in tensors]
        function(tensors).backward()
        gradients = [tensor.grad for tensor in tensors]
    return [ops.convert_to_numpy(gradient) for gradient in gradients]


def _enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    images = [Image.fromarray(of_genre.astype(np.float32)) for of_genre in maps]
    return np.stack([image.resize((width, height), Image.Resampling.BICUBIC) for image in images])
