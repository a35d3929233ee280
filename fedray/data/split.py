"""Which samples are held out for the test set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.errors import InputError
from fedray.rng import Stream, generator
from fedray.types import Ints

Mask = NDArray[np.bool_]


def held_out(
    fraction: float,
    seed: int,
    *,
    y: NDArray[Any],
    classification: bool,
    client: Ints | None = None,
) -> Mask:
    """True for the samples of the test set, shape (n,); the others keep their order.

    Per client where clients are known, else stratified by class where that is possible, else
    uniformly at random. Raises InputError where training or test set would be empty.
    """
    if client is not None:
        test = _per_client(client, fraction, seed)
    else:
        test = _at_random(y, fraction, seed, classification)
    if not 0 < np.count_nonzero(test) < len(y):
        raise InputError(
            f"{fraction} of {len(y)} samples leaves no test or no training set",
            key="data.test_fraction",
        )
    return test


def _per_client(client: Ints, fraction: float, seed: int) -> Mask:
    """Every client gives its share within one sample, and keeps at least one for training.

    Systematic sampling: rows in random order within their client, and row r of all is held
    out where floor((r + 1) fraction) > floor(r fraction).
    """
    shuffled = generator(seed, Stream.SPLIT).permutation(len(client))
    order = shuffled[np.argsort(client[shuffled], kind="stable")]
    steps = np.floor(np.arange(len(client) + 1) * fraction)
    chosen = np.diff(steps) > 0
    chosen[np.flatnonzero(np.diff(client[order], prepend=-1))] = False
    test = np.zeros(len(client), dtype=bool)
    test[order[chosen]] = True
    return test


def _at_random(y: NDArray[Any], fraction: float, seed: int, classification: bool) -> Mask:
    """Stratified by class where every part can hold every class; single samples train."""
    from sklearn.model_selection import train_test_split

    test = np.zeros(len(y), dtype=bool)
    rows = np.arange(len(y))
    stratify = None
    if classification:
        counts = np.bincount(y)
        several = rows[counts[y] >= 2]
        parts = int(len(several) * fraction), int(len(several) * (1 - fraction))
        if min(parts) >= np.count_nonzero(counts >= 2):
            rows, stratify = several, y[several]
    if len(rows) >= 2:
        state = int(generator(seed, Stream.SPLIT).integers(2**31))
        _, chosen = train_test_split(
            rows, test_size=fraction, random_state=state, stratify=stratify
        )
        test[chosen] = True
    return test
