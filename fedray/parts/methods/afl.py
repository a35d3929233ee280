"""Agnostic federated learning: the mixture of clients that is worst off decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.methods.base import Method
from fedray.types import Floats, Vector

_LARGEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Afl(Method):
    """w <- w + sum_i lambda_i delta_i;  lambda <- lambda + lambda_lr F, projected on the simplex.

    F_i is the loss of the downloaded model on the client's shard.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="afl",
        title="Agnostic federated learning",
        paper="Mohri et al. 2019, Agnostic Federated Learning, section 4, algorithm 1 "
        "(arXiv 1902.00146)",
        rule="min over w, max over the simplex of lambda of sum_i lambda_i F_i(w), by descent and "
        "ascent at a time: w moves by sum_i lambda_i delta_i, then lambda + lambda_lr F is "
        "projected onto the simplex. F_i is the loss of the downloaded model on the client's "
        "shard, lambda starts at 1 / N.",
        values={
            "method": {"kind": "afl", "lambda_lr": 0.1},
            "server": {
                "clients_per_round": "all",
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="Equal to an independent reference step by step; the mean of its models comes to "
        "the minimum of the largest loss of two quadratics; the projection is the closest point "
        "of the simplex.",
        differs="The paper takes one stochastic gradient per step; here clients may take several "
        "local steps, of which one is the paper's. The paper's result is the mean of all models "
        "(report: average); the last one is reported unless that is asked for. Of clients whose "
        "update is missing lambda_i does not rise, and the others' lambda is scaled to sum to 1. "
        "The server keeps one number per client and all take part in every round: meant for tens "
        "or hundreds of clients, as in the paper.",
        refuses=dict.fromkeys(
            ("buffered", "async"),
            "lambda weighs all clients against one another, by their losses at one model",
        ),
    )
    needs_losses: ClassVar[bool] = True
    kind: Literal["afl"] = "afl"
    lambda_lr: Annotated[float, Gt(0), Doc("step size of the ascent on lambda")] = 0.1
    report: Annotated[
        Literal["last", "average"],
        Doc("what is evaluated and kept: the last model, or the mean of all since version 1"),
    ] = "last"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """The paper's setting: every client in every round, counted by lambda alone."""
        if config.server.clients_per_round != "all":
            return "server.clients_per_round", "must be all: lambda is over all clients"
        if config.server.selection.kind == "tiers":
            return "server.selection", "must be uniform: lambda is over all clients, not a tier's"
        if config.server.weighting != "uniform":
            return "server.weighting", "must be uniform: lambda is what clients count"
        return None

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 1: both steps from the same (w, lambda)."""
        lam = memory.get("lambda", np.full(server.clients, 1.0 / server.clients))
        here = lam[arrivals.clients]
        taken = float(here @ arrivals.shares)
        found = server.scaled(arrivals, here / taken if taken else np.zeros_like(here))
        raised = lam.copy()
        losses = np.minimum(arrivals.losses, _LARGEST)
        raised[arrivals.clients] = here + self.lambda_lr * losses
        kept: dict[str, Vector] = {"lambda": on_simplex(raised)}
        if self.report == "average":
            seen = int(memory["seen"][0]) if memory else 0
            mean = memory["mean"] if memory else np.zeros_like(server.w)
            kept |= {"mean": _mean(mean, server.w, seen), "seen": np.array([seen + 1.0])}
        return found._replace(memory=kept)

    def readout(self, w: Vector, memory: Memory) -> Vector:
        return _mean(memory["mean"], w, int(memory["seen"][0])) if "mean" in memory else w


def _mean(mean: Vector, w: Vector, seen: int) -> Vector:
    """The mean of `seen` models, the initial one not counted, and of one more."""
    return w if seen <= 1 else mean + (w - mean) / w.dtype.type(seen)


def on_simplex(v: Floats) -> Floats:
    """The point of the simplex that is closest to v (N,): max(v - theta, 0), which sums to 1.

    Wang and Carreira-Perpinan 2013, arXiv 1309.1541.
    """
    falling = np.sort(v)[::-1]
    theta = (np.cumsum(falling) - 1.0) / np.arange(1, len(v) + 1)
    return np.asarray(np.maximum(v - theta[np.flatnonzero(falling > theta)[-1]], 0.0))
