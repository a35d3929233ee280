"""A weighted sum of updates whose bits do not depend on who adds up which part of it.

Floating-point addition is not associative, so the order is fixed by client numbers alone:
updates of clients in the same of 16 leaves are added in order of arrival, and leaves pairwise,
neighbours first; an empty one counts as nothing, not as zero. Whoever holds all updates of a
range of leaves can add those up beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from fedray.types import Floats, Ints, Matrix, Vector

LEVELS = 4
LEAVES = 1 << LEVELS
LONG = 1 << 14
"""Parameters from which on sums are made in parts."""

Node: TypeAlias = tuple[int, int]
"""(level, place): the leaves place * 2^level up to (place + 1) * 2^level."""
ROOT: Node = (LEVELS, 0)

_REVERSED = np.array([int(f"{i:0{LEVELS}b}"[::-1], 2) for i in range(LEAVES)])


def leaf(clients: Ints) -> Ints:
    """The leaf of each client. Bits are reversed, so that consecutive clients lie far apart."""
    return np.asarray(_REVERSED[np.asarray(clients) % LEAVES])


def total(updates: Matrix | Elsewhere, weights: Floats, clients: Ints) -> Vector:
    """sum_i weights_i updates_i (P,), in the precision of the updates (A, P).

    Short vectors are not worth a tree, nor parts: they are added up in one go.
    """
    if not isinstance(updates, np.ndarray):
        return updates.total(weights)
    if updates.shape[1] < LONG:
        return weights.astype(updates.dtype) @ updates
    if len(updates) == 1:
        return np.asarray(updates[0] * updates.dtype.type(weights[0]))
    with _one_thread():
        found = _below(ROOT, {}, _rows(updates, weights, clients))
    return np.zeros(updates.shape[1], updates.dtype) if found is None else found


def dots(updates: Matrix | Elsewhere, vector: Vector) -> Floats:
    """The inner product of each update with a vector, (A,), row by row."""
    if not isinstance(updates, np.ndarray):
        return updates.dots(vector)
    if updates.shape[1] < LONG:
        return np.asarray(updates @ vector)
    return np.array([np.dot(row, vector) for row in updates])


@contextmanager
def adding(size: int, dtype: np.dtype[Any]) -> Iterator[Callable[[Vector, Vector, float], None]]:
    """`add(total, row, weight)`: total += weight row in place, both (P,), without a temporary."""
    if size < LONG:

        def plainly(total: Vector, row: Vector, weight: float) -> None:
            total += dtype.type(weight) * row

        yield plainly
        return
    blas, _ = _blas()
    axpy = blas.saxpy if dtype == np.float32 else blas.daxpy

    def add(total: Vector, row: Vector, weight: float) -> None:
        axpy(row, total, a=weight)

    with _one_thread():
        yield add


def groups(updates: Matrix, weights: Floats, labels: Ints, count: int) -> Matrix:
    """sum_i weights_i updates_i over the updates with label 0, 1, ..., (count, P), in order of
    arrival; zeros where there are none. Every update is read once."""
    found = np.zeros((count, updates.shape[1]), updates.dtype)
    with adding(updates.shape[1], updates.dtype) as add:
        for i in np.argsort(labels, kind="stable").tolist():
            add(found[labels[i]], updates[i], weights[i])
    return found


def part_sums(
    updates: Matrix, weights: Floats, clients: Ints, first: int, last: int
) -> dict[Node, Vector]:
    """The same for the updates of the leaves `first` to `last` - 1, all of which are here: the
    largest sums that the whole can be made from, see `merge`."""
    rows = _rows(updates, weights, clients)
    with _one_thread():
        sums = {node: _below(node, {}, rows) for node in _covering(first, last)}
    return {node: total for node, total in sums.items() if total is not None}


def merge(parts: Mapping[Node, Vector]) -> Vector | None:
    """The whole sum from parts that do not overlap; None where there are none."""
    return _below(ROOT, parts, _NONE)


def leaves_of(actor: int, actors: int) -> tuple[int, int]:
    """(first, last + 1) of the leaves with leaf * actors // LEAVES == actor."""
    return -(-actor * LEAVES // actors), -(-(actor + 1) * LEAVES // actors)


class Elsewhere(Protocol):
    """Updates (A, P) that are where they were made; `np.asarray` fetches them."""

    def total(self, weights: Floats) -> Vector:
        """See `total`."""

    def dots(self, vector: Vector) -> Floats:
        """See `dots`."""


class Scaled:
    """Updates (A, P) times factors (A,), multiplied out only for who looks; an `Elsewhere`."""

    def __init__(self, updates: Matrix, factors: Floats, clients: Ints) -> None:
        self._updates, self._factors, self._clients = updates, factors, clients

    def __len__(self) -> int:
        return len(self._updates)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Matrix:
        rows = self._updates * self._factors.astype(self._updates.dtype)[:, None]
        return rows if dtype is None else rows.astype(dtype)

    def __iter__(self) -> Iterator[Vector]:
        return iter(np.asarray(self))

    def total(self, weights: Floats) -> Vector:
        """sum_i weights_i factors_i updates_i (P,)."""
        return total(self._updates, weights * self._factors, self._clients)

    def dots(self, vector: Vector) -> Floats:
        """The inner product of each with a vector, (A,)."""
        return np.asarray(self._factors * dots(self._updates, vector))


class _Rows(NamedTuple):
    """Updates (A, P), weights (A,), and by leaf which of them belong to it."""

    updates: Matrix
    weights: Floats
    leaves: Mapping[int, list[int]]


_NONE = _Rows(np.empty((0, 0)), np.empty(0), {})


def _rows(updates: Matrix, weights: Floats, clients: Ints) -> _Rows:
    leaves: dict[int, list[int]] = {}
    for row, place in enumerate(leaf(clients).tolist()):
        leaves.setdefault(place, []).append(row)
    return _Rows(updates, weights, leaves)


def _below(node: Node, parts: Mapping[Node, Vector], rows: _Rows) -> Vector | None:
    """The sum below a node, from parts or from rows; None where nothing is."""
    if node in parts:
        return parts[node]
    level, place = node
    if not parts and not any(place == leaf >> level for leaf in rows.leaves):
        return None
    if level == 0:
        return _leaf_sum(rows, rows.leaves[place]) if place in rows.leaves else None
    left, right = (_below((level - 1, 2 * place + side), parts, rows) for side in (0, 1))
    if left is None or right is None:
        return right if left is None else left
    return np.asarray(left + right)


@cache
def _blas() -> tuple[Any, Any]:
    """SciPy's BLAS, and a handle on its threads. It is not numpy's, and loaded late: limits that
    were set before do not reach it, and threads that wait for each other make a sum take many
    times as long wherever cores are busy."""
    from scipy.linalg import blas
    from threadpoolctl import ThreadpoolController

    return blas, ThreadpoolController()


def _one_thread() -> AbstractContextManager[object]:
    found: AbstractContextManager[object] = _blas()[1].limit(limits=1)
    return found


def _leaf_sum(rows: _Rows, members: list[int]) -> Vector:
    blas, _ = _blas()
    first, *others = members
    total = rows.updates[first] * rows.updates.dtype.type(rows.weights[first])
    axpy = blas.saxpy if total.dtype == np.float32 else blas.daxpy
    for row in others:
        total = axpy(rows.updates[row], total, a=rows.weights[row])
    return np.asarray(total)


def _covering(first: int, last: int) -> list[Node]:
    """The fewest nodes that make up a range of leaves, in order."""
    found = []
    while first < last:
        level = 0
        while first % (2 << level) == 0 and first + (2 << level) <= last and level < LEVELS:
            level += 1
        found.append((level, first >> level))
        first += 1 << level
    return found
