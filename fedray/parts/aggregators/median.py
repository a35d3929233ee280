"""The coordinate-wise median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fedray.parts.aggregators.base import ALONE, Comparing, Conflict, points, too_few
from fedray.parts.aggregators.ordered import of_ordered
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.types import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Median(Comparing):
    """Coordinate-wise median (Yin et al. 2018): a minority of wild updates moves it little.

    Needs `weighting: uniform`.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="median",
            title="Coordinate-wise median",
            paper="Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal "
            "Statistical Rates, algorithm 1, option I, definition 1 (arXiv 1803.01498)",
            rule="In every coordinate the server moves by the median of the updates: "
            "w_k <- w_k + median_i delta_ik. For an even number it is the mean of the middle two.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "weighting": "uniform",
                    "aggregator": {"kind": "median"},
                }
            },
            proof="Equal to sorting each coordinate in plain Python; with less than half of the "
            "updates replaced by anything, it stays within the others' range in every coordinate.",
            differs="The paper takes medians of gradients after one step, this of updates after "
            "any number. A stale update counts as s(tau) delta.",
            family="robust",
            refuses={"async": ALONE},
        ),
    )
    kind: Literal["median"] = "median"

    def conflict(self, count: int) -> Conflict | None:
        return too_few(self.kind, count)

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The median of s(tau_i) delta_i in every coordinate; of two updates their mean."""
        vectors, _ = points(arrivals)
        low, high = (len(vectors) - 1) // 2, len(vectors) // 2

        def middle(ordered: Matrix) -> Vector:
            return np.asarray(ordered[:, low] / 2 + ordered[:, high] / 2)

        return Combined(of_ordered(vectors, middle), arrivals.weights)
