"""The heads of all networks of the release, in PyTorch: what `models.build_head` is in Keras."""

from __future__ import annotations

import numpy as np
from torch import nn

from genre_utils.genres import IMDB_GENRES

UNITS = 512


def new_head(features: int) -> nn.Sequential:
    """Build a head, from features `(n, features)` to logits `(n, 24)`, with random weights."""
    first, last = nn.Linear(features, UNITS), nn.Linear(UNITS, len(IMDB_GENRES))
    return nn.Sequential(nn.Dropout(0.3), first, nn.ReLU(), nn.Dropout(0.5), last)


def keras_arrays(head: nn.Sequential) -> list[np.ndarray]:
    """Return the arrays of a head in Keras' order and shapes: kernels are `(inputs, units)`."""
    layers = head[1], head[4]
    return [a.detach().numpy() for layer in layers for a in (layer.weight.T, layer.bias)]
