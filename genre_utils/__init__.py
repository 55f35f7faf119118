"""Genres of a movie from its poster alone: data, networks, training, evaluation, prediction."""

__version__ = "0.1.0"
