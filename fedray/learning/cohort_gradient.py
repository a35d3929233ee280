"""Asks clients for the gradient of a model before they train from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedray.learning.decomposition import shard_gradient
from fedray.learning.work import Work
from fedray.types import Federation, Floats, Ints, Vector


@dataclass(frozen=True)
class GradientBlock:
    """A question: sum_i share_i grad F_i(w) over some clients, (P,) in float64.

    Each on the whole shard, weight decay included, and by the labels that the client trains on.
    """

    w: Vector
    clients: Ints
    shares: Floats
    examples: int

    def __call__(self, work: Work, federation: Federation) -> Floats:
        total, gradient = np.zeros(len(self.w)), np.empty_like(self.w)
        with np.errstate(all="ignore"):
            for client, share in zip(self.clients.tolist(), self.shares.tolist(), strict=True):
                X, y = federation.shards.load(client)
                if work.attackers is not None:
                    y = work.attackers.labels(client, y)
                shard_gradient(work, self.w, X, y, gradient)
                total += share * gradient.astype(np.float64)
        return total
