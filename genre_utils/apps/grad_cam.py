"""Grad-CAM, for all networks of this package on every Keras backend.

Written by hand, because no library computes it on TensorFlow, JAX and PyTorch alike.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from threading import Lock
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from genre_utils.networks import averaged_networks


class GradCam:
    """Computes heat maps of what in a poster speaks for a genre (Selvaraju et al., ICCV 2017).

    The method looks at the last feature maps: a channel weighs as much as the genre's logit grows
    with it, and a place is as hot as its channels, so weighted, add up to. Our backbones pool
    several maps, fine and coarse, and an averaged model has several backbones: their heat is added
    up. Several threads may share one.
    """

    def __init__(self, network: keras.Model):
        """Take apart a network of pixels as `models` builds and averages them.

        Raises `TypeError` for one that is not computed by Keras.
        """
        if not isinstance(network, keras.Model):
            raise TypeError(
                "Grad-CAM needs a network in Keras: load_model(folder, has_text=False).network, or "
                "that of Predictor.load(folder, runtime=False)."
            )
        self._halves = [_halve(part) for part in averaged_networks(network)]
        self._one_at_a_time = Lock()  # not every backend's network may run in two threads

    def heat(self, pixels: np.ndarray, genres: Sequence[int]) -> np.ndarray:
        """Return a heat map a genre, float32 `(len(genres), height, width)`, from 0 to 1.

        `pixels` is one poster at the network's size, `(height, width, 3)` with values 0–255, and
        `genres` are positions in the network's output. The hottest place of a map is 1; a genre
        that nothing in the poster speaks for has a map of zeros.
        """
        heat = np.zeros((len(genres), *pixels.shape[:2]), np.float32)
        for feature_extractor, classifier in self._halves:
            with self._one_at_a_time:
                maps = keras.tree.flatten(feature_extractor.predict_on_batch(pixels[None]))
                gradients = _logit_gradients(classifier, maps, genres)
            for of_map, gradient in zip(maps, gradients, strict=True):
                # Summed over its area: the mean of the heat is then what it adds to the logit.
                weights = gradient.sum(axis=(1, 2))
                coarse = np.einsum("hwc,gc->ghw", of_map[0], weights).astype(np.float32)
                for of_genre, small in zip(heat, map(Image.fromarray, coarse), strict=True):
                    of_genre += small.resize(of_genre.shape[::-1], Image.Resampling.BICUBIC)
        heat = np.maximum(heat, 0)
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def _halve(network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a network at the fewest of its last feature maps that the logits are computed from.

    Returns two networks: from pixels to these maps, and from the maps to logits.
    Squeeze-and-excitation blocks pool earlier maps, too, but only to weigh channels. The cut is at
    the pixels where no map is pooled.
    """
    order, pooled = {}, {}  # when each tensor was computed; those that are pooled

    def join(layer: keras.Layer, x: Any, *more: Any, **options: Any) -> Any:
        """Call a layer anew, of a model each of its layers, and note what is pooled."""
        if isinstance(layer, keras.Sequential):
            return reduce(lambda given, inner: join(inner, given), layer.layers, x)
        if isinstance(layer, keras.Model):
            # Not `clone_model`, whose answer begins at inputs of its own behind other layers.
            given = keras.tree.flatten(x)
            return layer._run_through_graph(given, operation_fn=lambda same: same, call_fn=join)
        output = layer(x, *more, **options)
        if _places(x) > 1 == _places(output):
            pooled[id(x)] = x
        order[id(output)] = len(order)
        return output

    pixels = keras.Input(network.input_shape[1:])
    logits = join(network, pixels)
    maps = sorted(pooled.values(), key=lambda x: order.get(id(x), -1)) or [pixels]
    for count in range(1, len(maps)):
        with suppress(ValueError):  # Keras': the logits need more than these
            return keras.Model(pixels, maps[-count:]), keras.Model(maps[-count:], logits)
    return keras.Model(pixels, maps), keras.Model(maps, logits)


def _places(x: Any) -> int:
    """Return how many places a feature map knows; 1 for plain features."""
    return x.shape[1] * x.shape[2] if getattr(x, "ndim", 0) == 4 else 1


def _logit_gradients(
    classifier: keras.Model, maps: Sequence[np.ndarray], genres: Sequence[int]
) -> list[np.ndarray]:
    """Return each logit's gradient by each map, `(genres, height, width, channels)`.

    The one place that names backends, because Keras has no gradient that belongs to all of them.
    """
    # The poster stands in the batch once a genre, and each copy is asked for one logit.
    chosen = np.eye(classifier.output_shape[-1], dtype=np.float32)[list(genres)]
    tensors = [ops.convert_to_tensor(np.repeat(of_map, len(chosen), axis=0)) for of_map in maps]

    def asked(tensors: Sequence[Any]) -> Any:
        return ops.sum(ops.multiply(classifier(tensors), chosen))

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            value = asked(tensors)
        none_is_zero = tensorflow.UnconnectedGradients.ZERO
        gradients = tape.gradient(value, tensors, unconnected_gradients=none_is_zero)
    elif keras.backend.backend() == "jax":
        import jax

        gradients = jax.grad(asked)(tensors)
    else:  # PyTorch's tensors differentiate themselves
        tensors = [tensor.requires_grad_() for tensor in tensors]
        asked(tensors).backward()
        gradients = [ops.zeros_like(one) if one.grad is None else one.grad for one in tensors]
    return [ops.convert_to_numpy(gradient) for gradient in gradients]
