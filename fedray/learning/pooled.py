"""Training on the pooled data: what there would be if nobody had split it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.config import schema
from fedray.learning.work import Work
from fedray.types import Federation, Ints, Matrix, Shards, Vector


def pooled_steps(
    work: Work, federation: Federation, w: Vector, steps: int, lr: float, version: int
) -> Vector:
    """`steps` minibatch steps of SGD on all clients' samples together, from w (P,).

    g = grad f_batch(w) + weight_decay w; v <- momentum v + g from v = 0; w <- w - lr v, with
    the clients' momentum. Minibatches come from a permutation of all samples that only seed
    and `version` decide, and from a fresh one for every further pass: the draws of one version
    do not repeat a sample before all have been used. No proximal term. Batches are as large as
    the clients', see `batch_size`. Every shard that is drawn from is loaded once. A diverging
    model is no exception.
    """
    if not steps:
        return w.copy()
    sizes = federation.shards.sizes
    size = batch_size(work.client, sizes)
    generator = rng.generator(work.seed, rng.Stream.POOLED, version)
    X, y = gather(federation.shards, draw(generator, int(sizes.sum()), steps * size))
    w, gradient, velocity = w.copy(), np.empty_like(w), np.zeros_like(w)
    model: Any = work.model
    with np.errstate(all="ignore"):
        for start in range(0, steps * size, size):
            model.gradient(w, X[start : start + size], y[start : start + size], gradient)
            if work.client.weight_decay:
                gradient += work.client.weight_decay * w
            velocity *= work.client.momentum
            velocity += gradient
            w -= lr * velocity
    return w


def batch_size(client: schema.Client, sizes: Ints) -> int:
    """Samples per pooled step: the clients' batch size, for `full` their mean shard.

    So a step costs as much as a client's; only clients with shards below the batch size
    take smaller ones.
    """
    if client.batch_size == "full":
        return max(1, round(float(sizes.mean())))
    return min(client.batch_size, int(sizes.sum()))


def draw(generator: np.random.Generator, n: int, count: int) -> Ints:
    """`count` of the numbers 0 to n - 1, in random order, each once per pass through them all."""
    passes = []
    while count > 0:
        passes.append(generator.permutation(n)[:count])
        count -= n
    return np.concatenate(passes)


def gather(shards: Shards, positions: Ints) -> tuple[Matrix, NDArray[Any]]:
    """The samples at these positions of all shards laid end to end, client 0 first."""
    sizes = shards.sizes
    starts = np.cumsum(sizes) - sizes
    owner = np.searchsorted(starts, positions, side="right") - 1
    order = np.argsort(owner, kind="stable")
    clients, first = np.unique(owner[order], return_index=True)
    X: Any = None
    y: Any = None
    for client, places in zip(clients.tolist(), np.split(order, first[1:]), strict=True):
        Xk, yk = shards.load(client)
        if X is None:
            X = np.empty((len(positions), Xk.shape[1]), Xk.dtype)
            y = np.empty(len(positions), yk.dtype)
        rows = positions[places] - starts[client]
        X[places], y[places] = Xk[rows], yk[rows]
    return X, y
