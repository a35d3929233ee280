"""Distances between updates, from one product of the whole array with itself."""

from __future__ import annotations

import numpy as np

from fedray.types import Floats, Ints, Matrix, Vector

_COLUMNS = 1 << 14
"""Parameters that are multiplied at a time: bounds the memory that float64 takes."""


def gram(vectors: Matrix) -> Floats:
    """G_ij = x_i . x_j of vectors (A, P), shape (A, A), summed in float64.

    In the vectors' own float32 a difference of large numbers, which a distance is in this form,
    would leave nothing of two updates that are close to each other.
    """
    found = np.zeros((len(vectors), len(vectors)))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, vectors.shape[1], _COLUMNS):
            piece = vectors[:, start : start + _COLUMNS].astype(np.float64)
            found += piece @ piece.T
    return found


def lengths(vectors: Matrix) -> Floats:
    """|x_i| of vectors (A, P), as the flight recorder has them; (A,)."""
    with np.errstate(over="ignore"):
        squared = np.array([np.dot(x, x) for x in vectors], np.float64)
        if not np.isfinite(squared).all():  # a float32 whose square is none
            beyond = ~np.isfinite(squared)
            squared[beyond] = [np.dot(x, x) for x in vectors[beyond].astype(np.float64)]
    return np.asarray(np.sqrt(squared))


def distances_from(centre: Vector, vectors: Matrix) -> Floats:
    """|x_i - v| of vectors (A, P) from v (P,), (A,), without an array of the differences."""
    room = np.empty_like(centre)
    with np.errstate(over="ignore"):
        squared = np.empty(len(vectors))
        for i, x in enumerate(vectors):
            np.subtract(x, centre, out=room)
            squared[i] = np.dot(room, room)
    found = np.sqrt(squared)
    beyond = ~np.isfinite(squared)
    found[beyond] = [lengths((x - centre)[None])[0] for x in vectors[beyond]]
    return found


def squared_distances(vectors: Matrix) -> Floats:
    """|x_i - x_j|^2 = G_ii + G_jj - 2 G_ij, (A, A); infinite on the diagonal.

    Infinite too for a vector whose square is beyond float64: it is far from everybody.
    """
    products = gram(vectors)
    squares = np.diag(products)
    with np.errstate(over="ignore", invalid="ignore"):
        found = squares[:, None] + squares[None] - 2.0 * products
    np.fill_diagonal(found, np.inf)
    return np.where(np.isnan(found), np.inf, np.maximum(found, 0.0))


def krum_scores(squared: Floats, f: int) -> Floats:
    """Sum of the squared distances to the A - f - 2 nearest others, at least to one; (A,).

    squared: (A, A) with an infinite diagonal.
    """
    near = max(1, len(squared) - f - 2)
    return np.asarray(np.sort(squared, axis=1)[:, :near].sum(axis=1))


def best_first(scores: Floats, clients: Ints) -> Ints:
    """Indices by score, the lowest first; of equals, the client with the lower number."""
    return np.lexsort((clients, scores))
