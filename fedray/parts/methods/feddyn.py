"""FedDyn: every client's objective is regularised so that its optimum moves to the common one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method, unlike
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class FedDyn(Method):
    """theta_i = argmin f_i - <g_i, theta> + alpha / 2 |theta - w|^2; g_i -= alpha (theta_i - w).

    h <- h - alpha / N sum_S (theta_i - w);  w <- mean_S theta_i - h / alpha.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="feddyn",
        title="Dynamic regularisation",
        paper="Acar et al. 2021, Federated Learning Based on Dynamic Regularization, algorithm 1 "
        "(arXiv 2111.04263)",
        rule="A client minimises f_i(theta) - <g_i, theta> + alpha / 2 |theta - w|^2 by its local "
        "steps, then g_i <- g_i - alpha (theta_i - w), which is grad f_i(theta_i) where it got to "
        "the minimum. The server keeps h <- h - alpha / N sum over the cohort of (theta_i - w) "
        "and moves to the mean of the theta_i minus h / alpha.",
        values={
            "method": {"kind": "feddyn", "alpha": 0.01},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="With local problems solved to the end it settles at the optimum of two quadratics, "
        "0.8, where FedAvg goes to their plain mean, and with few local steps too; equal to an "
        "independent reference step by step, for all clients and for part of them; the penalty "
        "is the squared norm.",
        differs="PFLlib adds the norm, not its square. The authors' code scales alpha by "
        "n / (N n_i) and reports the mean of the cohort's models (report: average) beside w; here "
        "all clients have one alpha, as in the paper, so weighting is uniform. In buffered and "
        "async modes, which the paper does not have, theta_i - w is taken from the model that the "
        "client was sent, and h counts as much as the updates do together: what staleness and "
        "mixing leave of them.",
    )
    state_vectors: ClassVar[int] = 1
    server_vectors: ClassVar[int] = 1
    kind: Literal["feddyn"] = "feddyn"
    alpha: Annotated[float, Gt(0), Doc("weight of the regulariser; the paper tries .001 to .1")] = (
        0.01
    )
    report: Annotated[
        Literal["server", "average"],
        Doc("what is evaluated and kept: the server's model w, or the mean of the last clients'"),
    ] = "server"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """h is a plain mean over clients, which only plain averages go with."""
        return unlike(config, "h counts all clients alike")

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, lines 5 to 7."""
        own = job.state[0]
        walked = job.sgd(shift=None if job.fresh else -own, pull=self.alpha)
        new = own - job.base.dtype.type(self.alpha) * (walked.w - job.base)
        return Outcome(walked.w, walked.steps, state=new[None])

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Lines 9 and 10, with -h / alpha kept in place of h."""
        found = server.average(arrivals)
        dtype = arrivals.walks.dtype.type
        moved = _spread(arrivals, server, found.update)
        ahead = memory.get("ahead", np.zeros_like(server.w)) + moved
        step = dtype(arrivals.weights.sum()) * ahead
        kept = {"ahead": ahead}
        if self.report == "average":
            kept["active"] = server.w + found.update
        return found._replace(update=found.update + step, memory=kept)

    def readout(self, w: Vector, memory: Memory) -> Vector:
        return memory.get("active", w)


def _spread(arrivals: Arrivals, server: ServerView, update: Vector) -> Vector:
    """sum_i walk_i / N (P,); where all updates count alike, the aggregate has that sum already."""
    walks, each = arrivals.walks, float(arrivals.weights[0])
    if server.linear and walks is arrivals.updates and each and (arrivals.weights == each).all():
        return np.asarray(update * walks.dtype.type(1.0 / (server.clients * each)))
    return np.asarray(np.full(len(walks), 1.0 / server.clients, walks.dtype) @ walks)
