"""The yardstick: federated averaging as a bare numpy loop in two plain processes.

No framework, no records, no virtual time: the parent trains half of the cohort, a child
the other half; the parent averages and evaluates. Written to be as fast as such a loop
gets: parameters travel through shared memory, a pipe only says when.
"""

from __future__ import annotations

import multiprocessing as mp
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from threadpoolctl import threadpool_limits


def softmax_step(params, X, y, lr):
    W, b = params
    Z = X @ W.T + b
    Z -= Z.max(axis=1, keepdims=True)
    np.exp(Z, out=Z)
    Z /= Z.sum(axis=1, keepdims=True)
    Z[np.arange(len(y)), y] -= 1.0
    Z *= lr / len(y)
    W -= Z.T @ X
    b -= Z.sum(axis=0)


def softmax_right(params, X, y):
    W, b = params
    Z = X @ W.T + b
    top = Z.max(axis=1)
    loss = np.log(np.exp(Z - top[:, None]).sum(axis=1)) + top - Z[np.arange(len(y)), y]
    return int((Z.argmax(axis=1) == y).sum()), float(loss.sum())


def mlp_step(params, X, y, lr):
    W1, b1, W2, b2, W3, b3 = params
    A1 = np.maximum(X @ W1 + b1, 0.0)
    A2 = np.maximum(A1 @ W2 + b2, 0.0)
    Z = A2 @ W3 + b3
    Z -= Z.max(axis=1, keepdims=True)
    np.exp(Z, out=Z)
    Z /= Z.sum(axis=1, keepdims=True)
    Z[np.arange(len(y)), y] -= 1.0
    Z *= lr / len(y)
    D2 = (Z @ W3.T) * (A2 > 0)
    D1 = (D2 @ W2.T) * (A1 > 0)
    W3 -= A2.T @ Z
    b3 -= Z.sum(axis=0)
    W2 -= A1.T @ D2
    b2 -= D2.sum(axis=0)
    W1 -= X.T @ D1
    b1 -= D1.sum(axis=0)


def mlp_right(params, X, y):
    W1, b1, W2, b2, W3, b3 = params
    Z = np.maximum(np.maximum(X @ W1 + b1, 0.0) @ W2 + b2, 0.0) @ W3 + b3
    top = Z.max(axis=1)
    loss = np.log(np.exp(Z - top[:, None]).sum(axis=1)) + top - Z[np.arange(len(y)), y]
    return int((Z.argmax(axis=1) == y).sum()), float(loss.sum())


MODELS = {
    "softmax": (softmax_step, softmax_right, lambda d, c: [(c, d), (c,)]),
    "mlp": (
        mlp_step,
        mlp_right,
        lambda d, c: [(d, 200), (200,), (200, 200), (200,), (200, c), (c,)],
    ),
}


def views(flat, shapes):
    """Parameter arrays inside a flat vector."""
    ends = np.cumsum([int(np.prod(s)) for s in shapes])
    return [flat[e - int(np.prod(s)) : e].reshape(s) for e, s in zip(ends, shapes, strict=True)]


def train_sum(step, shapes, w, shards, sizes, clients, batch, lr, seed, out):
    """Adds n_i * delta_i of the given clients into `out`."""
    out[:] = 0.0
    for client in clients:
        X, y = shards[client]
        rng = np.random.default_rng((seed, int(client)))
        local = w.copy()
        params = views(local, shapes)
        order = rng.permutation(len(y))
        Xs, ys = X[order], y[order]
        for start in range(0, len(y), batch):
            step(params, Xs[start : start + batch], ys[start : start + batch], lr)
        local -= w
        local *= sizes[client]
        out += local


def _child(pipe, names, kind, shards, sizes, shapes, batch, lr):
    step, _, _ = MODELS[kind]
    memory = [SharedMemory(name) for name in names]
    size = sum(int(np.prod(s)) for s in shapes)
    w, out = (np.ndarray(size, np.float32, m.buf) for m in memory)
    with threadpool_limits(1):
        while (work := pipe.recv()) is not None:
            clients, seed = work
            train_sum(step, shapes, w, shards, sizes, clients, batch, lr, seed, out)
            pipe.send(True)
    del w, out


def run(kind, shards, X_test, y_test, *, cohort, batch, lr, rounds, warm, evaluate, start):
    """Client updates per second after `warm` rounds, and the last accuracy."""
    step, right, shape_of = MODELS[kind]
    shapes = shape_of(X_test.shape[1], int(y_test.max()) + 1)
    size = sum(int(np.prod(s)) for s in shapes)
    sizes = np.array([len(y) for _, y in shards], np.float32)
    memory = [SharedMemory(create=True, size=size * 4) for _ in range(2)]
    w, theirs = (np.ndarray(size, np.float32, m.buf) for m in memory)
    w[:] = start
    here, there = mp.Pipe()
    names = [m.name for m in memory]
    child = mp.get_context("fork").Process(
        target=_child, args=(there, names, kind, shards, sizes, shapes, batch, lr), daemon=True
    )
    child.start()
    mine = np.empty(size, np.float32)
    rng = np.random.default_rng(0)
    accuracy = float("nan")
    with threadpool_limits(1):
        for version in range(rounds):
            if version == warm:
                started = time.perf_counter()
            clients = rng.choice(len(shards), cohort, replace=False)
            here.send((clients[cohort // 2 :], version))
            train_sum(
                step, shapes, w, shards, sizes, clients[: cohort // 2], batch, lr, version, mine
            )
            here.recv()
            w += (mine + theirs) / sizes[clients].sum()
            if evaluate:
                hits, _ = right(views(w, shapes), X_test, y_test)
                accuracy = hits / len(y_test)
    took = time.perf_counter() - started
    if not evaluate:
        accuracy = right(views(w, shapes), X_test, y_test)[0] / len(y_test)
    here.send(None)
    child.join()
    del w, theirs
    for m in memory:
        m.close()
        m.unlink()
    return (rounds - warm) * cohort / took, accuracy
