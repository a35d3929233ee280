"""What it takes for clients to have models of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Positive, Strict
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.types import Floats, Ints, Model, Vector

Mask = NDArray[np.bool_]

PersonalLr = Annotated[
    Positive | None, Doc("step size of the client's own model; default: client.lr, as it decays")
]
OwnEpochs = Annotated[
    Positive | None,
    Doc("passes over the shard per job for the client's own model; default: as in client"),
]

FEDAVG: Mapping[str, Any] = {
    "method": {"kind": "plain"},
    "server": {"schedule": {"mode": "sync"}, "optimizer": {"kind": "sgd", "lr": 1.0}},
}
"""What the cards build on: federated averaging."""


@dataclass(frozen=True, kw_only=True)
class Personal(Strict):
    """Pure functions, with the behaviour of clients that use the server's model by default.

    `train` is the client's work in a job, `own` the model that it uses itself.
    """

    kind: str
    ALGORITHM: ClassVar[Algorithm | None] = None
    """How users pick it by name."""
    replaces: ClassVar[bool] = False
    """Whether clients train otherwise than `method` says, which then has to be plain."""
    shared_model: ClassVar[bool] = True
    """Whether the server's model can be used as it is, so that there is something to gain on."""

    groups: ClassVar[bool] = False
    """Whether clients fall into groups, see `label`."""

    @property
    def held_out(self) -> float:
        """Share of every shard that clients test on instead of training on it."""
        return 0.0

    @property
    def state_vectors(self) -> int:
        """Vectors (P,) that a client keeps from job to job."""
        return 0

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """A dotted key of the whole configuration that it does not go with, and why."""
        return None

    def method(self, configured: Method) -> Method:
        """The method that clients and server follow: the configured one."""
        return configured

    def kept(self, model: Model) -> Mask | None:
        """(P,): the parameters that never leave the client; None: all travel."""
        return None

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        """(N,): samples that a job of each client goes through beside the `walk` (N,) of local
        SGD, each for a gradient; what only needs a loss counts a third. They take time."""
        return np.zeros(len(sizes))

    def train(self, job: Local, method: Method) -> Outcome:
        """The client's work."""
        return method.train(job)

    def own(self, job: Local) -> Vector:
        """The model (P,) that the client uses, when `job.base` is the server's newest one."""
        return job.base

    def label(self, job: Local) -> int:
        """The group of clients that it belongs to, where there are groups; else 0."""
        return 0


@dataclass(frozen=True, kw_only=True)
class OwnModels(Personal):
    """Clients have models of their own, and hold samples back to tell what they gain by them."""

    test_fraction: Annotated[
        float, Gt(0), Lt(1),
        Doc("share of every shard that is kept from training, to test both models on"),
    ] = 0.2  # fmt: skip

    @property
    def held_out(self) -> float:
        return self.test_fraction


@dataclass(frozen=True, kw_only=True)
class OwnVector(OwnModels):
    """A client remembers one vector, and starts it at the model of its first job.

    Before that job, and where it was thrown away, the client has the server's model.
    """

    @property
    def state_vectors(self) -> int:
        return 1

    def own(self, job: Local) -> Vector:
        return job.base if job.own is None else job.own[0]


def passes(epochs: float, sizes: Ints) -> Floats:
    """Samples of so many passes over every shard, (N,)."""
    return np.maximum(epochs * sizes.astype(np.float64), 1.0)


def plain_steps(config: Any) -> tuple[str, str] | None:
    """The conflict of rules that take plain gradient steps of their own."""
    for key in ("momentum", "prox_mu"):
        if getattr(config.client, key):
            return f"client.{key}", "must be 0: its steps are its own"
    return None
