"""A client at work, as a method sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

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
    start: Vector | None = None
    """Where the update is counted from, if not from the downloaded model: w minus this, less what
    never leaves the client."""
    own: Matrix | None = None
    """What the client remembers of its own model (V, P); None: as before."""
    label: int = 0
    """The group of clients that it found itself to be of, told to the server."""


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
    def own(self) -> Matrix | None:
        """What the client remembers of its own model, (V, P); None while that is nothing, or
        all zeros."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(P,): the parameters that never leave the client."""

    @property
    def initial(self) -> Vector:
        """Version 0 of the run (P,), which every client has from the start."""

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

    def tune(
        self,
        start: Vector,
        *,
        pull: float = 0.0,
        anchor: Vector | None = None,
        still: NDArray[np.bool_] | None = None,
        epochs: float | None = None,
        lr: float | None = None,
    ) -> Walked:
        """Minibatch SGD for the client's own ends: as configured, but without prox_mu.

        g = grad f_batch(w) + weight_decay w + pull (w - anchor), where `still` (P,) is false;
        over `epochs` passes and with steps of `lr`, if given, instead of the configured ones.
        """

    def gradients(self) -> Iterator[Callable[[Vector], Vector]]:
        """For each minibatch of a walk as configured, w -> gradient there (P,), a new vector;
        weight decay included."""

    def gradient(self, w: Vector) -> Vector:
        """Of the client's objective at w, on its whole shard (P,); weight decay included."""

    def loss(self, w: Vector) -> float:
        """Mean loss at w on the whole shard."""
