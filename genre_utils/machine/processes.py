"""Which of a training's processes this is, and how many there are."""

from __future__ import annotations


def process_index() -> int:
    """Return the number of this process, from 0; several train together on JAX only."""
    import keras

    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def process_count() -> int:
    """Return how many processes, one a host, train together."""
    import keras

    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()
