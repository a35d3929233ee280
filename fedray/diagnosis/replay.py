"""One arm of a study, from its first version to its last, in this process.

With every cause on, it is the run itself, bit for bit. Every other arm recomputes what
each group of updates comes to with some causes off, on the same trace, with the same
minibatches, step sizes and numbers of steps: see `docs/diagnosis.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedray.config import schema
from fedray.diagnosis import walks
from fedray.diagnosis.arms import RUN, Arm
from fedray.diagnosis.curve import Curve, curve_of
from fedray.diagnosis.study import Study
from fedray.diagnosis.trace import Group, windows
from fedray.learning import work as worker
from fedray.learning.work import Results
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.events import Job
from fedray.simulation.executor import empty_results, stack
from fedray.simulation.policies import staleness
from fedray.simulation.server import GlobalModel, Step
from fedray.types import Federation, Floats, Vector


class Made(NamedTuple):
    """One step of an arm: from `before` to `after`, shape (P,)."""

    groups: list[Group]
    """What it is made from: one group of the trace, or a window of groups of one."""
    before: Vector
    bases: list[Vector]
    """What each job of an only group started from; empty for windows."""
    after: Vector
    step: Step | None
    """How the server got there; None where walks are not averaged, or are not alone."""

    @property
    def version(self) -> int:
        return self.groups[-1].version


def steps(study: Study, arm: Arm = RUN, snapshot: Snapshot | None = None) -> Iterator[Made]:
    """All steps of an arm, from version 0, or for the run's own arm from a checkpoint."""
    replay = _Replay(study, arm, snapshot)
    return replay.run()


def fly(study: Study, arm: Arm) -> Curve:
    """The curve of an arm: scores at the versions that the run evaluates too."""
    replay = _Replay(study, arm, None)
    models = ((made.version, made.after) for made in replay.run())
    return curve_of(study, models, lambda group: replay.jobs([group]))


class _Replay:
    """The arm's own global model, with every version that a later job starts from."""

    def __init__(self, study: Study, arm: Arm, snapshot: Snapshot | None) -> None:
        self._study, self._arm = study, arm
        self._work = study.plan.work
        self._config = study.plan.config
        self._data = _data(study, arm)
        self._server = GlobalModel(self._config.server, study.plan.initial())
        if snapshot is not None:
            self._server = GlobalModel(
                self._config.server, snapshot.w, snapshot.version,
                dict(snapshot.optimizer), dict(snapshot.versions),
            )  # fmt: skip
        self._blocks = [b for b in _blocks(study, arm) if b[-1].version > self._server.version]
        self._source = {0: 0} if snapshot is None else {v: v for v in self._server.versions}
        self._last_use = self._uses()

    def _uses(self) -> dict[int, int]:
        """By version, the last block (by its version) that somebody comes from there."""
        made = sorted({*self._server.versions, *(b[-1].version for b in self._blocks)})
        last = {}
        for block in self._blocks:
            for job in self.jobs(block):
                at = int(np.searchsorted(made, job.base_version, side="right")) - 1
                self._source[job.base_version] = made[at]
                last[made[at]] = block[-1].version
        return last

    def jobs(self, block: Sequence[Group]) -> list[Job]:
        """Who takes part: with staleness off also those whose updates the run lost."""
        if self._arm.staleness:
            return [job for group in block for job in group.jobs]
        return [job for group in block for job in (*group.jobs, *group.lost)]

    def run(self) -> Iterator[Made]:
        server = self._server
        for block in self._blocks:
            before = server.w
            bases, step = self._advance(block)
            server.version = block[-1].version
            server.versions[server.version] = server.w
            server.keep({v for v, last in self._last_use.items() if last > server.version})
            yield Made(block, before, bases, server.w, step)

    def _advance(self, block: list[Group]) -> tuple[list[Vector], Step | None]:
        """Makes the next version in the arm's own way."""
        jobs, server = self.jobs(block), self._server
        if self._arm.drift and self._arm.averaging:
            return self._as_the_run(jobs)
        if not jobs:
            return [], None
        members = [
            walks.member(self._work, self._data.shards, job, self._start(job)) for job in jobs
        ]
        if self._arm.averaging:
            weights = self._weights(block)
            x = walks.jointly(self._work, members, weights)
            if self._mixes and self._arm.staleness:  # the pull back to the models they had
                for one, weight in zip(members, weights.astype(x.dtype), strict=True):
                    x += weight * (one.start - server.w)
            if np.isfinite(x).all():
                server.move(x)
            return [], None
        x = self._unaveraged(members)
        if np.isfinite(x).all():
            server.w = server.w + x
        return [], None

    def _unaveraged(self, members: list[walks.Member]) -> Vector:
        if not self._arm.drift:
            return walks.interleaved(self._work, members)
        if getattr(self._work.model, "fit", None) == "full":
            return walks.at_once(self._work, members)
        return walks.in_turn(self._work, members)

    def _start(self, job: Job) -> Vector:
        if not self._arm.staleness:
            return self._server.w
        return self._server.versions[self._source[job.base_version]]

    # --- the run's own way ----------------------------------------------------------------

    def _as_the_run(self, jobs: list[Job]) -> tuple[list[Vector], Step | None]:
        """Walks alone, averaged. Without staleness every walk starts from the newest version."""
        server = self._server
        if self._arm.staleness:
            bases = [server.versions[job.base_version] for job in jobs]
            return bases, self._apply(jobs, jobs, bases)
        # FedAsync takes one update after the other; what was lost comes in beside the rest.
        parts = [[job] for job in jobs] if self._mixes else [jobs]
        bases, step = [], None
        for part in parts:
            bases = [server.w] * len(part)
            fresh = [job._replace(base_version=server.version) for job in part]
            step = self._apply(part, fresh, bases)
        return bases, step

    def _apply(self, jobs: list[Job], counted_as: list[Job], bases: list[Vector]) -> Step:
        """Trains `jobs` from `bases` and lets the server take them in as `counted_as`."""
        results = self._train(jobs, bases)
        examples = self._study.plan.sizes[[job.client for job in jobs]]
        return self._server.apply(counted_as, results, examples)

    def _train(self, jobs: list[Job], bases: list[Vector]) -> Results:
        if not jobs:
            return empty_results(self._server.w)
        return stack(
            [
                worker.train(
                    self._work, self._data.shards, base, job.base_version,
                    np.array([job.client]), np.array([job.dispatch]),
                )
                for job, base in zip(jobs, bases, strict=True)
            ]
        )  # fmt: skip

    # --- weights without updates ------------------------------------------------------------

    @property
    def _mixes(self) -> bool:
        return isinstance(self._config.server.schedule, schema.AsyncSchedule)

    def _weights(self, block: list[Group]) -> Floats:
        """a_i of every member, (M,), as the aggregator would have used them.

        FedAsync's w <- (1 - a_j) w + a_j w_j over a window gives member i the weight
        a_i prod_{j > i} (1 - a_j), exactly.
        """
        found = []
        for group in block:
            jobs = self.jobs([group])
            parts = [[job] for job in jobs] if self._mixes else [jobs]
            found += [self._group_weights(part, group.version - 1) for part in parts if part]
        weights = np.concatenate(found)
        if self._mixes:
            kept = np.cumprod(np.append(1.0, 1.0 - weights[:0:-1]))[::-1]
            weights = weights * kept
        return weights

    def _group_weights(self, jobs: list[Job], version: int) -> Floats:
        sizes = self._study.plan.sizes[[job.client for job in jobs]]
        ages = np.zeros(len(jobs), np.int64)
        if self._arm.staleness:
            ages = np.array([staleness(job, version) for job in jobs], np.int64)
        clients = np.array([job.client for job in jobs], np.int64)
        return self._server.average(np.eye(len(jobs)), self._server.weigh(ages, sizes), clients)[1]


def _data(study: Study, arm: Arm) -> Federation:
    if arm.non_iid:
        return study.federation
    assert study.reshuffled is not None
    return study.reshuffled


def _blocks(study: Study, arm: Arm) -> list[list[Group]]:
    """What the arm makes its versions from: groups, or windows of groups of one."""
    if study.window is None or (arm.drift and arm.averaging):
        return [[group] for group in study.trace]
    return windows(study.trace, study.window)
