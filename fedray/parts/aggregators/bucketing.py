"""Bucketing: means of a few random updates each, then any rule over the means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from fedray import rng
from fedray.parts import summation
from fedray.parts.aggregators.base import ALONE, Aggregator, Conflict, points
from fedray.parts.aggregators.median import Median
from fedray.parts.aggregators.rules import RULES
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, one_of
from fedray.types import Ints

if TYPE_CHECKING:
    from fedray.parts.aggregators.base import Aggregator as Rule
else:
    Rule = one_of(RULES, "kind")


@dataclass(frozen=True, kw_only=True)
class Bucketing(Aggregator):
    """The inner rule over means of `size` random updates each (Karimireddy et al. 2022).

    Honest updates of different clients differ less once they are averaged in small groups, so
    that a rule mistakes fewer of them for an attacker's.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="bucketing",
            title="Bucketing before a robust rule",
            paper="Karimireddy et al. 2022, Byzantine-Robust Learning on Heterogeneous Datasets "
            "via Bucketing, algorithm 1 (arXiv 2006.09365)",
            rule="The updates are permuted at random, every `size` in a row are averaged, and the "
            "inner rule aggregates the ceil(K / size) means, of which up to f are spoilt.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "weighting": "uniform",
                    "aggregator": {
                        "kind": "bucketing", "size": 2, "inner": {"kind": "geometric_median"},
                    },
                }
            },
            proof="Equal to averaging by hand in the order of the permutation; size 1 is the inner "
            "rule, the mean inside is the mean; f attackers spoil at most f means.",
            differs="The permutation depends on the seed, the version and the clients' numbers "
            "alone. Where size does not divide K the last mean is of fewer. Shares by examples, "
            "which the paper does not have, weigh within a mean, and an inner rule with weights "
            "gets their sum. A stale update counts as s(tau) delta.",
            family="robust",
            refuses={"async": ALONE},
        ),
    )  # fmt: skip
    kind: Literal["bucketing"] = "bucketing"
    size: Annotated[int, Ge(1), Doc("s: updates that are averaged before the inner rule")] = 2
    inner: Annotated[Rule, Doc("the rule over the means")] = field(default_factory=Median)

    @property
    def weighted(self) -> bool:
        return self.inner.weighted

    @property
    def needs_company(self) -> str | None:
        return ALONE

    @property
    def server_vectors(self) -> int:
        return self.inner.server_vectors

    def conflict(self, count: int) -> Conflict | None:
        buckets = -(-count // self.size)
        if found := self.inner.conflict(buckets):
            key, why = found
            return f"inner.{key}", f"{why} (means of {self.size} of {count} updates)"
        return None

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The inner rule over the means, sum_i share_i x_i / sum_i share_i of each bucket."""
        vectors, factors = points(arrivals)
        bucket = buckets(arrivals, self.size)
        count = int(bucket.max()) + 1
        within = np.zeros((count, len(bucket)))
        within[bucket, np.arange(len(bucket))] = arrivals.shares
        shares = within.sum(axis=1)
        within /= shares[:, None]
        none = np.zeros(count, np.int64)
        means = Arrivals(
            updates=summation.groups(vectors, within.sum(axis=0), bucket, count),
            weights=shares,
            clients=np.arange(count), staleness=none, examples=none, steps=none,
            lr=np.zeros(count), losses=np.full(count, np.nan), shares=shares,
            version=arrivals.version, seed=arrivals.seed,
        )  # fmt: skip
        found = self.inner.combine(means, memory)
        return found._replace(weights=(found.weights @ within) * factors)


def buckets(arrivals: Arrivals, size: int) -> Ints:
    """Which bucket each update is in, (A,), whatever the order of arrival."""
    generator = rng.generator(arrivals.seed, rng.Stream.BUCKETS, arrivals.version)
    order = np.argsort(arrivals.clients, kind="stable")
    found = np.empty(len(order), np.int64)
    found[order[generator.permutation(len(order))]] = np.arange(len(order)) // size
    return found
