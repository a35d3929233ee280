"""GTG-Shapley: what each update adds to the aggregate, over the orders of arrival."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray import rng
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, NonNegative
from fedray.parts.quality.base import Bench, Quality, Subset, Verdict
from fedray.types import Floats


@dataclass(frozen=True, kw_only=True)
class Shapley(Quality):
    """s_i = max(0, phi_i), the Shapley value of update i in the version that is being made.

    phi_i = mean over orders of V(those before i, and i) - V(those before i), with V the
    validation score of the version that the server would make of these updates alone.
    A version whose V differs from the one before by at most `between` has no values: all are 0.
    Within an order, once V is within `within` of that of all, who is left adds nothing. Orders
    come in sweeps in which everybody is first once (guided sampling), until the values of two
    sweeps differ by less than `tolerance`, relatively, or `sweeps` are done; where all orders
    are no more than that, each is taken once and the values are exact.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="gtg_shapley",
        title="Updates weighted by their Shapley value",
        paper="Liu et al. 2022, GTG-Shapley: Efficient and Accurate Participant Contribution "
        "Evaluation in Federated Learning, algorithm 1 (arXiv 2109.02053)",
        rule="An update counts share_i max(0, phi_i)^gamma, with phi_i what it adds to the "
        "validation score of the aggregate, averaged over orders of the updates. Orders are "
        "sampled with everybody first equally often, and cut off where nothing is left to gain.",
        values={
            "server": {
                "schedule": {"mode": "sync"},
                "aggregator": {"kind": "mean"},
                "quality": {"kind": "shapley"},
            }
        },
        proof="Equal to the values over all subsets where it is not truncated; the values sum to "
        "what the version gained; dummies get 0, twins the same.",
        differs="The paper values clients and pays them; the weights are ours (as in ShapFed-WA, "
        "without its classes). Values are compared after whole sweeps, not after every order. "
        "Where nothing is gained, or nobody's value is above 0, updates count as without.",
        family="quality",
        refuses={"async": "every update makes a version of its own, alone"},
    )
    kind: Literal["shapley"] = "shapley"
    utility: Annotated[
        Literal["auto", "accuracy", "loss"],
        Doc("V: accuracy, or minus the loss; auto: accuracy, for a regression the loss"),
    ] = "auto"
    between: Annotated[NonNegative, Doc("a version that gains no more is not looked into")] = 0.01
    within: Annotated[NonNegative, Doc("an order ends when no more is left to gain")] = 0.001
    sweeps: Annotated[Count, Doc("sweeps of orders at most, as many orders each as updates")] = 10
    tolerance: Annotated[NonNegative, Doc("mean relative change of values that is enough")] = 0.05

    def scores(self, bench: Bench) -> Floats:
        return np.maximum(self.values(bench), 0.0)

    def values(self, bench: Bench) -> Floats:
        """phi (A,)."""
        count = len(bench.shares)
        game = _Game(bench, self.utility)
        nothing, everything = game.worth([(), tuple(range(count))])
        gained = everything - nothing
        if not math.isfinite(gained) or abs(gained) <= self.between:
            return np.zeros(count)
        if math.factorial(count) <= count * self.sweeps:
            added = self._walk(game, permutations(range(count)), everything)
            return np.asarray(added.mean(axis=0))
        total, before = np.zeros(count), np.zeros(count)
        for sweep in range(self.sweeps):
            total += self._walk(game, _orders(bench, sweep), everything).sum(axis=0)
            values = total / (count * (sweep + 1))
            scale = np.maximum(np.abs(values), 1e-12)
            if sweep and float(np.mean(np.abs(values - before) / scale)) < self.tolerance:
                break
            before = values
        return np.asarray(values)

    def _walk(self, game: _Game, orders: Iterable[Subset], everything: float) -> Floats:
        """What each update adds in each order, (orders, A).

        All orders go on side by side, so that what they ask for is scored together.
        """
        table = np.array(list(orders))
        added = np.zeros(table.shape)
        reached = np.full(len(table), game.worth([()])[0])
        for place in range(table.shape[1]):
            on = np.flatnonzero(np.abs(everything - reached) > self.within)
            if not len(on):
                break
            asked: list[Subset] = [tuple(sorted(table[o, : place + 1].tolist())) for o in on]
            now = np.array(game.worth(asked))
            added[on, table[on, place]] = now - reached[on]
            reached[on] = now
        return added


class _Game:
    """V of subsets, each asked for once."""

    def __init__(self, bench: Bench, utility: str) -> None:
        self._bench = bench
        accuracy = bench.classification if utility == "auto" else utility == "accuracy"
        self._of = (lambda v: v.accuracy) if accuracy else _gain
        self._known: dict[Subset, float] = {}

    def worth(self, subsets: list[Subset]) -> list[float]:
        new = sorted(set(subsets) - self._known.keys())
        if new:
            verdicts = self._bench.of(new)
            self._known |= dict(zip(new, map(self._of, verdicts), strict=True))
        return [self._known[subset] for subset in subsets]


def _gain(verdict: Verdict) -> float:
    return -min(verdict.loss, 1e30)


def _orders(bench: Bench, sweep: int) -> list[Subset]:
    """As many orders as there are updates: each is first in one, the others follow at random."""
    count = len(bench.shares)
    drawn = rng.generator(bench.seed, rng.Stream.QUALITY, bench.version, sweep)
    found = []
    for first in range(count):
        others = np.delete(np.arange(count), first)
        found.append((first, *drawn.permutation(others).tolist()))
    return found
