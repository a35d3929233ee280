"""FedLin: every local step is corrected by the exact difference to the cohort's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class FedLin(Method):
    """y <- y - lr (grad f_i(y) - grad f_i(x) + c), c the cohort's mean of grad f_i(x)."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fedlin",
        title="Exact gradient correction",
        paper="Mitra et al. 2021, Linear Convergence in Federated Learning: Tackling Client "
        "Heterogeneity and Sparse Gradients, algorithm 1 without sparsification "
        "(arXiv 2102.07053)",
        rule="The cohort first sends its gradients at x over whole shards, and their mean c comes "
        "back. Then every local step is y <- y - lr (grad f_i(y) - grad f_i(x) + c), and the "
        "server moves to the mean of the models. At the optimum c is 0 and every first step too, "
        "so that nobody drifts, whatever the number of steps. SCAFFOLD estimates c from the "
        "round before; here it is exact.",
        values={
            "method": {"kind": "fedlin"},
            "server": {"schedule": {"mode": "sync"}, "optimizer": {"kind": "sgd", "lr": 1.0}},
        },
        proof="Equal to an independent reference step by step; settles at the optimum of "
        "quadratics with unequal curvature, of unequal sizes and with unequal numbers of steps, "
        "where FedAvg does not.",
        differs="The paper has all clients in every round and takes steps of lr / tau_i for tau_i "
        "local steps; here all steps are client.lr, and with part of the clients c is the mean "
        "over those, whose optimum is then aimed at. grad f_i(y) is on minibatches, grad f_i(x) "
        "on the whole shard. The exchange costs a vector up and one down, never compressed, and a "
        "pass over the shard; that training waits for the slowest answer is not in the virtual "
        "time.",
        refuses=dict.fromkeys(
            ("buffered", "async"),
            "a cohort's mean gradient is needed before it trains, and there is no cohort",
        ),
    )
    broadcasts: ClassVar[int] = 1
    cohort_gradient: ClassVar[bool] = True
    extra_passes: ClassVar[float] = 1.0
    kind: Literal["fedlin"] = "fedlin"

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, lines 4 to 6."""
        (c,) = job.broadcast
        walked = job.sgd(shift=c - job.gradient(job.base))
        return Outcome(walked.w, walked.steps)
