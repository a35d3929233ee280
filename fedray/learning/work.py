"""What a worker does with a batch of jobs: the same function in every process.

A job is a pure function of (parameters of its version, shard, seed, client, dispatch),
so it does not matter who runs it, beside which others, or how often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.config import schema
from fedray.learning.job import Job
from fedray.learning.stragglers import Stragglers, stragglers_of
from fedray.parts.attacks.base import Crew
from fedray.parts.local import Outcome
from fedray.parts.methods.base import Method
from fedray.parts.methods.plain import Plain
from fedray.parts.personal.base import Mask, Personal
from fedray.parts.personal.off import Off
from fedray.parts.transforms import Sender, Transform
from fedray.types import Floats, Ints, Matrix, Model, Score, Shards, Vector

Tensor: TypeAlias = NDArray[np.floating[Any]]

EVAL_ROWS = 1000
"""Test samples per piece of an evaluation. Fixed, so that sums do not depend on workers."""


@dataclass(frozen=True)
class Work:
    """Everything that training and evaluation need besides data and parameters."""

    model: Model
    client: schema.Client
    seed: int
    local_losses: bool
    method: Method = field(default_factory=Plain)
    transforms: tuple[Transform, ...] = ()
    """What an update, and every upload, goes through on its way."""
    attackers: Crew | None = None
    """The malicious clients, if there are any."""
    squares: bool = False
    """Whether jobs tell the mean squared loss of the downloaded model."""
    personal: Personal = field(default_factory=Off)

    @cached_property
    def state_vectors(self) -> int:
        """S: vectors (P,) that a client keeps from job to job: the method's, then those of its
        own model, then the transforms'."""
        memory = sum(transform.memory_vectors for transform in self.transforms)
        own = self.method.state_vectors + self.personal.state_vectors
        return own + memory * (1 + self.method.uploads)

    @cached_property
    def own(self) -> slice:
        """Which of them are those of the client's own model."""
        start = self.method.state_vectors
        return slice(start, start + self.personal.state_vectors)

    @cached_property
    def kept(self) -> Mask | None:
        """(P,): the parameters that never leave a client; None: all travel."""
        return self.personal.kept(self.model)

    @cached_property
    def stragglers(self) -> Stragglers | None:
        """The jobs that do less, if there are any."""
        return stragglers_of(self.client, self.seed)

    def client_of(self, dispatch: int) -> schema.Client:
        """The settings that a job trains by."""
        return self.client if self.stragglers is None else self.stragglers.client(dispatch)

    @cached_property
    def sends_more(self) -> bool:
        """Whether a job comes to more than an update as it was trained."""
        return bool(self.transforms or self.state_vectors or self.method.uploads)

    def initial(self) -> Vector:
        """Version 0 of the run (P,), which every process knows from the seed; not to be changed."""
        return self._initial

    @cached_property
    def _initial(self) -> Vector:
        return self.model.init(rng.generator(self.seed, rng.Stream.INIT))


class Results(NamedTuple):
    """K finished jobs: deltas (K, P) = local model - downloaded model, and facts (K,).

    `uploads` (K, U, P) is what the method sends besides, `states` (K, S, P) what the clients
    remember; U and S may be 0.
    """

    deltas: Matrix
    steps: Ints
    norm: Floats
    loss_before: Floats
    loss_after: Floats
    uploads: Tensor = np.empty((0, 0, 0))
    states: Tensor = np.empty((0, 0, 0))
    loss_square: Floats = np.empty(0)
    """Mean squared loss of the downloaded model per sample; NaN unless asked for."""
    labels: Ints = np.empty(0, np.int64)
    """(K,): the group that each client found itself to be of, where there are groups; else 0."""


def train(
    work: Work,
    shards: Shards,
    base: Vector,
    version: int,
    clients: NDArray[Any],
    dispatches: NDArray[Any],
    into: Sequence[Vector] | None = None,
    *,
    broadcast: tuple[Vector, ...] = (),
    states: Sequence[Matrix | None] | None = None,
) -> Results:
    """Runs jobs that start from `base` (P,), the parameters of `version`.

    `states` (S, P) are what the clients remember, None where nothing yet. The deltas are
    returned, or written into K given vectors (P,) and not returned. A diverging job shows as a
    non-finite norm, never as an exception; its client remembers what it did before.
    """
    count = len(clients)
    deltas = np.empty((count if into is None else 0, len(base)), base.dtype)
    out = deltas if into is None else into
    steps, labels = np.empty((2, count), np.int64)
    norm, loss_before, loss_after, loss_square = np.full((4, count), np.nan)
    uploads = np.empty((count, work.method.uploads, len(base)), base.dtype)
    after = np.empty((count, work.state_vectors, len(base)), base.dtype)
    jobs = _jobs(work, shards, base, version, clients, dispatches, broadcast, states)
    with np.errstate(all="ignore"):
        for i, (sender, job) in enumerate(jobs):
            trained = work.personal.train(job, work.method)
            start = base if trained.start is None else trained.start
            delta = np.subtract(trained.w, start, out=out[i])
            norm[i] = _leave(work, job, trained, delta, sender, uploads[i], after[i])
            steps[i], labels[i] = trained.steps, trained.label
            if work.local_losses:
                loss_before[i], loss_after[i] = job.loss(start), job.loss(trained.w)
            if work.squares:
                loss_square[i] = job.loss_square(base)
    return Results(
        deltas, steps, norm, loss_before, loss_after, uploads, after, loss_square, labels
    )


def _jobs(
    work: Work,
    shards: Shards,
    base: Vector,
    version: int,
    clients: NDArray[Any],
    dispatches: NDArray[Any],
    broadcast: tuple[Vector, ...],
    states: Sequence[Matrix | None] | None,
) -> Iterator[tuple[Sender, Job]]:
    """One at a time, to be trained before the next: they share a generator of minibatches."""
    lr = work.client.lr * work.client.lr_decay**version
    generators = _generators(work.seed)
    for i, (client, dispatch) in enumerate(zip(clients.tolist(), dispatches.tolist(), strict=True)):
        X, y = shards.load(client)
        if work.attackers is not None:
            y = work.attackers.labels(client, y)
        yield Sender(client, dispatch, version, work.seed), Job(
            work.model, work.client_of(dispatch), base, X, y, lr,
            generators.at(client, dispatch), broadcast=broadcast,
            state=states[i] if states else None, vectors=work.state_vectors,
            own=work.own, kept=work.kept, initial=work.initial,
        )  # fmt: skip


def _leave(
    work: Work, job: Job, trained: Outcome, delta: Vector, sender: Sender, uploads: Matrix,
    after: Matrix,
) -> float:  # fmt: skip
    """Turns delta (P,), in place, into what leaves the client, and says how long that is.

    `uploads` (U, P) and `after` (S, P), what the client then remembers, are written. Where any
    of it is not finite the length is not either, and the client remembers what it did before.
    """
    if work.attackers is not None:
        work.attackers.spoil(delta, sender.client, sender.dispatch)
    if work.kept is not None:
        delta[work.kept] = 0.0
    if not work.sends_more:
        return float(np.sqrt(np.dot(delta, delta)))
    send(work, job, trained, delta, sender, uploads, after)
    length = float(np.sqrt(np.dot(delta, delta)))
    if not np.isfinite(uploads).all() or not np.isfinite(after).all():
        length = math.nan
    if not math.isfinite(length):
        after[:] = job.state
    return length


def send(
    work: Work, job: Job, trained: Outcome, delta: Vector, sender: Sender, uploads: Matrix,
    after: Matrix,
) -> None:  # fmt: skip
    """Puts delta (P,) and the uploads (U, P) through the transforms, in place, and writes
    what the client then remembers into `after` (S, P). What never leaves it stays as it is."""
    after[:] = job.state
    if trained.state is not None:
        after[: work.own.start] = trained.state
    if trained.own is not None:
        after[work.own] = trained.own
    uploads[:] = trained.uploads or 0.0
    at, travels = work.own.stop, slice(None) if work.kept is None else ~work.kept
    for transform in work.transforms:
        for place, vector in enumerate((delta, *uploads)):
            memory = after[at : at + transform.memory_vectors]
            vector[travels], memory[:, travels] = transform.apply(
                vector[travels], memory[:, travels], sender._replace(place=place)
            )
            at += transform.memory_vectors


@lru_cache(maxsize=4)
def _generators(seed: int) -> rng.Rewindable:
    """Kept from call to call: making one takes as long as a small job's minibatch."""
    return rng.Rewindable(seed, rng.Stream.TRAIN)


def eval_pieces(samples: int) -> int:
    """Number of pieces that the test set is evaluated in."""
    return -(-samples // EVAL_ROWS)


def evaluate(
    work: Work, w: Vector, X: Matrix, y: NDArray[Any], pieces: NDArray[Any]
) -> list[Score]:
    """Scores of the given pieces of the test set, one by one."""
    with np.errstate(all="ignore"):
        return [
            work.model.score(w, X[p * EVAL_ROWS : (p + 1) * EVAL_ROWS],
                             y[p * EVAL_ROWS : (p + 1) * EVAL_ROWS])
            for p in pieces.tolist()
        ]  # fmt: skip


def evaluate_clients(work: Work, shards: Shards, w: Vector, clients: NDArray[Any]) -> Floats:
    """One model on the shards of the given clients, a row each.

    Columns: samples, loss_sum, right, squared_sum, y_sum, y_squared_sum, as in Score.
    """
    rows = np.empty((len(clients), 6))
    with np.errstate(all="ignore"):
        for row, client in zip(rows, clients.tolist(), strict=True):
            score = work.model.score(w, *shards.load(client))
            right = 0 if score.per_class is None else score.per_class[0].sum()
            row[:] = (score.samples, score.loss_sum, right, score.squared_sum, score.y_sum,
                      score.y_squared_sum)  # fmt: skip
    return rows
