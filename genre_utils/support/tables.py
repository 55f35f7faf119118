"""Tables of labels and scores, checked before anything is computed of them."""

from __future__ import annotations

import numpy as np


def check_tables(labels: np.ndarray, *tables: np.ndarray) -> None:
    """Raise `ValueError` unless labels are 0 or 1, and tables of scores numbers of their shape.

    The shape is `(n, genres)`, with a poster and a genre or more.
    """
    for table in tables:
        if np.ndim(table) != 2 or np.shape(table) != np.shape(labels) or not np.size(table):
            raise ValueError(
                f"Labels are {np.shape(labels)} and scores {np.shape(table)}: give tables of one "
                "shape, (posters, genres), with a poster or more."
            )
        if not np.isfinite(table).all():
            raise ValueError("The scores hold what is no number: look at the network's outputs.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("The labels hold other values than 0 and 1.")
