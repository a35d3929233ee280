"""Krum and Multi-Krum: the updates that have the closest company."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from fedray.parts.aggregators.base import ALONE, Comparing, Conflict, points, stood, too_many
from fedray.parts.aggregators.distances import best_first, krum_scores, squared_distances
from fedray.parts.aggregators.mean import weighted_sum
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, Index

_PAPER = (
    "Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient "
    "Descent, section 4 (arXiv 1703.02757)"
)
_FEWER = (
    " With fewer than 2 f + 3 arrivals, as dropouts or deadlines leave them, f is lowered to "
    "floor((K - 3) / 2). A stale update counts as s(tau) delta."
)


def _values(m: Any) -> Mapping[str, Any]:
    return {
        "server": {
            "schedule": {"mode": "sync"},
            "weighting": "uniform",
            "aggregator": {"kind": "krum", "f": "auto", "m": m},
        }
    }


@dataclass(frozen=True, kw_only=True)
class Krum(Comparing):
    """The update with the least sum of squared distances to its K - f - 2 nearest others.

    With m > 1 the mean of the m best (Multi-Krum). Up to f of K >= 2 f + 3 updates may be an
    attacker's. Needs `weighting: uniform`.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="krum",
            title="Krum: the update with the closest company",
            paper=_PAPER,
            rule="Of K updates each gets the sum of its squared distances to the K - f - 2 "
            "nearest others as its score, and the server moves by the one with the lowest. "
            "K >= 2 f + 3.",
            values=_values(1),
            proof="Equal to a double loop over pairs; never picks one of f far updates; distances "
            "hold in float32 far from the origin.",
            differs="Ties go to the client with the lowest number." + _FEWER,
            family="robust",
            refuses={"async": ALONE},
        ),
        Algorithm(
            name="multi_krum",
            title="Multi-Krum: the mean of the updates with the closest company",
            paper=_PAPER + ", m-Krum; m as in Damaskinos et al. 2019, AggregaThor",
            rule="Scores are Krum's, and the server moves by the plain mean of the m updates with "
            "the lowest; auto is m = K - f - 2.",
            values=_values("auto"),
            proof="Equal to a double loop over pairs; with m = K it is the mean, with m = 1 Krum.",
            differs="The paper leaves m open between Krum (1) and averaging (K)." + _FEWER,
            family="robust",
            refuses={"async": ALONE},
        ),
    )
    kind: Literal["krum"] = "krum"
    f: Annotated[
        Index | Literal["auto"],
        Doc("attackers among the K updates of a version that it shall stand; auto: (K - 3) / 2"),
    ] = "auto"
    m: Annotated[
        Count | Literal["auto"],
        Doc("average the m updates with the best scores; auto: K - f - 2 of K"),
    ] = 1

    def conflict(self, count: int) -> Conflict | None:
        if found := too_many(self.kind, self.f, count, 2):
            return found
        if self.m != "auto" and self.m > count:
            return "m", f"{self.m} is more than the {count} updates that versions are made from"
        return None

    def stands(self, count: int) -> int:
        """Attackers among `count` updates that it allows for."""
        return stood(self.f, count, 2)

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The mean of the m best of s(tau_i) delta_i."""
        vectors, factors = points(arrivals)
        count = len(vectors)
        f = self.stands(count)
        m = max(1, count - f - 2 if self.m == "auto" else min(self.m, count))
        scores = krum_scores(squared_distances(vectors), f)
        chosen = np.zeros(count)
        chosen[best_first(scores, arrivals.clients)[:m]] = 1.0 / m
        return Combined(_over_chosen(vectors, chosen), chosen * factors)


def _over_chosen(vectors: Any, weights: Any) -> Any:
    """The weighted sum without those that weigh nothing, whose numbers may be enormous."""
    kept = weights > 0
    return weighted_sum(vectors[kept], weights[kept])
