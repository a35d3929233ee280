"""What every client holds back from training, to test on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.data.shards import ArrayShards
from fedray.rng import Stream, generator
from fedray.types import Federation, Ints, Matrix, Shards

Mask = NDArray[np.bool_]


def hold_out(federation: Federation, fraction: float, seed: int) -> Federation:
    """The same federation, whose clients train on part of their shards and test on the rest.

    `label_counts` and `heterogeneity` stay those of the whole shards. Shards left in files are
    divided when they are read.
    """
    shards = federation.shards
    if not isinstance(shards, ArrayShards):
        train, test = (PartOf(shards, fraction, seed, test=part) for part in (False, True))
        return replace(federation, shards=train, tests=test)
    clients = range(federation.clients)
    mask = np.concatenate([held_out(shards.load(c)[1], fraction, seed, c) for c in clients])
    return replace(federation, shards=_part(shards, ~mask), tests=_part(shards, mask))


def held_out(y: NDArray[Any], fraction: float, seed: int, client: int) -> Mask:
    """True for the samples (n,) of one client's shard that it tests on: a systematic sample by
    label, so that they are labelled as the rest is.

    n * fraction of them, rounded; at least one of two, and never all.
    """
    mask = np.zeros(len(y), bool)
    count = int(count_out(np.array(len(y)), fraction))
    if count:
        draws = generator(seed, Stream.CLIENT_SPLIT, client)
        shuffled = draws.permutation(len(y))
        order = shuffled[np.argsort(y[shuffled], kind="stable")]
        places = (np.arange(count) + draws.random()) * (len(y) / count)
        mask[order[np.minimum(places.astype(np.int64), len(y) - 1)]] = True
    return mask


def count_out(samples: Ints, fraction: float) -> Ints:
    """How many of each client's samples are held out, (N,)."""
    rounded = np.floor(samples * fraction + 0.5).astype(np.int64)
    return np.asarray(np.minimum(samples - 1, np.maximum(1, rounded)), np.int64)


@dataclass(frozen=True)
class PartOf:
    """The training or the test part of shards that are read when they are asked for."""

    whole: Shards
    fraction: float
    seed: int
    test: bool

    @property
    def sizes(self) -> Ints:
        """Samples per client, shape (clients,)."""
        whole = self.whole.sizes
        out = count_out(whole, self.fraction)
        return out if self.test else whole - out

    def load(self, client: int) -> tuple[Matrix, NDArray[Any]]:
        """The part of the client's X (n, d) and y (n,)."""
        X, y = self.whole.load(client)
        rows = held_out(y, self.fraction, self.seed, client) == self.test
        return X[rows], y[rows]


def _part(shards: ArrayShards, rows: Mask) -> ArrayShards:
    ends = np.concatenate([[0], np.cumsum(rows)])[shards.offsets]
    return ArrayShards(shards.X[rows], shards.y[rows], ends)
