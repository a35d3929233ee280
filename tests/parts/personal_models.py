"""The models that clients have at the end of a run of quadratics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from quadratics import LR, A, M

from fedray.config import schema
from fedray.learning.job import Job
from fedray.parts.personal.base import Personal

START = 0.3
"""Not 0: what a client remembers may be anything but all zeros."""


def models(
    toy: Callable, folder: Path, personal: Personal, *, rounds: int, steps: int = 5,
    lr: float = LR, server: schema.Server | None = None, **more: object,
) -> tuple[np.ndarray, list[np.ndarray]]:  # fmt: skip
    """The server's parameters and each client's own, after so many rounds."""
    asked = server or schema.Server(weighting="uniform")
    made = toy(
        A, M, client=schema.Client(steps=steps, batch_size="full", lr=lr),
        server=schema.Server(**{**vars(asked), "rounds": rounds}), personal=personal,
        start=START, **more,
    )  # fmt: skip
    run, executor = made.flown(folder)
    w = np.concatenate([np.ravel(v) for name, v in run.model.items() if "." not in name])
    work = made.plan.work
    owned = []
    for client in range(len(A)):
        state = executor.memories.get(client) if executor.memories is not None else None
        job = Job(
            work.model, work.client, w, *made.federation.shards.load(client), lr,
            np.random.default_rng(0), state=state, vectors=work.state_vectors, own=work.own,
            kept=work.kept,
        )  # fmt: skip
        owned.append(personal.own(job))
    return w, owned


def close(found: Sequence[object], expected: Sequence[object]) -> None:
    """Equal to rounding."""
    np.testing.assert_allclose(np.ravel(found), np.ravel(expected), rtol=1e-11, atol=1e-13)
