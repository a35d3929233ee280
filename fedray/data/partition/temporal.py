"""Clients that follow one another in time."""

from __future__ import annotations

import numpy as np

from fedray.config.schema import TemporalPartition
from fedray.data.partition.checks import require_samples
from fedray.errors import InputError, nearest
from fedray.types import Dataset, Ints


def split_temporal(config: TemporalPartition, data: Dataset, _seed: int) -> Ints:
    """Samples sorted by a feature (ties, and without one: in the order of the source), then
    cut into consecutive clients whose sizes differ by one at most.

    Raises InputError for a column that is no feature.
    """
    require_samples(data, config.clients)
    n = len(data.y)
    order = np.arange(n)
    if config.column is not None:
        if config.column not in data.features:
            raise InputError(
                f"no feature column {config.column!r}{nearest(config.column, data.features)}",
                key="partition.column",
            )
        order = np.argsort(data.X[:, data.features.index(config.column)], kind="stable")
    owner = np.empty(n, dtype=np.int64)
    owner[order] = np.arange(n) * config.clients // n
    return owner
