"""MIFA: who cannot be reached takes part with the last update that he sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.methods.base import Method, unlike
from fedray.parts.methods.fedvarp import once


@dataclass(frozen=True, kw_only=True)
class Mifa(Method):
    """G_i <- delta_i / lr for i in S; w <- w + lr mean of G over all that ever answered."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="mifa",
        title="Memory against unavailable clients",
        paper="Gu et al. 2021, Fast Federated Learning in the Presence of Arbitrary Device "
        "Unavailability, algorithm 1 (arXiv 2106.04159)",
        rule="The server keeps G_i = delta_i / lr from the last time that each client answered, "
        "and every round moves by lr times the mean of all G_i, of those who took part in it and "
        "of those who did not. lr is the local step size.",
        values={
            "method": {"kind": "mifa"},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="With one client of several at a time it settles at the fixed point that FedAvg has "
        "with all of them; equal to an independent reference step by step, with step sizes that "
        "decay too; with all clients it is FedAvg.",
        differs="The paper has all clients take part in the first round; here the mean is over "
        "those who have answered so far, which is the same from the first full round on. Ports "
        "that count the others as zeros make the first steps too short. In buffered and async "
        "modes, which the paper does not have, every version moves by the mean of the table, "
        "times what staleness and mixing leave of the updates that it is made from.",
    )
    table: ClassVar[bool] = True
    server_vectors: ClassVar[int] = 1
    kind: Literal["mifa"] = "mifa"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """The mean of the table is a plain one."""
        if found := unlike(config, "the table counts all clients alike"):
            return found
        if config.server.aggregator.kind != "mean":
            return "server.aggregator.kind", "must be mean: the table is averaged, not the updates"
        return None

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 1: the sum of the table is kept up to date, not added up anew."""
        assert server.table is not None
        clients, dtype, last = arrivals.clients, server.w.dtype, once(arrivals.clients)
        scaled = 1.0 / arrivals.lr
        (moved,) = server.table.exchange(
            clients, arrivals.walks, (last * scaled)[None], last[None], scaled
        )
        summed = memory.get("sum", np.zeros_like(server.w)) + moved
        scale = float(arrivals.weights.sum() * arrivals.lr.min()) / len(server.table)
        return Combined(dtype.type(scale) * summed, last * scale / arrivals.lr, {"sum": summed})
