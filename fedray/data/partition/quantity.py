"""Clients that differ in how much they have."""

from __future__ import annotations

import numpy as np

from fedray.config.schema import QuantityPartition
from fedray.data.partition.checks import require_samples
from fedray.rng import Stream, generator
from fedray.types import Dataset, Floats, Ints


def split_quantity(config: QuantityPartition, data: Dataset, seed: int) -> Ints:
    """min_samples each, and the rest in shares by the law; samples are drawn uniformly.

    dirichlet: shares ~ Dirichlet(alpha, ..., alpha) (Li et al. 2022, NIID-Bench: quantity
    skew; they redraw until the smallest client is large enough). power: share of rank r
    goes as r^-alpha, ranks dealt to clients at random (Zipf).
    """
    require_samples(data, config.clients, config.min_samples)
    n, clients = len(data.y), config.clients
    rng = generator(seed, Stream.PARTITION)
    if config.law == "dirichlet":
        share = rng.dirichlet(np.full(clients, config.alpha))
    else:
        share = rng.permutation(np.arange(1, clients + 1) ** -config.alpha)
    sizes = config.min_samples + apportion(n - clients * config.min_samples, share)
    owner = np.empty(n, dtype=np.int64)
    owner[rng.permutation(n)] = np.repeat(np.arange(clients), sizes)
    return owner


def apportion(total: int, share: Floats) -> Ints:
    """Whole numbers that add up to `total`, in proportion to `share`: largest remainders."""
    exact = total * share / share.sum()
    whole: Ints = np.floor(exact).astype(np.int64)
    short = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    return whole
