"""Bulyan: Krum chooses, a trimmed mean around the median averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.aggregators.base import ALONE, Comparing, Conflict, points, stood, too_many
from fedray.parts.aggregators.distances import best_first, krum_scores, squared_distances
from fedray.parts.aggregators.ordered import of_ordered
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Index
from fedray.types import Floats, Ints, Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Bulyan(Comparing):
    """Krum picks K - 2 f updates one after the other; then a mean around their median.

    In every coordinate the K - 4 f values nearest to the median are averaged. Up to f of
    K >= 4 f + 3 updates may be an attacker's. Needs `weighting: uniform`.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="bulyan",
            title="Bulyan of Krum",
            paper="El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in "
            "Byzantium, section 4 (arXiv 1802.07927)",
            rule="Krum picks an update, which leaves the set, and so on until theta = K - 2 f are "
            "picked. In every coordinate the server moves by the mean of the beta = theta - 2 f "
            "picked values that are nearest to their median. K >= 4 f + 3.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "weighting": "uniform",
                    "aggregator": {"kind": "bulyan", "f": "auto"},
                }
            },
            proof="Equal to a reference in plain loops, coordinate by coordinate; with f updates "
            "replaced by anything, it stays in every coordinate within the others' range or at "
            "most as far beyond as that is wide.",
            differs="Krum counts K' - f - 2 neighbours among the K' that are left, and at least "
            "one. With fewer than 4 f + 3 arrivals f is lowered to floor((K - 3) / 4). A stale "
            "update counts as s(tau) delta.",
            family="robust",
            refuses={"async": ALONE},
        ),
    )
    kind: Literal["bulyan"] = "bulyan"
    f: Annotated[
        Index | Literal["auto"],
        Doc("attackers among the K updates of a version that it shall stand; auto: (K - 3) / 4"),
    ] = "auto"

    def conflict(self, count: int) -> Conflict | None:
        return too_many(self.kind, self.f, count, 4)

    def stands(self, count: int) -> int:
        """Attackers among `count` updates that it allows for."""
        return stood(self.f, count, 4)

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """Bulyan of s(tau_i) delta_i. The weights on record are equal over those picked."""
        vectors, factors = points(arrivals)
        f = self.stands(len(vectors))
        picked = pick(squared_distances(vectors), arrivals.clients, f)
        weights = np.zeros(len(vectors))
        weights[picked] = factors[picked] / len(picked)
        return Combined(around_median(vectors[picked], len(picked) - 2 * f), weights)


def pick(squared: Floats, clients: Ints, f: int) -> Ints:
    """Krum's choice, K - 2 f times, each time of those left; indices in rising order."""
    left = np.arange(len(squared))
    for _ in range(max(1, len(squared) - 2 * f)):
        scores = krum_scores(squared[np.ix_(left, left)], f)
        left = np.delete(left, best_first(scores, clients[left])[0])
    return np.setdiff1d(np.arange(len(squared)), left)


def around_median(vectors: Matrix, count: int) -> Vector:
    """In every coordinate the mean of the `count` values nearest to the median, (P,).

    Sorted, these lie side by side: the window whose farther end is nearest to the median.
    """
    rows, window = len(vectors), np.arange(count)

    def nearest(ordered: Matrix) -> Vector:
        median = (ordered[:, (rows - 1) // 2] / 2 + ordered[:, rows // 2] / 2)[:, None]
        with np.errstate(over="ignore"):
            below = median - ordered[:, : rows - count + 1]
            above = ordered[:, count - 1 :] - median
        first = np.maximum(below, above, out=below).argmin(axis=1)
        near = np.take_along_axis(ordered, first[:, None] + window, axis=1)
        return np.asarray(near.mean(axis=1))

    return of_ordered(vectors, nearest)
