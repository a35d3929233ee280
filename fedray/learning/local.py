"""Local training: from the downloaded model to the client's own, as a pure function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.parts.local import Walked
from fedray.types import DifferentiableModel, Floats, Ints, Matrix, Vector

Trained: TypeAlias = Walked
"""A client's model and what it took: minibatch steps."""


Watch: TypeAlias = Callable[[Vector, Vector], None]
"""Told (w, gradient of the objective at w on the minibatch) before every step; both only lent."""


class Bend(NamedTuple):
    """What a method does to local training: see `parts.local.Local.sgd`."""

    start: Vector | None = None
    shift: Vector | None = None
    pull: float = 0.0
    anchor: Vector | None = None
    reference: Vector | None = None
    scale: float = 1.0
    still: NDArray[np.bool_] | None = None

    def add(self, w: Vector, gradient: Vector, base: Vector) -> None:
        """gradient <- scale (gradient + shift + pull (w - anchor)), and 0 where w stays still,
        in place."""
        if self.shift is not None:
            gradient += self.shift
        if self.pull:
            gradient += self.pull * (w - (base if self.anchor is None else self.anchor))
        if self.scale != 1.0:
            gradient *= self.scale
        if self.still is not None:
            gradient[self.still] = 0.0


def sgd(
    model: DifferentiableModel,
    base: Vector,
    X: Matrix,
    y: NDArray[Any],
    config: schema.Client,
    lr: float,
    rng: np.random.Generator,
    watch: Watch | None = None,
    bend: Bend | None = None,
) -> Trained:
    """Minibatch SGD from `base` (P,) on one shard X (n, d), y (n,).

    g = grad f_batch(w) + weight_decay w + prox_mu (w - base); v <- momentum v + g;
    w <- w - lr v. FedProx's term is that of Li et al. 2020, eq. 2. `watch` sees the
    gradients without that term: the objective is f plus weight_decay / 2 |w|^2. `bend` may
    start elsewhere, and make something else of every gradient.
    """
    start = base if bend is None or bend.start is None else bend.start
    w, gradient = start.copy(), np.empty_like(base)
    velocity = np.zeros_like(base) if config.momentum else None
    other = np.empty_like(base) if bend is not None and bend.reference is not None else None
    steps = 0
    for Xb, yb in minibatches(config, X, y, rng):
        model.gradient(w, Xb, yb, gradient)
        if config.weight_decay:
            gradient += config.weight_decay * w
        if watch is not None:
            watch(w, gradient)
        if config.prox_mu:
            gradient += config.prox_mu * (w - base)
        if bend is not None:
            if other is not None:
                _less(model, bend.reference, Xb, yb, config.weight_decay, gradient, other)
            bend.add(w, gradient, base)
        if velocity is not None:
            velocity *= config.momentum
            velocity += gradient
            w -= lr * velocity
        else:
            gradient *= lr
            w -= gradient
        steps += 1
    return Trained(w, steps)


def _less(
    model: DifferentiableModel, at: Any, Xb: Matrix, yb: NDArray[Any], decay: float,
    gradient: Vector, scratch: Vector,
) -> None:  # fmt: skip
    """gradient -= the gradient of the objective at another point on the same minibatch."""
    model.gradient(at, Xb, yb, scratch)
    if decay:
        scratch += decay * at
    gradient -= scratch


def minibatches(
    config: schema.Client, X: Matrix, y: NDArray[Any], rng: np.random.Generator
) -> Iterator[tuple[Matrix, NDArray[Any]]]:
    """The minibatches of one job, `local_steps` of them.

    Every pass goes through a fresh permutation of the shard; a partial last batch counts
    as a step (McMahan et al. 2017, algorithm 1).
    """
    n = len(y)
    size = n if config.batch_size == "full" else min(config.batch_size, n)
    left = local_steps(config, n)
    while left:
        batches = min(left, -(-n // size))
        if size < n:
            order = rng.permutation(n)[: batches * size]
            Xs, ys = X.take(order, axis=0), y.take(order)
        else:
            Xs, ys = X, y
        for start in range(0, batches * size, size):
            yield Xs[start : start + size], ys[start : start + size]
        left -= batches


def local_steps(config: schema.Client, examples: int) -> int:
    """Minibatch steps of one job: `steps`, or ceil(epochs * batches per pass), at least 1."""
    if config.steps is not None:
        return config.steps
    size = examples if config.batch_size == "full" else min(config.batch_size, examples)
    return max(1, math.ceil(config.epochs * -(-examples // size) - 1e-9))


def samples_per_job(config: schema.Client, examples: Ints) -> Floats:
    """Samples that a job of each client goes through, shape (N,): what its time is made of."""
    n = np.asarray(examples, np.float64)
    if config.steps is None:
        return np.maximum(n * config.epochs, 1.0)
    size = n if config.batch_size == "full" else np.minimum(config.batch_size, n)
    return config.steps * size
