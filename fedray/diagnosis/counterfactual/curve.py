"""What an arm came to: its evaluations, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedray.diagnosis.counterfactual.study import Study
from fedray.diagnosis.counterfactual.trace import Group
from fedray.learning import work as worker
from fedray.learning.local import local_steps, samples_per_job
from fedray.models.scoring import add_scores, metrics
from fedray.simulation.events import Job
from fedray.types import Floats, Ints, Vector


@dataclass(frozen=True)
class Curve:
    """One entry per evaluated version, version 0 included; arrays are (E,)."""

    version: Ints
    virtual_time_s: Floats
    updates: Ints
    """Client updates that went in so far."""
    steps: Ints
    """Minibatch gradients evaluated so far."""
    samples: Ints
    """Training samples gone through so far: what the computing costs."""
    bytes: Ints
    """Moved so far, both directions."""
    accuracy: Floats
    """NaN for regression."""
    loss: Floats
    final: Vector
    """Parameters (P,) of the last version."""
    rejected: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    """Updates refused so far because they were not finite."""


def curve_of(
    study: Study,
    models: Iterable[Vector],
    members: Callable[[Group], Sequence[Job]],
    rejected: Callable[[], int] = lambda: 0,
) -> Curve:
    """Scores the models of an arm, one per group of the trace, where the run is evaluated.

    `members` says whose updates are taken into a group: what is counted; `rejected` how many
    of them were refused by now, after all.
    """
    every, count, w = study.plan.config.eval.every, _Count(study), study.plan.initial()
    rows = [(0, 0.0, *count.totals, 0, *_evaluate(study, w))]
    for group, w in zip(study.trace, models, strict=True):
        count.add(members(group), group.bytes)
        if group.version % every == 0 or group is study.trace[-1]:
            refused = rejected()
            rows.append((group.version, group.at_s, *count.totals, refused, *_evaluate(study, w)))
    version, at_s, updates, steps, samples, moved, no, accuracy, loss = map(
        np.array, zip(*rows, strict=True)
    )
    return Curve(version, at_s, updates - no, steps, samples, moved, accuracy, loss, w, no)


class _Count:
    """Totals so far: updates, steps, samples, bytes."""

    def __init__(self, study: Study) -> None:
        client, sizes = study.plan.config.client, study.plan.sizes
        self._steps = [local_steps(client, n) for n in sizes.tolist()]
        self._samples = np.rint(samples_per_job(client, sizes)).astype(np.int64).tolist()
        self.totals = (0, 0, 0, 0)

    def add(self, jobs: Sequence[Job], moved: int) -> None:
        updates, steps, samples, total = self.totals
        self.totals = (
            updates + len(jobs),
            steps + sum(self._steps[job.client] for job in jobs),
            samples + sum(self._samples[job.client] for job in jobs),
            total + moved,
        )


def _evaluate(study: Study, w: Vector) -> tuple[float, float]:
    """Accuracy (NaN for regression) and loss on the test set, summed as the run sums them."""
    data = study.federation
    pieces = np.arange(worker.eval_pieces(len(data.y_test)))
    found = metrics(
        add_scores(worker.evaluate(study.plan.work, w, data.X_test, data.y_test, pieces))
    )
    return np.nan if found.accuracy is None else found.accuracy, found.loss
