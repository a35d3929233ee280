"""Clients that see the world in their own way: changes of samples after an IID split.

Samples are sorted by client and changed in place; test samples stay as they are. Draws go
through the clients in order, so the first clients do not depend on how many follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.schema import ConceptShiftPartition, FeatureShiftPartition
from fedray.data.heterogeneity import client_blocks
from fedray.errors import InputError
from fedray.rng import Stream, generator
from fedray.types import Ints, Matrix


def shift_features(config: FeatureShiftPartition, X: Matrix, offsets: Ints, seed: int) -> None:
    """Changes X (n, d) by client, in place.

    noise: client i = 0..N-1 adds N(0, sd^2) with sd = strength i / (N - 1) to every number
    (Li et al. 2022, NIID-Bench: feature noise). scale: client i multiplies by
    exp(strength z_i), z_i ~ N(0, 1). rotation: features are paired at random, the same
    pairs for all; client i turns pair j by an angle ~ U(-1, 1) strength pi (rotated inputs
    as in Ghosh et al. 2020, for features without a picture's geometry). Raises InputError
    for a rotation of one feature.
    """
    _FEATURE_SHIFTS[config.shift](X, offsets, config.strength, seed)


def _noise(X: Matrix, offsets: Ints, strength: float, seed: int) -> None:
    rng = generator(seed, Stream.SHIFT)
    clients = len(offsets) - 1
    level = strength * np.arange(clients) / max(1, clients - 1)
    for rows, client in _rows(offsets, X.shape[1]):
        X[rows] += level[client][:, None] * rng.standard_normal(X[rows].shape)


def _scale(X: Matrix, offsets: Ints, strength: float, seed: int) -> None:
    factor = np.exp(strength * generator(seed, Stream.SHIFT).standard_normal(len(offsets) - 1))
    for rows, client in _rows(offsets, X.shape[1]):
        X[rows] *= factor[client][:, None]


def _rotate(X: Matrix, offsets: Ints, strength: float, seed: int) -> None:
    d = X.shape[1]
    if d < 2:
        raise InputError(
            "rotation needs at least two features, the data has one", key="partition.shift"
        )
    pairs = generator(seed, Stream.SHIFT, 1).permutation(d)[: d - d % 2].reshape(2, -1)
    rng = generator(seed, Stream.SHIFT)
    for first, last in client_blocks(offsets, d):
        angle = rng.uniform(-1, 1, (last - first, pairs.shape[1])) * strength * np.pi
        client = np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
        rows = slice(offsets[first], offsets[last])
        a, b = X[rows, pairs[0]], X[rows, pairs[1]]
        cos, sin = np.cos(angle)[client], np.sin(angle)[client]
        X[rows, pairs[0]] = cos * a - sin * b
        X[rows, pairs[1]] = sin * a + cos * b


_FEATURE_SHIFTS: Mapping[str, Callable[[Matrix, Ints, float, int], None]] = {
    "noise": _noise,
    "scale": _scale,
    "rotation": _rotate,
}


def shift_labels(
    config: ConceptShiftPartition, y: NDArray[Any], offsets: Ints, classes: int, seed: int
) -> float:
    """Permutes y (n,) by client, in place; returns the share of samples that changed.

    Every class of a client takes part with probability `severity`; those that do are
    moved along one random cycle, so each of them becomes another class (a single one stays).
    Permuted labels per client: Ghosh et al. 2020; Jothimurugesan et al. 2023.
    """
    rng = generator(seed, Stream.SHIFT)
    changed = 0
    for first, last in client_blocks(offsets, classes):
        moved = _cycles(rng.random((2, last - first, classes)), config.severity)
        client = np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
        rows = slice(offsets[first], offsets[last])
        shifted = moved[client, y[rows]]
        changed += int(np.count_nonzero(shifted != y[rows]))
        y[rows] = shifted
    return changed / len(y)


def _cycles(draws: NDArray[np.float64], severity: float) -> Ints:
    """A permutation of the classes per client (clients, classes), from draws (2, ...)."""
    part, key = draws[0] < severity, draws[1]
    clients, classes = part.shape
    # Those that take part come first, in random order; each is sent to its successor.
    order = np.argsort(np.where(part, key, 2.0), axis=1, kind="stable")
    many = part.sum(axis=1)[:, None]
    place = np.broadcast_to(np.arange(classes), (clients, classes))
    follower = np.where(place < many, (place + 1) % np.maximum(many, 1), place)
    moved = np.empty((clients, classes), dtype=np.int64)
    np.put_along_axis(moved, order, np.take_along_axis(order, follower, axis=1), axis=1)
    return moved


def _rows(offsets: Ints, width: int) -> Iterator[tuple[slice, Ints]]:
    """Blocks of rows with the client of every row."""
    for first, last in client_blocks(offsets, width):
        sizes = np.diff(offsets[first : last + 1])
        yield slice(offsets[first], offsets[last]), np.repeat(np.arange(first, last), sizes)
