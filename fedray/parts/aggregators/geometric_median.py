"""The geometric median, by smoothed Weiszfeld steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.aggregators.base import ALONE, Aggregator, Conflict, points, too_few
from fedray.parts.aggregators.distances import gram
from fedray.parts.aggregators.mean import weighted_sum
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, Positive
from fedray.types import Floats

_SETTLED = 1e-12


@dataclass(frozen=True, kw_only=True)
class GeometricMedian(Aggregator):
    """The point with the least weighted sum of distances to the updates (Pillutla et al. 2022).

    From the mean on, v <- sum_i beta_i x_i / sum_i beta_i with
    beta_i = p_i / max(smoothing, |v - x_i|).
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="rfa",
            title="RFA: the geometric median",
            paper="Pillutla et al. 2022, Robust Aggregation for Federated Learning, algorithm 2 "
            "(arXiv 1912.13445)",
            rule="The server moves by the v that minimises sum_i p_i |v - delta_i|, found by "
            "Weiszfeld's steps from the mean on: v <- sum_i beta_i delta_i / sum_i beta_i with "
            "beta_i = p_i / max(smoothing, |v - delta_i|), p_i = n_i / n.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "weighting": "examples",
                    "aggregator": {"kind": "geometric_median", "smoothing": 1e-6},
                }
            },
            proof="Equal to the paper's steps one by one; at the end the unit vectors to the "
            "updates cancel out; less than half of the weight, anywhere, moves it by no more than "
            "the bound of the breakdown point.",
            differs="The paper stops after 3 or 4 steps, as each of them costs secure aggregation "
            "once more. From the mean on that many leave an attacker 10,000 times as long as the "
            "others most of its influence. Here all updates are at hand, and steps go on until "
            "the weights settle; `iterations: 4` is the paper's. A stale update counts as "
            "s(tau) delta.",
            family="robust",
            refuses={"async": ALONE},
        ),
    )
    kind: Literal["geometric_median"] = "geometric_median"
    smoothing: Annotated[Positive, Doc("nu: a distance below it counts as it")] = 1e-6
    iterations: Annotated[
        Count, Doc("Weiszfeld steps, unless the weights settle before; the paper makes 4")
    ] = 200

    @property
    def needs_company(self) -> str | None:
        return ALONE

    def conflict(self, count: int) -> Conflict | None:
        return too_few(self.kind, count)

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The geometric median of s(tau_i) delta_i under the shares; of one update, itself."""
        vectors, factors = points(arrivals)
        found = self.weights(gram(vectors), arrivals.shares)
        kept = found > 0
        return Combined(weighted_sum(vectors[kept], found[kept]), found * factors)

    def weights(self, products: Floats, p: Floats) -> Floats:
        """What each vector weighs in the median, (A,), summing to 1.

        All steps stay in the span of the vectors, so that their products (A, A) suffice:
        |v - x_i|^2 = G_ii - 2 (G a)_i + a.G a for v = sum_i a_i x_i.
        """
        near = np.isfinite(np.diag(products))  # what is beyond float64 has no pull at all
        p = np.where(near, p, 0.0) if near.any() else p
        products = np.where(near[:, None] & near[None], products, 0.0)
        a = p / p.sum()
        for _ in range(self.iterations):
            pull = products @ a
            squared = np.diag(products) - 2.0 * pull + a @ pull
            beta = p / np.maximum(np.sqrt(np.maximum(squared, 0.0)), self.smoothing)
            before, a = a, beta / beta.sum()
            if np.abs(a - before).max() < _SETTLED:
                break
        return np.asarray(a)
