"""Centered clipping: what is far from the aggregate before counts only in direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.aggregators.base import (
    MEDIAN_ALONE,
    Aggregator,
    Conflict,
    points,
    too_few,
)
from fedray.parts.aggregators.distances import distances_from
from fedray.parts.aggregators.mean import weighted_sum
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, Positive


@dataclass(frozen=True, kw_only=True)
class CenteredClipping(Aggregator):
    """From the aggregate before, a step that nobody pulls by more than `radius` / K.

    v <- v + 1/K sum_i (x_i - v) min(1, radius / |x_i - v|), and v is the aggregate
    (Karimireddy et al. 2021). Needs `weighting: uniform`.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="centered_clipping",
            title="Centered clipping with a memory",
            paper="Karimireddy et al. 2021, Learning from History for Byzantine Robust "
            "Optimization, algorithm 2 (arXiv 2012.10333)",
            rule="The server keeps the aggregate v of the version before, at first 0, and makes "
            "v <- v + 1/K sum_i (delta_i - v) min(1, radius / |delta_i - v|) of it, `iterations` "
            "times; then it moves by v.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "weighting": "uniform",
                    "aggregator": {"kind": "centered_clipping", "radius": "median"},
                }
            },
            proof="Equal to the formula over several versions; nobody moves the result by more "
            "than iterations radius / K; with an infinite radius it is the mean.",
            differs="The paper has a fixed radius of 10 / (1 - beta) for clients with momentum "
            "beta, in units of its gradients. `radius: median` takes the median of the distances "
            "from v instead, in every iteration, which suits updates of any length as long as "
            "most are honest; set a number for the paper's rule. A stale update counts as "
            "s(tau) delta. With a fixed radius it also works in mode async, whose group is the "
            "one update.",
            family="robust",
            refuses={"async": MEDIAN_ALONE},
        ),
    )
    kind: Literal["centered_clipping"] = "centered_clipping"
    radius: Annotated[
        Positive | Literal["median"],
        Doc("how far from v an update counts in full; median: of the distances from v"),
    ] = "median"
    iterations: Annotated[Count, Doc("clipped steps per version; the paper makes 1")] = 1

    @property
    def weighted(self) -> bool:
        return False

    @property
    def needs_company(self) -> str | None:
        return MEDIAN_ALONE if self.radius == "median" else None

    @property
    def server_vectors(self) -> int:
        return 1

    def conflict(self, count: int) -> Conflict | None:
        if self.radius == "median" and (found := too_few("median", count)):
            return "radius", found[1]
        return None

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """v after the clipped steps towards s(tau_i) delta_i; `memory` is v."""
        vectors, factors = points(arrivals)
        v = memory.get("v", np.zeros_like(vectors[0]))
        shares = np.full(len(vectors), 1.0 / len(vectors))
        for _ in range(self.iterations):
            far = distances_from(v, vectors)
            radius = np.median(far) if self.radius == "median" else self.radius
            shares = np.minimum(1.0, radius / np.maximum(far, 1e-300)) / len(vectors)
            v = v.dtype.type(1.0 - shares.sum()) * v + weighted_sum(vectors, shares)
        return Combined(v, shares * factors, {"v": v})
