"""What the mathematics of an algorithm takes at the server, in bare numpy and BLAS.

Each function makes one version's arithmetic and memory traffic from updates (K, P) and nothing
else: no checks, no records, no order of summation to keep. It is what `server.py` holds an
algorithm's time against. Sums of K updates are one matrix-vector product, as in `weighted_sum`;
where a vector is needed more than once it is while it is in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.linalg import blas

from fedray import rng
from fedray.types import Matrix

_COLUMNS, _MULTIPLIED = 512, 1 << 14


def weighted_sum(updates: Matrix, _: Matrix) -> None:
    """FedAvg: every update is read once."""
    _shares(updates) @ updates


def two_sums(updates: Matrix, others: Matrix) -> None:
    """Every client sends a second vector, which is summed too."""
    _shares(updates) @ updates
    _shares(others) @ others


def table(updates: Matrix, others: Matrix) -> None:
    """y <- y + a (delta_i - h_i); h_i <- delta_i: two rows are read and one is written."""
    total, less = np.zeros_like(updates[0]), np.empty_like(updates[0])
    share = 1.0 / len(updates)
    for delta, known in zip(updates, others, strict=True):
        np.subtract(delta, known, out=less)
        blas.saxpy(less, total, a=share)
        known[:] = delta


def clipped_and_noised(updates: Matrix, _: Matrix) -> None:
    """Lengths before the sum, which they weigh in, and P Gaussian numbers."""
    squares = np.array([np.dot(delta, delta) for delta in updates])
    noisy = (_shares(updates) / np.sqrt(squares)) @ updates
    noisy += rng.generator(0, rng.Stream.NOISE).standard_normal(len(noisy))


def around_a_centre(updates: Matrix, others: Matrix) -> None:
    """Distances from v before the sum, which they weigh in."""
    v, less = others[0], np.empty_like(updates[0])
    squares = np.empty(len(updates), np.float32)
    for i, delta in enumerate(updates):
        np.subtract(delta, v, out=less)
        squares[i] = np.dot(less, less)
    (_shares(updates) / np.sqrt(squares)) @ updates


def ordered(updates: Matrix, _: Matrix) -> None:
    """The K values of every parameter are brought together and sorted."""
    for start in range(0, updates.shape[1], _COLUMNS):
        np.ascontiguousarray(updates[:, start : start + _COLUMNS].T).sort(axis=1)


def all_pairs(updates: Matrix, _: Matrix) -> None:
    """K (K + 1) / 2 inner products in float64, as a difference of large numbers needs them, and
    a sum."""
    products = np.zeros((len(updates), len(updates)))
    for start in range(0, updates.shape[1], _MULTIPLIED):
        piece = updates[:, start : start + _MULTIPLIED].astype(np.float64)
        products += piece @ piece.T
    _shares(updates) @ updates


def pairs_of_buckets(updates: Matrix, others: Matrix) -> None:
    """Means of two updates each, and of these all pairs."""
    half = len(updates) // 2
    all_pairs(0.5 * (updates[:half] + updates[half : 2 * half]), others)


def pairs_and_ordered(updates: Matrix, others: Matrix) -> None:
    """All pairs, and the order of those that are picked, about a half."""
    all_pairs(updates, others)
    ordered(updates[: len(updates) // 2], others)


def a_version_each(updates: Matrix, others: Matrix) -> None:
    """w <- w + a (delta_i + w_base - w), a new vector every time, since clients start from it."""
    base = w = others[0]
    a = w.dtype.type(0.5)
    for delta in updates:
        less = base - w
        less += delta
        less *= a
        w = w + less


def _shares(updates: Matrix) -> np.ndarray:
    return np.full(len(updates), 1.0 / len(updates), updates.dtype)


class Demand(NamedTuple):
    """What an algorithm's definition asks for beyond one weighted sum."""

    why: str
    bare: Callable[[Matrix, Matrix], None]


_PAIRS = Demand("all pairs of updates, in float64", all_pairs)
_ORDERED = Demand("order statistics of every parameter", ordered)
_TABLE = Demand("a vector per client is read, and replaced", table)
_NOISED = Demand("lengths before the sum; Gaussian noise", clipped_and_noised)
_TWICE = Demand("a second vector per update", two_sums)

DEMANDS: Mapping[str, Demand] = {
    "fedasync": Demand("a version per update", a_version_each),
    "scaffold": _TWICE,
    "mimelite": _TWICE,
    **dict.fromkeys(("fedvarp", "mifa", "ca2fl", "fedstale"), _TABLE),
    "median": _ORDERED,
    "trimmed_mean": _ORDERED,
    **dict.fromkeys(("krum", "multi_krum", "rfa"), _PAIRS),
    "bulyan": Demand("all pairs, and order statistics", pairs_and_ordered),
    "bucketing": Demand("all pairs of buckets", pairs_of_buckets),
    "centered_clipping": Demand("distances before the sum", around_a_centre),
    **dict.fromkeys(("dp_fedavg", "dp_fedavg_adaptive"), _NOISED),
}
"""Of those that may take more than 1.5 times FedAvg's time."""
