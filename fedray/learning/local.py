"""Local training: from the downloaded model to the client's own, as a pure function."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.types import DifferentiableModel, Floats, Ints, Matrix, Vector


class Trained(NamedTuple):
    """A client's model and what it took: minibatch steps."""

    w: Vector
    steps: int


def sgd(
    model: DifferentiableModel,
    base: Vector,
    X: Matrix,
    y: NDArray[Any],
    config: schema.Client,
    lr: float,
    rng: np.random.Generator,
) -> Trained:
    """Minibatch SGD from `base` (P,) on one shard X (n, d), y (n,).

    g = grad f_batch(w) + weight_decay w + prox_mu (w - base); v <- momentum v + g;
    w <- w - lr v. Every pass goes through a fresh permutation of the shard; a partial
    last batch counts as a step (McMahan et al. 2017, algorithm 1). FedProx's term is
    that of Li et al. 2020, eq. 2.
    """
    n = len(y)
    size = n if config.batch_size == "full" else min(config.batch_size, n)
    steps = left = local_steps(config, n)
    w, gradient = base.copy(), np.empty_like(base)
    velocity = np.zeros_like(base) if config.momentum else None
    while left:
        batches = min(left, -(-n // size))
        if size < n:
            order = rng.permutation(n)[: batches * size]
            Xs, ys = X.take(order, axis=0), y.take(order)
        else:
            Xs, ys = X, y
        for start in range(0, batches * size, size):
            model.gradient(w, Xs[start : start + size], ys[start : start + size], gradient)
            if config.weight_decay:
                gradient += config.weight_decay * w
            if config.prox_mu:
                gradient += config.prox_mu * (w - base)
            if velocity is not None:
                velocity *= config.momentum
                velocity += gradient
                w -= lr * velocity
            else:
                gradient *= lr
                w -= gradient
        left -= batches
    return Trained(w, steps)


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
