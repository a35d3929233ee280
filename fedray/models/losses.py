"""Cross-entropy of a softmax, on logits as (C, n): class first, sample last.

Class first makes the reductions over classes run along contiguous samples, which is
what a step on a small minibatch spends its time on beside the two matrix products.
The maximum logit is subtracted first, so any finite logits are safe.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.types import Matrix, Vector

FLOAT32: np.dtype[Any] = np.dtype(np.float32)


def softmax_residual(Z: Matrix, y: NDArray[Any]) -> Vector:
    """Turns logits Z (C, n), in place, into the gradient of their mean cross-entropy.

    Z <- (softmax(Z) - onehot(y)) / n.

    Returns a read-only vector of n ones, for the caller's sum over samples (a dot
    product is cheaper than a reduction at these sizes). y (n,) int in [0, C), n >= 1.
    """
    ones, per_class, onehot = _constants(*Z.shape, Z.dtype)
    Z -= np.maximum.reduce(Z, axis=0)
    np.exp(Z, out=Z)
    total = np.dot(per_class, Z)
    total *= Z.shape[1]
    Z /= total
    Z -= onehot.take(y, axis=1)
    return ones


def cross_entropies(Z: Matrix, y: NDArray[Any]) -> Vector:
    """-log softmax(Z)[y] per sample, shape (n,). Z (C, n) is used up as scratch space."""
    Z -= np.maximum.reduce(Z, axis=0)
    picked = Z[y, np.arange(len(y))]
    np.exp(Z, out=Z)
    losses: Vector = np.log(np.add.reduce(Z, axis=0))
    losses -= picked
    return losses


def penalty(l2: float, *coefs: Matrix) -> float:
    """l2/2 * sum of squares of the given coefficients."""
    return 0.5 * l2 * sum(float(np.vdot(c, c)) for c in coefs) if l2 else 0.0


@lru_cache(maxsize=128)
def _constants(classes: int, samples: int, dtype: np.dtype[Any]) -> tuple[Vector, Vector, Matrix]:
    """ones (n,), ones (C,), and the identity (C, C) over n; shared, hence read-only."""
    found = (
        np.ones(samples, dtype),
        np.ones(classes, dtype),
        np.divide(np.eye(classes), samples).astype(dtype),
    )
    for array in found:
        array.flags.writeable = False
    return found
