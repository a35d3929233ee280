"""Data that differs from client to client by construction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.schema import LinearRegressionData, SyntheticData
from fedray.data.samples import Samples
from fedray.errors import InputError
from fedray.rng import Stream, generator
from fedray.types import Floats, Ints

_MAX_BYTES = 2**36
_TEST_POINTS = 20


def read_synthetic(config: SyntheticData, seed: int, _base_dir: Path) -> Samples:
    """Synthetic(alpha, beta), Li et al. 2020 (FedProx), section 5.1 and the authors' code.

    n_k = floor(LogNormal(4, 2)) + 50; u_k ~ N(0, alpha), B_k ~ N(0, beta), both standard
    deviations as in the authors' code (the paper says variances); W_k (d, C) and b_k (C,)
    ~ N(u_k, 1); v_k (d,) ~ N(B_k, 1); x ~ N(v_k, diag(j^-1.2)), j = 1..d;
    y = argmax(x W_k + b_k). With `iid`: one W, b ~ N(0, 1) for all, and v_k = 0.
    floor((1 - test_fraction) n_k) samples of every client train, the rest are the test set.

    We differ in drawing each client from its own stream.
    """
    rng = generator(seed, Stream.DATA)
    d, classes = config.dimensions, config.classes
    sizes = rng.lognormal(4.0, 2.0, config.clients).astype(np.int64) + 50
    n = int(sizes.sum())
    if n * d * 8 > _MAX_BYTES:
        raise InputError(
            f"{config.clients} clients with {n} samples of {d} numbers do not fit "
            f"into {_MAX_BYTES >> 30} GiB",
            key="data.clients",
        )
    shared = rng.normal(size=(d, classes)), rng.normal(size=classes)
    ends = np.cumsum(sizes)
    X, y = np.empty((n, d)), np.empty(n, dtype=np.int64)
    for k, (start, end) in enumerate(zip((ends - sizes).tolist(), ends.tolist(), strict=True)):
        own = generator(seed, Stream.DATA, 1 + k)
        W, b, v = _device(config, own) if not config.iid else (*shared, np.zeros(d))
        X[start:end] = v + np.arange(1, d + 1) ** -0.6 * own.normal(size=(end - start, d))
        y[start:end] = np.argmax(X[start:end] @ W + b, axis=1)
    client = np.repeat(np.arange(config.clients), sizes)
    # The samples of a client are exchangeable: its last ones are as good as random ones.
    trained = np.maximum(1, np.floor(sizes * (1 - config.test_fraction)))
    test = np.arange(n) - (ends - sizes)[client] >= trained[client]
    return Samples(
        X=X[~test],
        labels=y[~test],
        features=tuple(f"x{j}" for j in range(d)),
        task="classification",
        classes=tuple(str(c) for c in range(classes)),
        X_test=X[test],
        labels_test=y[test],
        client=client[~test],
    )


def _device(config: SyntheticData, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """W (d, C), b (C,) and the centre v (d,) of one client's inputs."""
    u, B = rng.normal(0.0, config.alpha), rng.normal(0.0, config.beta)
    W = rng.normal(u, 1.0, (config.dimensions, config.classes))
    return W, rng.normal(u, 1.0, config.classes), rng.normal(B, 1.0, config.dimensions)


def read_linear_regression(config: LinearRegressionData, seed: int, _base_dir: Path) -> Samples:
    """One feature; iid: x ~ U(0, 10), y = 2x + 1 + N(0, 1); non_iid: client i = 1, 2, ...
    has x ~ U(0, 5i), y = i x + i + N(0, 1).

    The test set is a fresh draw of the same mix: half as many points per client, at least 20.
    """
    X, y, client = _lines(config, config.points, seed, Stream.DATA)
    fresh = max(config.points // 2, _TEST_POINTS)
    X_test, y_test, _ = _lines(config, fresh, seed, Stream.SPLIT)
    return Samples(
        X=X,
        labels=y,
        features=("x",),
        task="regression",
        X_test=X_test,
        labels_test=y_test,
        client=client,
    )


def _lines(
    config: LinearRegressionData, points: int, seed: int, stream: Stream
) -> tuple[Floats, Floats, Ints]:
    client = np.repeat(np.arange(config.clients), points)
    i = client + 1.0
    if config.scenario == "iid":
        width, slope, intercept = np.full_like(i, 10.0), np.full_like(i, 2.0), np.ones_like(i)
    else:
        width, slope, intercept = 5 * i, i, i
    x = width * generator(seed, stream, 0).random(len(i))
    y = slope * x + intercept + generator(seed, stream, 1).standard_normal(len(i))
    return x[:, None], y, client
