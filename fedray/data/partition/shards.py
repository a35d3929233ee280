"""Few classes per client, by pieces of the sorted data."""

from __future__ import annotations

import numpy as np

from fedray.config.schema import ShardsPartition
from fedray.data.partition.checks import require_classes, require_samples
from fedray.errors import InputError
from fedray.rng import Stream, generator
from fedray.types import Dataset, Ints


def split_shards(config: ShardsPartition, data: Dataset, seed: int) -> Ints:
    """Sort by label, cut into clients x classes_per_client equal pieces, deal them out.

    McMahan et al. 2017, section 3. A piece may span a border between two classes, so a
    client can see a class or two more than it has pieces. We differ in shuffling within
    each class first, so that the order of the file has no say.
    """
    require_classes(data, config.scheme)
    require_samples(data, config.clients)
    n, pieces = len(data.y), config.clients * config.classes_per_client
    if pieces > n:
        raise InputError(
            f"{config.clients} clients x {config.classes_per_client} pieces are more than the "
            f"{n} training samples",
            key="partition.classes_per_client",
        )
    rng = generator(seed, Stream.PARTITION)
    shuffled = rng.permutation(n)
    order = shuffled[np.argsort(data.y[shuffled], kind="stable")]
    dealt = rng.permutation(pieces) // config.classes_per_client
    owner = np.empty(n, dtype=np.int64)
    owner[order] = dealt[np.arange(n) * pieces // n]
    return owner
