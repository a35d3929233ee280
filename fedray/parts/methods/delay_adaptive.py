"""Delay-adaptive steps: full size up to a delay that is normal, shorter or none beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, Positive
from fedray.parts.methods.base import Method
from fedray.types import Floats


@dataclass(frozen=True, kw_only=True)
class DelayAdaptive(Method):
    """w <- w + sum_i q_i c(tau_i) delta_i, c = 1 if tau <= tau_c, else less.

    Less is min(1, 1 / (4 L lr tau)) with `smoothness` L; tau_c / tau without; or 0.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="delay_adaptive",
        family="asynchronous",
        title="Delay-adaptive asynchronous SGD",
        paper="Koloskova et al. 2022, Sharper Convergence Guarantees for Asynchronous SGD for "
        "Distributed and Federated Learning, equation 11 (arXiv 2206.08307)",
        rule="Every arriving update is applied with the step size lr up to the staleness tau_c, "
        "and beyond it with min(lr, 1 / (4 L tau)), or not at all (beyond: drop), so that a few "
        "stragglers cannot force small steps on everybody: the rate depends on the mean delay, "
        "not on the largest. tau_c is by default what `concurrency` clients cause when none is "
        "slow, concurrency / buffer_size. L is the smoothness of the loss; where it is not given, "
        "lr is taken for the largest step that the theorem allows, 1 / (4 L tau_c), so that the "
        "step beyond is lr tau_c / tau.",
        values={
            "method": {"kind": "delay_adaptive", "beyond": "shrink"},
            "client": {"steps": 1},
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "buffered",
                    "buffer_size": 1,
                    "staleness_weight": {"kind": "constant"},
                },
            },
        },
        proof="Equal to an independent reference step by step on a stale schedule, for all three "
        "ways; tau_c / tau equals the hinge weight with a = 1 / tau_c, b = tau_c; where a late "
        "update with a full step diverges, it converges.",
        differs="The paper has one gradient per update (client.steps 1); more local steps make L "
        "a smaller bound than it looks. A dropped update makes a version equal to the one "
        "before, as in the paper; max_staleness with on_stale drop discards it without one. In "
        "mode async updates are taken from the model that each client was sent, times mixing.",
    )
    kind: Literal["delay_adaptive"] = "delay_adaptive"
    tau_c: Annotated[
        Count | None, Doc("staleness up to which steps are full; none: concurrency / buffer_size")
    ] = None
    beyond: Annotated[Literal["shrink", "drop"], Doc("what becomes of updates that are staler")] = (
        "shrink"
    )
    smoothness: Annotated[
        Positive | None, Doc("L: largest curvature of the loss; none: 1 / (4 tau_c lr)")
    ] = None

    def conflict(self, config: Any) -> tuple[str, str] | None:
        if self.beyond == "drop" and self.smoothness is not None:
            return "method.smoothness", "has no effect with method.beyond drop"
        return None

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Equation 11 for every update."""
        tau_c = self.tau_c or max(1, round(server.concurrency / server.buffer))
        lr = arrivals.lr * server.server_lr
        return server.scaled(arrivals.from_base(), self.factors(arrivals.staleness, tau_c, lr))

    def factors(self, staleness: Any, tau_c: int, lr: Floats) -> Floats:
        """c(tau), (A,), of staleness (A,) and step sizes (A,)."""
        tau = np.maximum(np.asarray(staleness, np.float64), 1.0)
        if self.beyond == "drop":
            less = np.zeros(len(tau))
        elif self.smoothness is None:
            less = tau_c / tau
        else:
            less = np.minimum(1.0, 1.0 / (4.0 * self.smoothness * lr * tau))
        return np.where(tau <= tau_c, 1.0, less)
