"""How good clients' own models are, on samples that they hold back, and the shared one there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.learning.job import Job
from fedray.learning.work import Work
from fedray.types import Federation, Floats, Matrix, Model, Vector

COLUMNS = ("samples", "shared_loss", "shared_score", "own_loss", "own_score", "label")
"""Of `OwnScores`: means over the held-out samples; the score is accuracy, or squared error."""


@dataclass(frozen=True)
class OwnScores:
    """A question for a worker: both models of some clients, at one version.

    What a client does to get at its model (such as fine-tuning) starts from `w` (P,), the
    server's model, and from what it remembers: a pure function of these and of the seed.
    """

    version: int
    w: Vector
    shared: Vector
    """The model (P,) that is compared with: what the run's method reads out of w."""
    broadcast: tuple[Vector, ...]
    clients: NDArray[np.int64]
    states: Sequence[Matrix | None]
    """(S, P) each; None where a client remembers nothing."""
    examples: int

    def __call__(self, work: Work, federation: Federation) -> Floats:
        """A row of `COLUMNS` per client; NaN where it holds nothing back."""
        rows = np.full((len(self.clients), len(COLUMNS)), np.nan)
        with np.errstate(all="ignore"):
            for row, client, state in zip(rows, self.clients.tolist(), self.states, strict=True):
                self._score(work, federation, row, client, state)
        return rows

    def _score(
        self, work: Work, federation: Federation, row: Floats, client: int, state: Matrix | None
    ) -> None:
        assert federation.tests is not None
        X, y = federation.tests.load(client)
        job = Job(
            work.model, work.client, self.w, *federation.shards.load(client),
            work.client.lr * work.client.lr_decay**self.version,
            rng.generator(work.seed, rng.Stream.PERSONAL, client, self.version),
            broadcast=self.broadcast, state=state, vectors=work.state_vectors,
            own=work.own, kept=work.kept,
        )  # fmt: skip
        row[0], row[5] = len(y), work.personal.label(job)
        if len(y):
            row[1:3] = _scored(work.model, self.shared, X, y)
            row[3:5] = _scored(work.model, work.personal.own(job), X, y)


def _scored(model: Model, w: Vector, X: Matrix, y: NDArray[Any]) -> tuple[float, float]:
    """Mean loss, and accuracy or mean squared error."""
    score = model.score(w, X, y)
    right = score.squared_sum if score.per_class is None else score.per_class[0].sum()
    return score.loss_sum / score.samples, right / score.samples
