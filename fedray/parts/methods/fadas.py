"""FADAS: an adaptive server for asynchronous clients, with shorter steps after long delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Index
from fedray.parts.methods.base import Method

_Beta = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class Fadas(Method):
    """m <- b1 m + (1 - b1) d; v <- b2 v + (1 - b2) d^2; u <- max(u, v);
    w <- w + lr_t m / (sqrt(u) + epsilon), lr_t = lr if tau <= tau_c, else min(lr, 1 / tau).

    d is the mean update, tau the largest staleness in the group, lr that of server.optimizer.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fadas",
        family="asynchronous",
        title="Federated adaptive asynchronous optimization",
        paper="Wang et al. 2024, FADAS: Towards Federated Adaptive Asynchronous Optimization, "
        "algorithm 1 (arXiv 2407.18365)",
        rule="The mean d of a buffer is a gradient for AMSGrad: m <- beta1 m + (1 - beta1) d, "
        "v <- beta2 v + (1 - beta2) d^2, u <- max(u, v), w <- w + lr_t m / (sqrt(u) + epsilon), "
        "without bias correction. lr_t is server.optimizer.lr as long as the largest staleness "
        "tau in the buffer is at most tau_c, and min(lr, 1 / tau) beyond, or with beyond: "
        "relative lr / tau. tau_c: none is FADAS without adaptation to delays.",
        values={
            "method": {"kind": "fadas", "beta1": 0.9, "beta2": 0.99, "tau_c": 1},
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 0.01},
                "schedule": {
                    "mode": "buffered",
                    "buffer_size": 5,
                    "staleness_weight": {"kind": "constant"},
                },
            },
        },
        proof="Equal to an independent reference step by step on a stale schedule, with delays on "
        "both sides of tau_c, for both ways to shorten the step; u never falls.",
        differs="Ports take lr / tau in place of min(lr, 1 / tau), which makes a difference once "
        "lr < 1 / tau (beyond: relative), and beta2 0.99 or 0.999. lr 0.01 is ours; the paper "
        "tunes it. In mode async, which the paper does not have, updates are taken from the model "
        "that each client was sent.",
    )
    server_vectors: ClassVar[int] = 3
    kind: Literal["fadas"] = "fadas"
    beta1: Annotated[_Beta, Doc("memory of the mean update")] = 0.9
    beta2: Annotated[_Beta, Doc("memory of its square")] = 0.99
    epsilon: Annotated[float, Gt(0), Doc("keeps steps finite")] = 1e-8
    tau_c: Annotated[
        Index | None, Doc("staleness from which on steps get shorter; none: they never do")
    ] = 1
    beyond: Annotated[
        Literal["absolute", "relative"],
        Doc("step size beyond tau_c: min(lr, 1 / tau) as in the paper, or lr / tau"),
    ] = "absolute"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """It is an optimizer, whose step size alone is taken from server.optimizer."""
        if config.server.optimizer.kind != "sgd":
            return "server.optimizer.kind", "must be sgd: the method is an optimizer itself"
        if self.tau_c is None and self.beyond != "absolute":
            return "method.beyond", "has no effect while method.tau_c is none"
        return None

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 1, lines 15 to 19; the optimizer multiplies by lr."""
        found = server.average(arrivals.from_base())
        d, zero = found.update, np.zeros_like(server.w)
        m = self.beta1 * memory.get("m", zero) + (1.0 - self.beta1) * d
        v = self.beta2 * memory.get("v", zero) + (1.0 - self.beta2) * d * d
        u = np.maximum(memory.get("u", zero), v)
        cut = self.cut(int(arrivals.staleness.max()), server.server_lr)
        update = cut * m / (np.sqrt(u) + self.epsilon)
        return found._replace(update=update, memory={"m": m, "v": v, "u": u})

    def cut(self, tau: int, lr: float) -> float:
        """lr_t / lr"""
        if self.tau_c is None or tau <= self.tau_c:
            return 1.0
        return min(1.0, 1.0 / (lr * tau)) if self.beyond == "absolute" else 1.0 / tau
