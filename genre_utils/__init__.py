"""A film's genres from its poster: data, networks, training, evaluation, prediction."""

from genre_utils.support import lazy_names

__version__ = "0.2.0"
__all__ = ["Predictor", "build_model", "evaluate", "load_dataset"]

__getattr__ = lazy_names(
    __name__,
    dataset="load_dataset",
    evaluation="evaluate",
    models="build_model",
    predictor="Predictor",
)
