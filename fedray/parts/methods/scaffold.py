"""SCAFFOLD: control variates against client drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class Scaffold(Method):
    """Clients correct every step by c - c_i, an estimate of how they differ from all.

    y <- y - lr (g_i(y) - c_i + c);  c_i+ = c_i - c + (x - y) / (K lr);
    x <- x + server_lr mean_S (y - x);  c <- c + |S| / N mean_S (c_i+ - c_i).
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="scaffold",
        title="Control variates against client drift",
        paper="Karimireddy et al. 2020, SCAFFOLD: Stochastic Controlled Averaging for Federated "
        "Learning, algorithm 1 with option II (arXiv 1910.06378)",
        rule="Every local step is corrected by c - c_i: y <- y - lr (g_i(y) - c_i + c). After K "
        "steps c_i <- c_i - c + (x - y) / (K lr). The server moves by the plain mean of the "
        "updates, and c by |S| / N times the mean change of the c_i. K is the number of steps "
        "that the client really took.",
        values={
            "method": {"kind": "scaffold"},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="On quadratics with unequal curvature the fixed point is the optimum, where "
        "FedAvg's is not; equal to an independent reference, full batch, step by step.",
        differs="NIID-Bench averages the model by examples; the paper averages plainly. In "
        "buffered and async modes, which the paper does not have, c moves by 1/N times the "
        "change of every c_i that arrives, and the correction is by the c of the model that was "
        "downloaded.",
    )
    state_vectors: ClassVar[int] = 1
    broadcasts: ClassVar[int] = 1
    uploads: ClassVar[int] = 1
    server_vectors: ClassVar[int] = 1
    kind: Literal["scaffold"] = "scaffold"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """Option II reads the mean gradient off the walk, which must be made of nothing else."""
        for key in ("momentum", "prox_mu"):
            if getattr(config.client, key):
                return f"client.{key}", "must be 0: (x - y) / (K lr) would not be a mean gradient"
        return None

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, lines 7 to 13, option II."""
        (c,), own = job.broadcast, job.state[0]
        walked = job.sgd(shift=c - own)
        scale = job.base.dtype.type(1.0 / (walked.steps * job.lr))
        new = own - c + scale * (job.base - walked.w)
        return Outcome(walked.w, walked.steps, (new - own,), new[None])

    def broadcast(self, w: Vector, memory: Memory) -> tuple[Vector, ...]:
        return (memory.get("c", np.zeros_like(w)),)

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Lines 16 and 17."""
        found = server.average(arrivals)
        (changes,) = arrivals.uploads
        c = memory.get("c", np.zeros_like(server.w))
        moved = np.full(len(changes), 1.0 / server.clients, changes.dtype) @ changes
        return found._replace(memory={"c": c + moved})
