"""A bound on the length of every update, then any rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.aggregators.base import MEDIAN_ALONE, Aggregator, Conflict, too_few
from fedray.parts.aggregators.bucketing import Bucketing
from fedray.parts.aggregators.distances import lengths
from fedray.parts.aggregators.mean import Mean
from fedray.parts.aggregators.rules import RULES
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Positive, one_of

if TYPE_CHECKING:
    from fedray.parts.aggregators.base import Aggregator as Rule
else:
    Rule = one_of((*RULES, Bucketing), "kind")


@dataclass(frozen=True, kw_only=True)
class NormBound(Aggregator):
    """delta_i / max(1, |delta_i| / bound), then the inner rule (Sun et al. 2019)."""

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (
        Algorithm(
            name="norm_bound",
            title="Norm bound on the updates",
            paper="Sun et al. 2019, Can You Really Backdoor Federated Learning?, section 4 "
            "(arXiv 1911.07963)",
            rule="An update that is longer than the bound is shortened to it: "
            "delta_i / max(1, |delta_i| / bound). Then the inner rule, here the mean, has its way.",
            values={
                "server": {
                    "schedule": {"mode": "sync"},
                    "aggregator": {
                        "kind": "norm_bound", "bound": "median", "inner": {"kind": "mean"},
                    },
                }
            },
            proof="Equal to the formula; no result of the mean is longer than the bound.",
            differs="The paper fixes the bound; `bound: median` takes the median length of the "
            "version's updates, so that half of them are shortened. It shortens the updates "
            "themselves, before the factor for their staleness. The paper's noise is not part of "
            "it. With a fixed bound it also works in mode async.",
            family="robust",
            refuses={"async": MEDIAN_ALONE},
        ),
    )  # fmt: skip
    kind: Literal["norm_bound"] = "norm_bound"
    bound: Annotated[
        Positive | Literal["median"],
        Doc("length that no update exceeds; median: of the lengths of the version's updates"),
    ] = "median"
    inner: Annotated[Rule, Doc("the rule over the shortened updates")] = field(default_factory=Mean)

    @property
    def weighted(self) -> bool:
        return self.inner.weighted

    @property
    def needs_company(self) -> str | None:
        return MEDIAN_ALONE if self.bound == "median" else self.inner.needs_company

    @property
    def server_vectors(self) -> int:
        return self.inner.server_vectors

    def conflict(self, count: int) -> Conflict | None:
        if self.bound == "median" and (found := too_few("median", count)):
            return "bound", found[1]
        if inner := self.inner.conflict(count):
            return f"inner.{inner[0]}", inner[1]
        return None

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The inner rule over the shortened updates."""
        norms = arrivals.norms
        if len(norms) != len(arrivals.updates):
            norms = lengths(arrivals.updates)
        bound = np.median(norms) if self.bound == "median" else self.bound
        shorter = np.minimum(1.0, bound / np.maximum(norms, 1e-300))
        # A factor on the weight is one on the vector to every rule, see `points`.
        return self.inner.combine(arrivals._replace(weights=arrivals.weights * shorter), memory)
