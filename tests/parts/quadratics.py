"""Algorithms once more, written from their papers in a few lines, on quadratics with full batches.

f_i(w) = a_i (w - m_i)^2 / 2 in one dimension, in float64, everybody in every round: nothing is
random, so that a method must agree step by step, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedray.config import schema
from fedray.parts.methods.base import Method

A, M, LR = (1.0, 4.0, 2.5), (0.0, 1.0, -2.0), 0.05
OPTIMUM = sum(a * m for a, m in zip(A, M, strict=True)) / sum(A)


def grad(i: int, w: float) -> float:
    """Of client i at w."""
    return A[i] * (w - M[i])


def walk(i: int, w: float, steps: int, correct: Callable[[float], float] = lambda _: 0.0) -> float:
    """Gradient steps of client i from w, each corrected by a function of where it stands."""
    for _ in range(steps):
        w = w - LR * (grad(i, w) + correct(w))
    return w


def flown(
    toy: Callable, folder: Path, method: Method, rounds: int, *, steps: int | Sequence[int] = 5,
    server: schema.Server | None = None, **more: object,
) -> list[float]:  # fmt: skip
    """The parameter after 1, 2, ... rounds of a run of fedray's, synchronous and uniform."""
    asked = server or schema.Server(weighting="uniform")
    return toy(
        A, M, client=schema.Client(steps=steps, batch_size="full", lr=LR),
        server=schema.Server(**{**vars(asked), "rounds": rounds}), method=method, **more,
    ).trace(folder)  # fmt: skip


def close(found: Sequence[float], expected: Sequence[float]) -> None:
    """Equal to rounding."""
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
