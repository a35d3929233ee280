"""FedStale: between unbiased averaging and FedVARP, by how much old updates are believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.methods.base import Method
from fedray.parts.methods.fedvarp import corrected
from fedray.parts.methods.unbiased import Target, steady, targets


@dataclass(frozen=True, kw_only=True)
class FedStale(Method):
    """w <- w + beta sum_j p_j h_j + sum_S (p_i / pi_i) (delta_i - beta h_i); h_i <- delta_i."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fedstale",
        family="asynchronous",
        title="Leveraging stale client updates",
        paper="Rodio and Neglia 2024, FedStale: leveraging stale client updates in federated "
        "learning, algorithm 1 (arXiv 2405.04171)",
        rule="The server keeps the last update h_i of every client, 0 before the first. A version "
        "moves by beta sum_j p_j h_j over all clients, plus the sum over those that were heard of "
        "(p_i / pi_i) (delta_i - beta h_i), where pi_i is how often client i is heard per "
        "version; then h_i becomes delta_i. beta = 0 is unbiased FedAvg, beta = 1 FedVARP; the "
        "more clients differ in how often they are heard, the smaller beta should be. pi_i is "
        "worked out as for algorithm unbiased.",
        values={
            "method": {"kind": "fedstale", "beta": 0.5, "target": "examples"},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="Equal to an independent reference step by step, in rounds and on a stale schedule; "
        "beta = 0 is algorithm unbiased and beta = 1 with equal p_i is FedVARP.",
        differs="The paper has rounds only, and clients that take part independently of each "
        "other with known chances; here the chances follow from cohort, schedule and durations. "
        "What staleness and mixing leave of the updates, which the paper does not have, holds for "
        "the sum of the h_j, too. 0.5 is ours; the paper tunes beta.",
    )
    table: ClassVar[bool] = True
    server_vectors: ClassVar[int] = 1
    needs_frequency: ClassVar[bool] = True
    kind: Literal["fedstale"] = "fedstale"
    beta: Annotated[float, Ge(0), Le(1), Doc("how much updates of former versions count")] = 0.5
    target: Target = "examples"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        return steady(config)

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 1, the server's part."""
        p = targets(self.target, arrivals, server)
        factors = p / (server.frequency[arrivals.clients] * arrivals.shares)
        return corrected(arrivals, server, memory, factors=factors, p=p, beta=self.beta)
