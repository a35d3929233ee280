"""What a worker does with a batch of jobs: the same function in every process.

A job is a pure function of (parameters of its version, shard, seed, client, dispatch),
so it does not matter who runs it, beside which others, or how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.config import schema
from fedray.learning import local
from fedray.types import Floats, Ints, Matrix, Model, Score, Shards, Vector

EVAL_ROWS = 1000
"""Test samples per piece of an evaluation. Fixed, so that sums do not depend on workers."""


@dataclass(frozen=True)
class Work:
    """Everything that training and evaluation need besides data and parameters."""

    model: Model
    client: schema.Client
    seed: int
    local_losses: bool


class Results(NamedTuple):
    """K finished jobs: deltas (K, P) = local model - downloaded model, and facts (K,)."""

    deltas: Matrix
    steps: Ints
    norm: Floats
    loss_before: Floats
    loss_after: Floats


def train(
    work: Work,
    shards: Shards,
    base: Vector,
    version: int,
    clients: NDArray[Any],
    dispatches: NDArray[Any],
    into: Sequence[Vector] | None = None,
) -> Results:
    """Runs jobs that start from `base` (P,), the parameters of `version`.

    The deltas are returned, or written into K given vectors (P,) and not returned. A
    diverging job shows as a non-finite norm, never as an exception.
    """
    count = len(clients)
    deltas = np.empty((count if into is None else 0, len(base)), base.dtype)
    out = deltas if into is None else into
    steps = np.empty(count, np.int64)
    facts = np.full((3, count), np.nan)
    lr = work.client.lr * work.client.lr_decay**version
    generators = _generators(work.seed)
    with np.errstate(all="ignore"):
        for i, (client, dispatch) in enumerate(
            zip(clients.tolist(), dispatches.tolist(), strict=True)
        ):
            X, y = shards.load(client)
            trained = _fit(work, base, X, y, lr, generators.at(client, dispatch))
            delta = np.subtract(trained.w, base, out=out[i])
            steps[i] = trained.steps
            facts[0, i] = np.sqrt(np.dot(delta, delta))
            if work.local_losses:
                facts[1, i] = _mean_loss(work.model, base, X, y)
                facts[2, i] = _mean_loss(work.model, trained.w, X, y)
    return Results(deltas, steps, *facts)


@lru_cache(maxsize=4)
def _generators(seed: int) -> rng.Rewindable:
    """Kept from call to call: making one takes as long as a small job's minibatch."""
    return rng.Rewindable(seed, rng.Stream.TRAIN)


def _fit(
    work: Work, base: Vector, X: Matrix, y: NDArray[Any], lr: float, generator: np.random.Generator
) -> local.Trained:
    model: Any = work.model
    if hasattr(model, "gradient"):
        return local.sgd(model, base, X, y, work.client, lr, generator)
    passes = int(work.client.epochs)
    return local.Trained(model.train(base, X, y, epochs=passes, rng=generator), passes)


def _mean_loss(model: Any, w: Vector, X: Matrix, y: NDArray[Any]) -> float:
    if hasattr(model, "loss"):
        return float(model.loss(w, X, y))
    return float(model.score(w, X, y).loss_sum) / len(y)


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
