"""FedVARP: the server remembers every client's last update, for those who do not take part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, PerClient, ServerView, newest
from fedray.parts.cards import Algorithm
from fedray.parts.methods.base import Method, unlike
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
        return unlike(config, "the table counts all clients alike")

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
    last, dtype = p * once(arrivals.clients), server.w.dtype
    less = _exchanged if server.linear else _replaced
    found, moved = less(arrivals.from_base(), last, server, server.table, factors, beta)
    mean = memory.get("mean", np.zeros_like(server.w))
    update = found.update + dtype.type(beta * arrivals.weights.sum()) * mean
    return Combined(update, found.weights, {"mean": mean + moved})


def _exchanged(
    arrivals: Arrivals, last: Floats, server: ServerView, table: PerClient, factors: Floats,
    beta: float,
) -> tuple[Combined, Vector]:  # fmt: skip
    """sum_i a_i (update_i - beta h_i) and sum_i last_i (update_i - h_i); h_i <- update_i.

    Where all last_i / a_i are alike, as for equal weights, the sums of the old and of the new
    are enough for both; with beta = 1 it is a single one.
    """
    clients, updates, a = arrivals.clients, arrivals.updates, server.weigh(arrivals, factors)
    ratio = last[0] / a[0] if a[0] else 0.0
    if not np.allclose(last, ratio * a, rtol=1e-12, atol=0.0):
        new, old = np.stack((a, last)), np.stack((beta * a, last))
        update, moved = table.exchange(clients, updates, new, old)
        return Combined(update, a), moved
    of = updates.dtype.type
    if beta == 1.0:
        (update,) = table.exchange(clients, updates, a[None], a[None])
        return Combined(update, a), of(ratio) * update
    none = np.zeros(len(a))
    came, went = table.exchange(clients, updates, np.stack((a, none)), np.stack((none, -a)))
    return Combined(came - of(beta) * went, a), of(ratio) * (came - went)


def _replaced(
    arrivals: Arrivals, last: Floats, server: ServerView, table: PerClient, factors: Floats,
    beta: float,
) -> tuple[Combined, Vector]:  # fmt: skip
    """The same with the configured aggregate of factors_i (update_i - beta h_i) in the place of
    the first."""
    clients, updates, known = arrivals.clients, arrivals.updates, table.rows(arrivals.clients)
    moved = last.astype(known.dtype) @ updates - last.astype(known.dtype) @ known
    news = updates - known.dtype.type(beta) * known
    norms = np.linalg.norm(news, axis=1).astype(np.float64)
    table.put(clients, updates)
    found = server.scaled(arrivals._replace(updates=news, norms=norms), factors)
    return found, np.asarray(moved)


def once(clients: Ints) -> Floats:
    """1 for every arrival (A,), but 0 for those of a client who comes again later."""
    counted = np.zeros(len(clients))
    counted[newest(clients)] = 1.0
    return counted
