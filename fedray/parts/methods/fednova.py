"""FedNova: updates are normalised before they are averaged, so that unequal work is no bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.methods.base import Method
from fedray.types import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class FedNova(Method):
    """w <- w + (sum_i p_i a_i) sum_i p_i delta_i / a_i, with a_i the length of the local walk.

    a_i sums the weights that local gradients have in delta_i: the number of steps for SGD, more
    with momentum, less with the proximal term, where sum_i p_i tau_i stands in front instead.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fednova",
        title="Normalised averaging of unequal local work",
        paper="Wang et al. 2020, Tackling the Objective Inconsistency Problem in Heterogeneous "
        "Federated Optimization, equation 8 and section 4 (arXiv 2007.07481)",
        rule="Every update is divided by a_i, the weight of all its gradients together, and their "
        "mean is multiplied by tau_eff: w <- w + tau_eff sum_i p_i delta_i / a_i. After tau_i "
        "steps a_i = tau_i for SGD, (tau_i - r (1 - r^tau_i) / (1 - r)) / (1 - r) with local "
        "momentum r, and (1 - (1 - lr mu)^tau_i) / (lr mu) with prox_mu mu. tau_eff is "
        "sum_i p_i a_i, and with prox_mu sum_i p_i tau_i.",
        values={
            "method": {"kind": "fednova"},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "examples",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="On two quadratics with 2 and 20 local steps it settles at 0.737119, where FedAvg "
        "settles at 0.965565 and the optimum is 0.8; a_i equals the sum of the weights of the "
        "gradients in a walk that is worked out step by step, for SGD, momentum, the proximal "
        "term and both; with equal work it is FedAvg.",
        differs="The authors' code multiplies a_i by (1 - lr mu) and adds 1 after having added the "
        "momentum's part, which is not the sum of the weights once both are used; here it is. In "
        "mode buffered, which the paper does not have, p_i are the shares within a buffer.",
        refuses={
            "async": "a version made from one update has nobody to be normalised against, so that "
            "it would be FedAsync"
        },
    )
    kind: Literal["fednova"] = "fednova"

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Equation 8; the optimizer's step size is the paper's server step size."""
        a = path_length(arrivals.steps, arrivals.lr, server.momentum, server.prox_mu)
        effective = arrivals.steps if server.prox_mu else a
        return server.scaled(arrivals, float(arrivals.shares @ effective) / a)


def path_length(steps: Ints, lr: Floats, momentum: float, prox_mu: float) -> Floats:
    """a_i (A,): what the gradients of tau_i local steps weigh together, in units of lr.

    A walk of v <- momentum v + g + prox_mu (w - base), w <- w - lr v under a gradient that is
    always 1 ends at base - lr a.
    """
    tau = steps.astype(np.float64)
    if momentum and prox_mu:
        return _both(steps, lr, momentum, prox_mu)
    if prox_mu:
        return np.asarray((1.0 - (1.0 - lr * prox_mu) ** tau) / (lr * prox_mu))
    if momentum:
        lost = momentum * (1.0 - momentum**tau) / (1.0 - momentum)
        return np.asarray((tau - lost) / (1.0 - momentum))
    return tau


def _both(steps: Ints, lr: Floats, momentum: float, prox_mu: float) -> Floats:
    """The walk itself, for all clients at a time."""
    went, velocity = np.zeros(len(steps)), np.zeros(len(steps))
    for k in range(int(steps.max())):
        pull = momentum * velocity + 1.0 - prox_mu * lr * went
        velocity = np.where(k < steps, pull, velocity)
        went = np.where(k < steps, went + velocity, went)
    return went
