"""A well-known mistake, to be measured against the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fedray.parts import summation
from fedray.parts.aggregators.base import Aggregator
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.types import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Pairwise(Aggregator):
    """The naive running average g <- (g + l) / 2 over clients in order.

    Three clients end up with weights 1/4, 1/4, 1/2: a well-known mistake, here to be
    measured against the proper mean. Needs `weighting: uniform`.
    """

    linear: ClassVar[bool] = True
    kind: Literal["pairwise"] = "pairwise"

    @property
    def weighted(self) -> bool:
        return False

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The last client weighs 1/2, the one before 1/4, and the first two the same.

        The weights count only through staleness, as factors (uniform shares are 1/K).
        """
        weights = pairwise_weights(arrivals.clients) * arrivals.weights * len(arrivals.weights)
        return Combined(summation.total(arrivals.updates, weights, arrivals.clients), weights)


def pairwise_weights(clients: Ints) -> Floats:
    """What `Pairwise` multiplies each update with: 2^-(K-k) for the k-th client, k >= 2."""
    k = len(clients)
    by_rank = 0.5 ** np.arange(k, 0, -1.0)
    by_rank[0] *= 2.0
    weights = np.empty(k)
    weights[np.argsort(clients, kind="stable")] = by_rank
    return weights
