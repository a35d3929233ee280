"""The coordinate-wise trimmed mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Lt

from fedray.parts.aggregators.base import ALONE, Comparing, Conflict, points, too_few
from fedray.parts.aggregators.ordered import of_ordered
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.types import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class TrimmedMean(Comparing):
    """Mean of what is left in every coordinate without the lowest and the highest values.

    Of K values ceil(trim K) go at each end (Yin et al. 2018). Needs `weighting: uniform`.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="trimmed_mean",
            title="Coordinate-wise trimmed mean",
            paper="Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal "
            "Statistical Rates, algorithm 1, option II, definition 2 (arXiv 1803.01498)",
            rule="In every coordinate the lowest and the highest trim K of the K values are left "
            "out, and the server moves by the mean of the others.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "weighting": "uniform",
                    "aggregator": {"kind": "trimmed_mean", "trim": 0.1},
                }
            },
            proof="Equal to a few lines of plain Python; with no more updates replaced than are "
            "trimmed at an end, it stays within the others' range in every coordinate.",
            differs="Where trim K is no whole number it is rounded up, so that a share of up to "
            "trim of attackers is always covered; Flower and SciPy round down, and so trim "
            "nothing of 7 updates at 0.1. With fewer updates than planned, at most all but the "
            "middle one or two are trimmed. A stale update counts as s(tau) delta.",
            family="robust",
            refuses={"async": ALONE},
        ),
    )
    kind: Literal["trimmed_mean"] = "trimmed_mean"
    trim: Annotated[
        float, Gt(0), Lt(0.5), Doc("share of values that is left out at each end, rounded up")
    ] = 0.1

    def cut(self, count: int) -> int:
        """Values that go at each end of `count`."""
        return math.ceil(self.trim * count - 1e-9)

    def conflict(self, count: int) -> Conflict | None:
        if 2 * self.cut(count) >= count > 2:
            return "trim", (
                f"{self.trim:g} leaves nothing of {count} updates, at each end "
                f"{self.cut(count)} would go"
            )
        return too_few(self.kind, count)

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The trimmed mean of s(tau_i) delta_i in every coordinate."""
        vectors, _ = points(arrivals)
        count = len(vectors)
        cut = min(self.cut(count), (count - 1) // 2)
        shares = np.full(count - 2 * cut, 1.0 / (count - 2 * cut), vectors.dtype)

        def trimmed(ordered: Matrix) -> Vector:
            return np.asarray(ordered[:, cut : count - cut] @ shares)

        return Combined(of_ordered(vectors, trimmed), arrivals.weights)
