"""All clients alike."""

from __future__ import annotations

import numpy as np

from fedray.config.schema import ConceptShiftPartition, FeatureShiftPartition, IidPartition
from fedray.data.partition.checks import require_classes, require_samples
from fedray.rng import Stream, generator
from fedray.types import Dataset, Ints


def split_iid(
    config: IidPartition | FeatureShiftPartition | ConceptShiftPartition, data: Dataset, seed: int
) -> Ints:
    """Samples shuffled and dealt out in turn: sizes differ by one at most.

    Also the split below feature_shift and concept_shift, which change the samples afterwards.
    """
    require_samples(data, config.clients)
    if isinstance(config, ConceptShiftPartition):
        require_classes(data, config.scheme)
    n = len(data.y)
    owner = np.empty(n, dtype=np.int64)
    owner[generator(seed, Stream.PARTITION).permutation(n)] = np.arange(n) % config.clients
    return owner
