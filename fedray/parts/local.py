"""A client at work, as a method sees it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from fedray.types import Matrix, Vector


class Walked(NamedTuple):
    """Where local training ended, and how many minibatch steps it took."""

    w: Vector
    steps: int


class Outcome(NamedTuple):
    """What a job comes to."""

    w: Vector
    """The client's model (P,); its update is w minus the downloaded model."""
    steps: int
    uploads: tuple[Vector, ...] = ()
    """Sent besides the update; as many as the method's `uploads`."""
    state: Matrix | None = None
    """What the client remembers until its next job (S, P); None: as before."""


class Local(Protocol):
    """One job: data, the downloaded model, and what the client remembers. Read only."""

    base: Vector
    """The downloaded model (P,)."""
    broadcast: tuple[Vector, ...]
    """What the server sent besides."""
    lr: float
    rng: np.random.Generator
    """The client's own; minibatches are drawn from it too."""

    @property
    def state(self) -> Matrix:
        """What the client remembers, (S, P); zeros before its first job, see `fresh`."""

    @property
    def fresh(self) -> bool:
        """Whether the client remembers nothing yet: all zeros."""

    @property
    def examples(self) -> int:
        """n"""

    def sgd(
        self,
        *,
        start: Vector | None = None,
        shift: Vector | None = None,
        pull: float = 0.0,
        anchor: Vector | None = None,
        reference: Vector | None = None,
        scale: float = 1.0,
    ) -> Walked:
        """The configured minibatch SGD, from `start` or else the downloaded model.

        g = scale (grad f_batch(w) + weight_decay w + prox_mu (w - base) + shift
        + pull (w - anchor)), with the downloaded model as the anchor where none is given. With
        a `reference`, the gradient at that point on the same minibatch is taken off.
        """

    def gradient(self, w: Vector) -> Vector:
        """Of the client's objective at w, on its whole shard (P,); weight decay included."""

    def loss(self, w: Vector) -> float:
        """Mean loss at w on the whole shard."""
