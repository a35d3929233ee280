"""What selections hear: how clients like the newest model, and what came of a version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedray.learning import work as worker
from fedray.learning.work import Work
from fedray.parts.selection.base import News, Reply
from fedray.simulation.events import Aggregate
from fedray.simulation.executor import Executor
from fedray.simulation.step import Step
from fedray.types import Federation, Floats, Ints, Vector

_CLIENTS = 8
"""Per question: few enough to spread over workers. Every client's answer is its own."""
_WORST = -1e30
"""The score of a regression whose loss is not finite, still a number for a checkpoint."""


@dataclass(frozen=True)
class Survey:
    """A model on the shards of some clients: rows as of `learning.work.evaluate_clients`."""

    w: Vector
    clients: tuple[int, ...]
    examples: int

    def __call__(self, work: Work, federation: Federation) -> Floats:
        return worker.evaluate_clients(work, federation.shards, self.w, np.array(self.clients))


def survey(
    executor: Executor, w: Vector, clients: Sequence[int], sizes: Ints, *, classification: bool
) -> list[Reply]:
    """Asks clients, all at once, and waits for the answers; in the order of the clients."""
    groups = [tuple(clients[i : i + _CLIENTS]) for i in range(0, len(clients), _CLIENTS)]
    questions = [Survey(w, group, int(sizes[list(group)].sum())) for group in groups]
    executor.ask("survey", questions)
    rows = np.concatenate(executor.answers("survey"))
    return [_reply(row, classification) for row in rows.tolist()]


def _reply(row: Sequence[float], classification: bool) -> Reply:
    samples, loss_sum, right = row[:3]
    loss = loss_sum / samples
    if not math.isfinite(loss):
        return Reply(math.inf, right / samples if classification else _WORST)
    return Reply(loss, right / samples if classification else -loss)


def news(command: Aggregate, step: Step) -> News:
    """What a version brought."""
    jobs, results = command.jobs, step.results
    return News(
        version=command.version,
        clients=[job.client for job in jobs],
        applied=step.accepted.tolist(),
        examples=step.examples.tolist(),
        losses=results.loss_before.tolist(),
        squares=results.loss_square.tolist() or [math.nan] * len(jobs),
        duration_s=[job.due_s - job.dispatched_at_s for job in jobs],
    )
