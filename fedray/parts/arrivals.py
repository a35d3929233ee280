"""What the server knows when it makes a version, and what a rule makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from fedray.types import Floats, Ints, Matrix, Vector

Memory: TypeAlias = Mapping[str, Vector]
"""What a rule remembers from version to version, by name; empty at first, kept in checkpoints.
Never changed in place: a rule returns a new one."""


class Arrivals(NamedTuple):
    """The updates that one version is made from, in order of arrival. Nothing is written to.

    With delta_i = w_i - w_base, an update points from the model that the client was sent to
    its own; in mode async it points from the newest model instead.
    """

    updates: Matrix
    """(A, P)"""
    weights: Floats
    """(A,): what each counts, share_i s(tau_i), in mode async mixing s(tau_i)."""
    clients: Ints
    staleness: Ints
    examples: Ints
    """n_i, (A,)"""
    steps: Ints
    """K_i, (A,): local steps."""
    lr: Floats
    """(A,): size of a local step."""
    losses: Floats
    """(A,): loss of the downloaded model on the client's shard; NaN unless asked for."""
    uploads: tuple[Matrix, ...] = ()
    """What a method's clients send besides, (A, P) each."""
    shares: Floats = np.empty(0)
    """(A,): share_i alone, which sum to 1: by examples, or equal."""
    labels: Ints = np.empty(0, np.int64)
    """(A,): the group that each client found itself to be of, where there are groups; else 0."""
    version: int = 0
    """The version that is being made."""
    seed: int = 0
    norms: Floats = np.empty(0)
    """(A,): |update_i|."""
    walks: Matrix = np.empty((0, 0))
    """(A, P): w_i - w_base, where clients went from the model that they were sent. The same as
    `updates`, but in mode async."""

    def from_base(self) -> Arrivals:
        """With the walks as updates, in mode async too."""
        if self.walks is self.updates:
            return self
        norms = np.linalg.norm(self.walks, axis=1).astype(np.float64)
        return self._replace(updates=self.walks, norms=norms)


def newest(clients: Ints) -> Ints:
    """The place of every client's last arrival, for groups in which a client may come twice."""
    _, places = np.unique(clients[::-1], return_index=True)
    return np.asarray(len(clients) - 1 - places)


class Combined(NamedTuple):
    """The aggregated update (P,), what each update weighed in it (A,), and what to remember.

    Where an aggregate is no weighted sum, the weights are the ones that describe it best.
    """

    update: Vector
    weights: Floats
    memory: Memory = {}  # noqa: RUF012 - never written to


class PerClient(Protocol):
    """A vector for each client that ever had one, kept by the server."""

    def __len__(self) -> int:
        """Clients that have one."""

    def rows(self, clients: Ints) -> Matrix:
        """Those of some clients, (A, P); zeros for who has none yet."""

    def put(self, clients: Ints, rows: Matrix) -> None:
        """Replaces them by the rows (A, P). Of two rows for the same client the later counts."""

    def exchange(
        self, clients: Ints, rows: Matrix, new: Matrix, old: Matrix, factors: Floats | None = None
    ) -> Matrix:
        """new @ rows - old @ rows(clients), (K, P) with new and old (K, A); and the rows (A, P),
        times factors (A,) if there are any, are put in the place of what was there."""


class ServerView(NamedTuple):
    """The server, as a method sees it."""

    w: Vector
    """The newest model (P,)."""
    clients: int
    """N"""
    p: Floats
    """(N,): n_i / n over all clients."""
    average: Callable[[Arrivals], Combined]
    """The configured aggregator, to be asked once; what it remembers is looked after."""
    table: PerClient | None = None
    """For methods with `table`."""
    frequency: Floats = np.empty(0)
    """(N,): updates per version that a client is expected to bring in, for methods with
    `needs_frequency`."""
    buffer: int = 1
    """Updates per version: cohort, buffer size, or 1; by the clock an expectation."""
    concurrency: int = 1
    """Clients that train at a time."""
    server_lr: float = 1.0
    linear: bool = True
    """Whether the configured aggregator takes weights as factors on the updates."""
    momentum: float = 0.0
    """The clients' own, in their local steps."""
    prox_mu: float = 0.0
    """The clients' proximal term."""
    cohort_gradient: Vector | None = None
    """For methods with `cohort_gradient`: the cohort's mean gradient at w."""

    def weigh(self, arrivals: Arrivals, factors: Floats) -> Floats:
        """What each update (A,) weighs in `scaled`, where the aggregator is linear."""
        return self.scaled(arrivals._replace(updates=arrivals.updates[:, :0]), factors).weights

    def scaled(self, arrivals: Arrivals, factors: Floats) -> Combined:
        """The configured aggregate of factor_i update_i, (A,) factors of at least 0."""
        if self.linear:
            return self.average(arrivals._replace(weights=arrivals.weights * factors))
        found = self.average(
            arrivals._replace(
                updates=factors.astype(arrivals.updates.dtype)[:, None] * arrivals.updates,
                norms=arrivals.norms * factors,
            )
        )
        return found._replace(weights=found.weights * factors)
