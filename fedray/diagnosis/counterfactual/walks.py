"""Local steps of a group of clients, taken together or one after the other.

A member is a job that walks from a start; what a group does with drift or averaging
switched off is a matter of who walks when, and of where gradients are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.learning import local
from fedray.learning.work import Work
from fedray.simulation.events import Job
from fedray.types import DifferentiableModel, Floats, Matrix, Shards, Vector


@dataclass(frozen=True)
class Member:
    """One job of a group: where it starts, its shard, and its step size."""

    job: Job
    start: Vector
    X: Matrix
    y: NDArray[Any]
    lr: float

    def generator(self, work: Work) -> np.random.Generator:
        """The very minibatches that the run gave this job."""
        return rng.generator(work.seed, rng.Stream.TRAIN, self.job.client, self.job.dispatch)


def member(work: Work, shards: Shards, job: Job, start: Vector) -> Member:
    """A job at its start; the step size is that of the version it was sent."""
    X, y = shards.load(job.client)
    return Member(job, start, X, y, work.client.lr * work.client.lr_decay**job.base_version)


def in_turn(work: Work, members: Sequence[Member]) -> Vector:
    """x (P,): whole walks one after the other, each member taking gradients at start_i + x.

    Each walk is the run's own local training, momentum and proximal term included.
    """
    x = np.zeros_like(members[0].start)
    model: Any = work.model
    for one in members:
        start = one.start + x
        if hasattr(model, "gradient"):
            trained = local.sgd(
                model, start, one.X, one.y, work.client, one.lr, one.generator(work)
            ).w
        else:
            passes = int(work.client.epochs)
            trained = model.train(start, one.X, one.y, epochs=passes, rng=one.generator(work))
        x += trained - start
    return x


def at_once(work: Work, members: Sequence[Member]) -> Vector:
    """x (P,): one fit of a closed-form estimator on the samples of all members together."""
    model: Any = work.model
    X = np.concatenate([one.X for one in members])
    y = np.concatenate([one.y for one in members])
    start = members[0].start
    passes = int(work.client.epochs)
    trained = model.train(start, X, y, epochs=passes, rng=members[0].generator(work))
    return np.asarray(trained - start)


def jointly(work: Work, members: Sequence[Member], weights: Floats) -> Vector:
    """x (P,): all members step together, x <- x - sum_i a_i lr_i g_i(start_i + x).

    After every step all hear of it; who has taken his K_i steps falls silent. Local
    momentum becomes that of the joint walk; there is no proximal term, since nobody
    walks alone.
    """
    walk = _Walk(work, members[0].start)
    for batches in _side_by_side(work, members):
        step = np.zeros_like(walk.x)
        for i, X, y in batches:
            one = members[i]
            step += (float(weights[i]) * one.lr) * walk.gradient(one.start, X, y)
        walk.take(step)
    return walk.x


def interleaved(
    work: Work,
    members: Sequence[Member],
    weights: Floats,
    parts: int = 1,
    arrived: Callable[[int, Vector], None] | None = None,
) -> list[Vector]:
    """Single steps, x <- x - a_i lr_i g_i(start_i + x), by the members in turn until all are done.

    With weights a of 1: at full strength. Like `jointly` otherwise, but returns x after each
    of `parts` equal parts of the way, at which `arrived(part, x)` may change it in place.
    """
    walk = _Walk(work, members[0].start)
    total = sum(local.local_steps(work.client, len(one.y)) for one in members)
    passed: list[Vector] = []
    taken = 0
    for batches in _side_by_side(work, members):
        for i, X, y in batches:
            one = members[i]
            walk.take((float(weights[i]) * one.lr) * walk.gradient(one.start, X, y))
            taken += 1
            while len(passed) < parts and taken * parts >= total * (len(passed) + 1):
                if arrived is not None:
                    arrived(len(passed), walk.x)
                passed.append(walk.x.copy())
    return passed


class _Walk:
    """A displacement x (P,) that a group shares."""

    def __init__(self, work: Work, like: Vector) -> None:
        self._model: DifferentiableModel = work.model  # type: ignore[assignment]
        self._client = work.client
        self.x, self._gradient = np.zeros_like(like), np.empty_like(like)
        self._velocity = np.zeros_like(like) if work.client.momentum else None

    def gradient(self, start: Vector, X: Matrix, y: NDArray[Any]) -> Vector:
        """Of a member's objective at start + x, shape (P,); only lent."""
        at = start + self.x
        self._model.gradient(at, X, y, self._gradient)
        if self._client.weight_decay:
            self._gradient += self._client.weight_decay * at
        return self._gradient

    def take(self, step: Vector) -> None:
        """x <- x - step, with local momentum as the clients have it."""
        if self._velocity is not None:
            self._velocity *= self._client.momentum
            self._velocity += step
            step = self._velocity
        self.x -= step


def _side_by_side(
    work: Work, members: Sequence[Member]
) -> Iterator[list[tuple[int, Matrix, NDArray[Any]]]]:
    """Step by step, the minibatches (member, X, y) of all who still have some."""
    walks = [
        (i, local.minibatches(work.client, one.X, one.y, one.generator(work)))
        for i, one in enumerate(members)
    ]
    while walks:
        batches, going_on = [], []
        for i, walk in walks:
            batch = next(walk, None)
            if batch is not None:
                batches.append((i, *batch))
                going_on.append((i, walk))
        if batches:
            yield batches
        walks = going_on
