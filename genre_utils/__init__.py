"""Genres of a movie from its poster alone: data, networks, training, evaluation, prediction."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from genre_utils.support.lazy import lazy_names

if TYPE_CHECKING:
    from genre_utils.dataset import Dataset

__version__ = "0.2.0"
__all__ = ["Predictor", "build_model", "evaluate", "load_dataset"]

__getattr__ = lazy_names(
    __name__,
    {"evaluation": ["evaluate"], "models": ["build_model"], "predictor": ["Predictor"]},
)


def load_dataset(path: str | os.PathLike = "") -> Dataset:
    """Load the posters and genres of a folder or a CSV; `""` finds or downloads the public ones.

    Raises `DataError` where there are none; its message is one sentence.
    """
    from genre_utils import dataset, sources

    return dataset.load_dataset(sources.find_data(os.fspath(path)))
