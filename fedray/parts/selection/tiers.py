"""TiFL: clients in tiers of like latency, one tier per round."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc
from fedray.parts.selection.base import Pool, Selection, Selector
from fedray.types import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Tiers(Selection):
    """Clients are sorted by nominal job duration into tiers of equal size; a round takes one.

    Every `interval` rounds the tiers are asked how the model does on up to `evaluated` of their
    clients' shards. If the tier of the round before has not become better since the last time,
    chances are set anew: of T tiers that may be chosen, the t-th worst gets
    (T + 1 - t) / (T (T + 1) / 2). `credits` bounds the rounds of each tier; when all are used
    up, all get as many again. What is asked costs a model down and 8 bytes up per client, and
    no time: other clients answer while the round goes on.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="tifl",
        title="Tiers of like latency, one per round",
        paper="Chai et al. 2020, TiFL: A Tier-based Federated Learning System, algorithm 2 "
        "(arXiv 2001.09249)",
        rule="Clients are grouped by latency into tiers. Each round draws one tier by its chance, "
        "while it has credits left, and then clients of it uniformly, so that nobody waits for "
        "a much slower one. Chances start equal and are set anew, highest for the tier on whose "
        "data the model does worst, when the last tier's accuracy stopped rising.",
        values={
            "server": {
                "schedule": {"mode": "sync"},
                "clients_per_round": 0.1,
                "selection": {"kind": "tiers"},
            }
        },
        proof="Tiers, chances and credits by hand on five clients; the shares of rounds by "
        "counting.",
        differs="A tier's accuracy is measured on the shards of a sample of its clients, since "
        "clients have no test data of their own. The paper does not spell out the chances; ranks "
        "are used, so that every tier keeps one above 0. Tiers have equal numbers of clients, "
        "and latencies are nominal rather than profiled.",
        family="selection",
        refuses=dict.fromkeys(
            ("buffered", "async"), "a tier is one round's cohort, and there are no rounds"
        ),
    )
    kind: Literal["tiers"] = "tiers"
    tiers: Annotated[int, Ge(2), Doc("T: number of tiers, at most one per client")] = 5
    adaptive: Annotated[bool, Doc("chances follow the tiers' accuracy; false: stay equal")] = True
    interval: Annotated[Count, Doc("I: rounds between looks at the tiers' accuracy")] = 10
    evaluated: Annotated[Count, Doc("clients of each tier that say how the model does")] = 10
    credits: Annotated[
        Count | None, Doc("rounds that each tier may be chosen for; none: unbounded")
    ] = None

    @property
    def looks(self) -> bool:
        return self.adaptive

    @property
    def refuses(self) -> Mapping[str, str]:
        return self.ALGORITHM.refuses

    def selector(self, clients: int, seed: int) -> Selector:
        return _Tiered(rule=self)


def chances(scores: list[float]) -> list[float]:
    """New chances of T tiers: by rank, highest for the lowest score; ties: the slower tier."""
    count = len(scores)
    order = sorted(range(count), key=lambda t: (scores[t], -t))
    found = [0.0] * count
    for rank, tier in enumerate(order):
        found[tier] = (count - rank) / (count * (count + 1) / 2)
    return found


@dataclass(kw_only=True)
class _Tiered(Selector):
    """Remembers chances, credits used, the last tier, and the scores of the last look."""

    rule: Tiers

    def pick(self, pool: Pool, count: int) -> list[int]:
        tiers = self._tiers(pool.duration_s)
        if self.rule.adaptive and pool.version % self.rule.interval == 0:
            self._look(pool, tiers)
        for tier in self._in_random_order(pool):
            found = self._of(pool, tiers[tier], count)
            if found:
                used = self.memory.setdefault("used", [0] * self.rule.tiers)
                used[tier] += 1
                self.memory["last"] = tier
                return found
        return []

    def _tiers(self, duration_s: Floats) -> list[Ints]:
        """The clients of each tier, fastest tier first."""
        if not hasattr(self, "_sorted"):
            order = np.argsort(duration_s, kind="stable")
            self._sorted = [np.sort(part) for part in np.array_split(order, self.rule.tiers)]
        return self._sorted

    def _look(self, pool: Pool, tiers: list[Ints]) -> None:
        asked = [self._of(pool, members, self.rule.evaluated) for members in tiers]
        everyone = [client for members in asked for client in members]
        replies = dict(zip(everyone, pool.ask(everyone, wait=False), strict=True))
        before, last = self.memory.get("scores"), self.memory.get("last")
        scores = []
        for tier, members in enumerate(asked):
            for client in members:
                pool.give_back(client)
            if members:
                size = pool.sizes[members]
                told = np.array([replies[client].score for client in members])
                scores.append(float(size @ told / size.sum()))
            else:  # nobody of it can be reached now
                scores.append(before[tier] if before else 0.0)
        if before and last is not None and scores[last] <= before[last]:
            self.memory["chances"] = chances(scores)
        self.memory["scores"] = scores

    def _in_random_order(self, pool: Pool) -> list[int]:
        """The tiers that may be chosen, the drawn one first; then who stands in for it."""
        count, allowed = self.rule.tiers, self.rule.credits
        used = self.memory.setdefault("used", [0] * count)
        if allowed is not None and all(u >= allowed for u in used):
            used[:] = [0] * count
        weights = self.memory.get("chances") or [1.0 / count] * count
        left = [t for t in range(count) if allowed is None or used[t] < allowed]
        order = []
        while left:
            ladder = list(accumulate(weights[t] for t in left))
            at = bisect_right(ladder, pool.uniform() * ladder[-1])
            order.append(left.pop(min(at, len(left) - 1)))
        return order

    @staticmethod
    def _of(pool: Pool, members: Ints, count: int) -> list[int]:
        """Takes up to `count` free ones uniformly: the head of a random permutation."""
        found: list[int] = []
        moved: dict[int, int] = {}  # what stands elsewhere than at its own place
        for i in range(len(members)):
            if len(found) == count:
                break
            j = i + int(pool.uniform() * (len(members) - i))
            client = int(members[moved.get(j, j)])
            moved[j] = moved.get(i, i)
            if pool.free(client):
                pool.take(client)
                found.append(client)
        return found
