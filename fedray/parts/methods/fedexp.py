"""FedExP: the server's step size follows from how far the updates disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.methods.base import Method
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class FedExP(Method):
    """w <- w + eta d, eta = max(1, sum_i p_i |delta_i|^2 / (2 (|d|^2 + epsilon))).

    d is the mean update. What is evaluated and kept is the mean of the last two models.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fedexp",
        title="Extrapolation by the server",
        paper="Jhunjhunwala et al. 2023, FedExP: Speeding Up Federated Averaging via "
        "Extrapolation, algorithm 1 (arXiv 2301.09604)",
        rule="The server moves by eta d with d the mean update and "
        "eta = max(1, sum_i p_i |delta_i|^2 / (2 (|d|^2 + epsilon))): the more the updates cancel "
        "out, the longer the step. The models of two versions in a row lie on both sides of the "
        "valley, so the mean of the last two is what is evaluated and kept.",
        values={
            "method": {"kind": "fedexp", "epsilon": 0.001},
            "server": {
                "schedule": {"mode": "sync"},
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="Equal to an independent reference step by step, for all clients and for part of "
        "them, with unequal examples, and for the model that is reported; equal updates are not "
        "extrapolated.",
        differs="The authors' code multiplies epsilon by the number of clients in the cohort and "
        "lets it decay with the square of the step size; the paper does neither. It reports the "
        "first model itself; here that is averaged with the initial one. In mode buffered the "
        "updates count with their staleness weights, in both sums.",
        refuses={"async": "a version made from one update has no disagreement to extrapolate by"},
    )
    server_vectors: ClassVar[int] = 1
    kind: Literal["fedexp"] = "fedexp"
    epsilon: Annotated[
        float, Gt(0), Doc("keeps steps short near the optimum; the paper takes 0.001 to 0.1")
    ] = 0.001

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 1, with s(tau_i) delta_i in place of delta_i where updates are stale."""
        found = server.average(arrivals)
        aged = arrivals.weights**2 / arrivals.shares  # = share s(tau)^2
        spread = float(aged @ arrivals.norms**2)
        d = found.update.astype("float64")
        eta = max(1.0, 0.5 * spread / (float(d @ d) + self.epsilon))
        update = found.update * found.update.dtype.type(eta)
        return Combined(update, found.weights * eta, {"before": server.w})

    def readout(self, w: Vector, memory: Memory) -> Vector:
        before = memory.get("before", w)
        return before + w.dtype.type(0.5) * (w - before)
