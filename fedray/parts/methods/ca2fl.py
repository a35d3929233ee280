"""CA2FL: a buffer of updates is calibrated by the last update of everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.methods.base import Method, unlike
from fedray.parts.methods.fedvarp import corrected


@dataclass(frozen=True, kw_only=True)
class Ca2fl(Method):
    """v = 1/N sum_j h_j + 1/K sum_i (delta_i - h_i); w <- w + lr v; THEN h_i <- delta_i."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="ca2fl",
        family="asynchronous",
        title="Cached update calibration",
        paper="Wang et al. 2024, Tackling the Data Heterogeneity in Asynchronous Federated "
        "Learning with Cached Update Calibration, algorithm 2 (ICLR 2024, openreview 4aywmeb97I)",
        rule="The server keeps the last update h_i of every client, 0 before the first. When K = "
        "buffer_size updates have arrived, w <- w + lr v with v = mean of h over all N clients, "
        "plus the mean over the buffer of delta_i - h_i; only then h_i becomes delta_i for those "
        "in the buffer. Clients that are seldom heard so count with what they last said.",
        values={
            "method": {"kind": "ca2fl"},
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "buffered",
                    "buffer_size": 10,
                    "staleness_weight": {"kind": "constant"},
                },
            },
        },
        proof="Equal to an independent reference step by step on a stale schedule, and not to the "
        "one that updates h before it is averaged; comes to rest where synchronous FedAvg with "
        "all clients does, which FedBuff misses when clients differ in speed.",
        differs="It is FedVARP's rule over a buffer, and in mode sync it is FedVARP. The paper "
        "does not say what holds for a client who is in a buffer twice: here both his updates are "
        "calibrated by the h_i of before, and the later one is kept. A port (FLGo) replaces h_i at "
        "every arrival. Staleness weights, which the paper does not have, shorten the "
        "whole step.",
    )
    table: ClassVar[bool] = True
    server_vectors: ClassVar[int] = 1
    kind: Literal["ca2fl"] = "ca2fl"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """The mean of h is a plain one."""
        return unlike(config, "the cache counts all clients alike")

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 2, the server's part."""
        ones = np.ones(len(arrivals.clients))
        return corrected(arrivals, server, memory, factors=ones, p=ones / server.clients)
