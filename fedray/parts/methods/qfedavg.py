"""q-FedAvg: clients with a high loss count more, so that accuracy is shared out more evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.methods.base import Method

_SMALLEST, _LARGEST = 1e-10, 1e30
"""Losses are taken as between these: a power below zero of a loss of zero is no number."""


@dataclass(frozen=True, kw_only=True)
class QFedAvg(Method):
    """w <- w + sum_i F_i^q L delta_i / sum_i h_i, h_i = q F_i^(q-1) |L delta_i|^2 + L F_i^q.

    L = 1 / lr, F_i the loss of the downloaded model on the client's shard.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="qfedavg",
        title="Fair federated averaging",
        paper="Li et al. 2020, Fair Resource Allocation in Federated Learning, algorithm 2 "
        "(arXiv 1905.10497)",
        rule="With F_i the loss of the downloaded model on the client's shard, D_i = -L delta_i "
        "and L = 1 / client.lr, the server moves to w - sum_i F_i^q D_i / sum_i h_i with "
        "h_i = q F_i^(q-1) |D_i|^2 + L F_i^q: descent on sum_i F_i^(q+1) / (q+1), with a step "
        "size that needs no tuning anew for another q. q = 0 is FedAvg.",
        values={
            "method": {"kind": "qfedavg", "q": 0.1},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="Equal to an independent reference step by step, for all clients and for part of "
        "them; with q = 0 it is FedAvg; one local step settles where sum_i F_i^q grad F_i = 0.",
        differs="The paper draws the cohort by size and sums plainly; so here with "
        "server.selection size and weighting uniform, while weighting examples multiplies D_i and "
        "h_i by the shares. As in the authors' code a loss below 1e-10 counts as that.",
        refuses={
            "async": "in a version made from one update its loss cancels out, so that nothing "
            "would be fairer"
        },
    )
    needs_losses: ClassVar[bool] = True
    kind: Literal["qfedavg"] = "qfedavg"
    q: Annotated[float, Ge(0), Doc("fairness; 0 is FedAvg, the paper takes 0.001 to 15")] = 0.1

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 2, steps 4 to 6."""
        loss = np.clip(arrivals.losses, _SMALLEST, _LARGEST)
        L = 1.0 / arrivals.lr
        powered = loss**self.q
        h = powered * (self.q / loss * (L * arrivals.norms) ** 2 + L)
        return server.scaled(arrivals, powered * L / float(arrivals.shares @ h))
