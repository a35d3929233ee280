"""FedVARP: the server remembers every client's last update, for those who do not take part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, PerClient, ServerView, newest
from fedray.parts.cards import Algorithm
from fedray.parts.methods.base import Method
from fedray.types import Floats, Ints, Vector


@dataclass(frozen=True, kw_only=True)
class FedVarp(Method):
    """w <- w + mean_S (delta_i - y_i) + 1/N sum_j y_j; then y_i <- delta_i for i in S."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fedvarp",
        title="Variance reduction for partial participation",
        paper="Jhunjhunwala et al. 2022, FedVARP: Tackling the Variance Due to Partial Client "
        "Participation in Federated Learning, algorithm 2 (arXiv 2207.14130)",
        rule="The server keeps the last update y_i of every client, 0 before the first. A round "
        "moves by the mean over the cohort of delta_i - y_i, plus the mean of y over all N "
        "clients; then y_i becomes delta_i for the cohort. Nothing more travels, clients "
        "remember nothing.",
        values={
            "method": {"kind": "fedvarp"},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="With one client of several at a time it settles at the fixed point that FedAvg has "
        "with all of them, where FedAvg goes on jumping; equal to an independent reference step "
        "by step; with all clients it is FedAvg.",
        differs="In buffered and async modes, which the paper does not have, updates are taken "
        "from the model that each client was sent, and the mean of y counts as much as the "
        "updates do together: what staleness and mixing leave of them.",
    )
    table: ClassVar[bool] = True
    server_vectors: ClassVar[int] = 1
    kind: Literal["fedvarp"] = "fedvarp"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """The mean of y is a plain one."""
        if config.server.weighting != "uniform" and config.server.schedule.mode != "async":
            return "server.weighting", "must be uniform: the table counts all clients alike"
        return None

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 2, lines 10 to 13."""
        ones = np.ones(len(arrivals.clients))
        return corrected(arrivals, server, memory, factors=ones, p=ones / server.clients)


def corrected(
    arrivals: Arrivals, server: ServerView, memory: Memory, *, factors: Floats, p: Floats,
    beta: float = 1.0,
) -> Combined:  # fmt: skip
    """sum_i a_i (delta_i - beta h_i) + beta s sum_j p_j h_j; THEN h_i <- delta_i.

    h is the table, a_i = factors_i weights_i, s = sum_i weights_i: what staleness and mixing
    leave of the updates. `factors` and `p` (A,) are those of the arrivals' clients. A client
    who comes twice is corrected by the same h_i both times, and leaves his last update.
    """
    assert server.table is not None
    walks, clients, dtype = arrivals.walks, arrivals.clients, server.w.dtype
    last = p * once(clients)
    found, known = _less(arrivals.from_base(), last, server, server.table, factors, beta)
    mean = memory.get("mean", np.zeros_like(server.w))
    update = found.update + dtype.type(beta * arrivals.weights.sum()) * mean
    moved = last.astype(walks.dtype) @ walks - known
    server.table.put(clients, walks)
    return Combined(update, found.weights, {"mean": mean + moved})


def _less(
    arrivals: Arrivals, last: Floats, server: ServerView, table: PerClient, factors: Floats,
    beta: float,
) -> tuple[Combined, Vector]:  # fmt: skip
    """The configured aggregate of factors_i (update_i - beta h_i), and sum_i last_i h_i."""
    clients = arrivals.clients
    if server.linear:
        found = server.scaled(arrivals, factors)
        weighed, summed = table.sums(clients, np.stack((beta * found.weights, last)))
        return found._replace(update=found.update - weighed), summed
    known = table.rows(clients)
    news = arrivals.updates - known.dtype.type(beta) * known
    norms = np.linalg.norm(news, axis=1).astype(np.float64)
    found = server.scaled(arrivals._replace(updates=news, norms=norms), factors)
    return found, np.asarray(last.astype(known.dtype) @ known)


def once(clients: Ints) -> Floats:
    """1 for every arrival (A,), but 0 for those of a client who comes again later."""
    counted = np.zeros(len(clients))
    counted[newest(clients)] = 1.0
    return counted
