"""Mime and MimeLite: clients take the steps that a central optimizer would, its state frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Lt

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.types import Vector

_PAPER = (
    "Karimireddy et al. 2021, Breaking the Centralized Barrier for Cross-Device Federated "
    "Learning, algorithm 1 (arXiv 2008.03606)"
)
_ONLY_MOMENTUM = (
    "The paper's base optimizers are SGD, SGD with momentum and Adam; here the first two, beta "
    "being 0 or not. fedjax applies its optimizers as they are, with m <- beta m + g. "
)
_SERVER = {
    "schedule": {"mode": "sync"},
    "weighting": "uniform",
    "optimizer": {"kind": "sgd", "lr": 1.0},
}

Beta = Annotated[float, Ge(0), Lt(1), Doc("momentum of the central optimizer; 0 is plain SGD")]


def frozen_momentum(
    job: Local, m: Vector, beta: float, shift: Vector | None, reference: Vector | None
) -> Outcome:
    """y <- y - lr ((1 - beta) (g(y) - g(reference) + shift) + beta m), g on the minibatch."""
    dtype = job.base.dtype.type
    ahead = dtype(beta / (1.0 - beta)) * m
    shift = ahead if shift is None else ahead + shift
    walked = job.sgd(shift=shift, reference=reference, scale=1.0 - beta)
    return Outcome(walked.w, walked.steps)


def moved(memory: Memory, gradient: Vector, beta: float) -> dict[str, Vector]:
    """m <- beta m + (1 - beta) gradient, by which versions move only through the clients."""
    dtype = gradient.dtype.type
    m = memory.get("m", np.zeros_like(gradient))
    return {"m": dtype(beta) * m + dtype(1.0 - beta) * gradient}


def unfit(config: Any) -> tuple[str, str] | None:
    """The momentum is Mime's alone."""
    if config.client.momentum:
        return "client.momentum", "must be 0: the steps have method.beta's"
    if config.server.optimizer.kind != "sgd":
        return "server.optimizer.kind", "must be sgd: the clients take the optimizer's steps"
    return None


@dataclass(frozen=True, kw_only=True)
class Mime(Method):
    """y <- y - lr ((1 - beta) g + beta m), g = grad f_i(y; z) - grad f_i(x; z) + c.

    c is the mean over the cohort of grad f_i(x) on whole shards; x <- mean of the y_i and
    m <- beta m + (1 - beta) c.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="mime",
        title="Mimicking a central optimizer",
        paper=_PAPER,
        rule="The cohort first sends its gradients at x over whole shards, whose mean c comes back "
        "with the server's momentum m. Then every local step is "
        "y <- y - lr ((1 - beta) g + beta m) with m held still and "
        "g = grad f_i(y; z) - grad f_i(x; z) + c on the minibatch z. The server takes the mean "
        "of the models, and m <- beta m + (1 - beta) c.",
        values={"method": {"kind": "mime", "beta": 0.9}, "server": _SERVER},
        proof="Equal to an independent reference step by step, for all clients and for part of "
        "them; one local step is SGD with momentum on all clients' data; settles at the optimum "
        "of quadratics with unequal curvature, where FedAvg does not.",
        differs=_ONLY_MOMENTUM
        + "Everyone who is asked to train sends a gradient first, also who is late afterwards. It "
        "costs a vector up and one down, never compressed, and a pass over the shard, and the "
        "second gradient of every step takes its time; that training waits for the slowest "
        "answer is not in the virtual time.",
        refuses=dict.fromkeys(
            ("buffered", "async"),
            "a cohort's mean gradient is needed before it trains, and there is no cohort",
        ),
    )
    broadcasts: ClassVar[int] = 2
    server_vectors: ClassVar[int] = 1
    cohort_gradient: ClassVar[bool] = True
    extra_passes: ClassVar[float] = 1.0
    step_gradients: ClassVar[float] = 2.0
    kind: Literal["mime"] = "mime"
    beta: Beta = 0.9

    def conflict(self, config: Any) -> tuple[str, str] | None:
        return unfit(config)

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, lines 8 to 12, Mime's."""
        m, c = job.broadcast
        return frozen_momentum(job, m, self.beta, c, job.base)

    def broadcast(self, w: Vector, memory: Memory) -> tuple[Vector, ...]:
        return (memory.get("m", np.zeros_like(w)),)

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Lines 14 and 15. Where only late updates arrive, nobody was asked, and m stays."""
        found = server.average(arrivals)
        if server.cohort_gradient is None:
            return found._replace(memory=memory)
        return found._replace(memory=moved(memory, server.cohort_gradient, self.beta))


@dataclass(frozen=True, kw_only=True)
class MimeLite(Method):
    """y <- y - lr ((1 - beta) grad f_i(y; z) + beta m); m <- beta m + (1 - beta) mean grad f_i(x).

    Mime without its correction of the minibatch gradients.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="mimelite",
        title="Mimicking a central optimizer, without correction",
        paper=_PAPER,
        rule="Every local step is y <- y - lr ((1 - beta) grad f_i(y; z) + beta m) with the "
        "server's momentum m held still. Clients send their gradient at x over the whole shard "
        "with the update; the server takes the mean of the models, and m <- beta m + "
        "(1 - beta) times the mean of those gradients.",
        values={"method": {"kind": "mimelite", "beta": 0.9}, "server": _SERVER},
        proof="Equal to an independent reference step by step, for all clients and for part of "
        "them; one local step is SGD with momentum on all clients' data; with beta 0 it is FedAvg.",
        differs=_ONLY_MOMENTUM + "In buffered and async modes, which the paper does not have, m "
        "moves by the mean gradient of the updates that arrive, each at the model that its client "
        "was sent.",
    )
    broadcasts: ClassVar[int] = 1
    uploads: ClassVar[int] = 1
    server_vectors: ClassVar[int] = 1
    extra_passes: ClassVar[float] = 1.0
    kind: Literal["mimelite"] = "mimelite"
    beta: Beta = 0.9

    def conflict(self, config: Any) -> tuple[str, str] | None:
        return unfit(config)

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, lines 8 to 12, MimeLite's."""
        found = frozen_momentum(job, job.broadcast[0], self.beta, None, None)
        return found._replace(uploads=(job.gradient(job.base),))

    def broadcast(self, w: Vector, memory: Memory) -> tuple[Vector, ...]:
        return (memory.get("m", np.zeros_like(w)),)

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Lines 14 and 15."""
        found = server.average(arrivals)
        (gradients,) = arrivals.uploads
        mean = arrivals.shares.astype(gradients.dtype) @ gradients
        return found._replace(memory=moved(memory, mean, self.beta))
