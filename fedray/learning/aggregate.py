"""Aggregators: many updates to one.

An aggregator is a function (updates (K, P), weights (K,), clients (K,)) -> (update (P,),
weights (K,) that the updates really had, for the record). Rows come in order of arrival;
the result does not depend on it, beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fedray.config import schema
from fedray.types import Floats, Ints, Matrix, Vector

Aggregate: TypeAlias = Callable[[Matrix, Floats, Ints], tuple[Vector, Floats]]


def mean(updates: Matrix, weights: Floats, clients: Ints) -> tuple[Vector, Floats]:  # noqa: ARG001
    """sum_i weights_i updates_i. Weights carry their normalisation with them."""
    return weights.astype(updates.dtype) @ updates, weights


def pairwise(updates: Matrix, weights: Floats, clients: Ints) -> tuple[Vector, Floats]:
    """The naive running average g <- (g + l) / 2, clients in order of their number.

    The last client weighs 1/2, the one before 1/4, and the first two the same: not a
    mean. `weights` count only through staleness, as factors (uniform shares are 1/K).
    """
    return mean(updates, pairwise_weights(clients) * weights * len(weights), clients)


def pairwise_weights(clients: Ints) -> Floats:
    """What `pairwise` multiplies each update with: 2^-(K-k) for the k-th client, k >= 2."""
    k = len(clients)
    by_rank = 0.5 ** np.arange(k, 0, -1.0)
    by_rank[0] *= 2.0
    weights = np.empty(k)
    weights[np.argsort(clients, kind="stable")] = by_rank
    return weights


AGGREGATORS: dict[type, Aggregate] = {
    schema.MeanAggregator: mean,
    schema.PairwiseAggregator: pairwise,
}
"""One line per aggregator; it enrols it in the conformance tests."""
