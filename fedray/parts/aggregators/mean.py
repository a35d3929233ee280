"""The weighted mean of the updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedray.parts import summation
from fedray.parts.aggregators.base import Aggregator
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.types import Floats, Matrix, Vector


def weighted_sum(updates: Matrix, weights: Floats) -> Vector:
    """sum_i weights_i updates_i (P,), in the precision of the updates (A, P)."""
    return weights.astype(updates.dtype) @ updates


@dataclass(frozen=True, kw_only=True)
class Mean(Aggregator):
    """Weighted mean of the updates."""

    linear: ClassVar[bool] = True
    kind: Literal["mean"] = "mean"

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """sum_i weights_i updates_i. Weights carry their normalisation with them."""
        weights = arrivals.weights
        return Combined(summation.total(arrivals.updates, weights, arrivals.clients), weights)
