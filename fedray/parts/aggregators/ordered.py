"""Order statistics of every parameter, a block of parameters at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedray.types import Matrix, Vector

_COLUMNS = 512
"""Parameters that are sorted at a time: of 100 updates they fit into a core's cache."""


def of_ordered(vectors: Matrix, statistic: Callable[[Matrix], Vector]) -> Vector:
    """`statistic` of the values of every parameter, which it is given in rising order: from
    (C, A) to (C,) for any C of the parameters (P,).

    Numpy sorts rows that lie together faster than columns, and than it finds quantiles.
    """
    found: Vector = np.empty_like(vectors[0])
    for start in range(0, len(found), _COLUMNS):
        block = np.ascontiguousarray(vectors[:, start : start + _COLUMNS].T)
        block.sort(axis=1)
        found[start : start + _COLUMNS] = statistic(block)
    return found
