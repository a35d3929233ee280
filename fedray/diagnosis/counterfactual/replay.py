"""One arm of a study, from its first version to its last, in this process.

With every cause on, it is the run itself, bit for bit. Every other arm recomputes what
each group of updates comes to with some causes off, on the same trace, with the same
minibatches, step sizes and numbers of steps: see `docs/diagnosis.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedray.config import schema
from fedray.diagnosis.counterfactual import walks
from fedray.diagnosis.counterfactual.arms import RUN, Arm
from fedray.diagnosis.counterfactual.curve import Curve, curve_of
from fedray.diagnosis.counterfactual.study import Study, inert
from fedray.diagnosis.counterfactual.trace import Group, windows
from fedray.learning import work as worker
from fedray.learning.work import Results
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.events import Job, clients_of
from fedray.simulation.executor import empty_results, stack
from fedray.simulation.policies import staleness
from fedray.simulation.server import GlobalModel
from fedray.simulation.step import Step
from fedray.types import Federation, Floats, Matrix, Vector


class Made(NamedTuple):
    """One step of an arm."""

    groups: list[Group]
    """What it is made from: one group of the trace, or a window of groups of one."""
    before: Vector
    """Parameters (P,) before it."""
    models: list[Vector]
    """The arm's model at the version of each group; the last is what the next step starts from."""
    bases: list[Vector]
    """The run's own arm: what each job started from. Empty in others."""
    step: Step | None
    """The run's own arm: how the server got there."""

    @property
    def version(self) -> int:
        return self.groups[-1].version

    @property
    def after(self) -> Vector:
        return self.models[-1]


def steps(study: Study, arm: Arm = RUN, snapshot: Snapshot | None = None) -> Iterator[Made]:
    """All steps of an arm, from version 0, or for the run's own arm from a checkpoint."""
    replay = _Replay(study, arm, snapshot)
    return replay.run()


def fly(study: Study, arm: Arm) -> Curve:
    """The curve of an arm: scores at the versions that the run evaluates too.

    Causes that make no difference on this trace are left on, so that arms which coincide
    are the same bits.
    """
    replay = _Replay(study, arm.computed_as(inert(study)), None)
    models = (model for made in replay.run() for model in replay.scored(made))
    return curve_of(study, models, replay.jobs, lambda: replay.rejected)


class _Replay:
    """The arm's own global model, with every version that a later job starts from."""

    def __init__(self, study: Study, arm: Arm, snapshot: Snapshot | None) -> None:
        self._study, self._arm = study, arm
        self._work = study.plan.work
        self._config = study.plan.config
        self._data = _data(study, arm)
        self._server = GlobalModel(study.plan, study.plan.initial())
        if snapshot is not None:
            self._server.restore(snapshot)
        self._memories: dict[int, Matrix] = {}
        """What clients remember, in the run's own arm of a method whose clients do."""
        self._blocks = [b for b in _blocks(study, arm) if b[-1].version > self._server.version]
        self._last_use = self._uses()
        self.rejected = 0
        """Updates refused so far because they, or the joint walk they were part of, diverged."""

    def _uses(self) -> dict[int, int]:
        """By version, the last block (by its version) that still needs it."""
        last = {}
        for block in self._blocks:
            for group in block:
                for job in self.jobs(group):
                    for version in (job.base_version, _base(block, group, job)):
                        last[version] = block[-1].version
        return last

    def jobs(self, group: Group) -> list[Job]:
        """Who takes part: with staleness off also those whose updates the run lost."""
        return group.jobs if self._arm.staleness else [*group.jobs, *group.lost]

    def run(self) -> Iterator[Made]:
        server = self._server
        for block in self._blocks:
            before = server.w
            bases: list[Vector] = []
            step: Step | None = None
            if self._arm.drift and self._arm.averaging:
                bases, step = self._as_the_run(block[0])
                models = [server.w]
            else:
                models = self._otherwise(block)
            server.versions |= zip((group.version for group in block), models, strict=True)
            server.version, server.w = block[-1].version, models[-1]
            self._forget()
            yield Made(block, before, models, bases, step)

    def scored(self, made: Made) -> list[Vector]:
        """What is evaluated of the step that was just made: as a run, what its method reads out."""
        return made.models if made.step is None else [self._server.readout]

    def _forget(self) -> None:
        """Drops the versions that nobody comes from any more."""
        newest = self._server.version
        self._server.keep({v for v in self._server.versions if self._last_use.get(v, 0) > newest})

    def _otherwise(self, block: list[Group]) -> list[Vector]:
        """The models that a block comes to without drift, without averaging, or without both."""
        server = self._server
        members = [
            walks.member(self._work, self._data.shards, job, self._start(block, group, job))
            for group in block
            for job in self.jobs(group)
        ]
        if not members:
            return [server.w] * len(block)
        if self._arm.averaging and self._study.window is not None:
            return self._damped(block, members)
        if self._arm.averaging:
            x = walks.jointly(self._work, members, self._weights(block))
            if self._finite(x, len(members)):
                server.move(x)
            return [server.w]
        moves = self._unaveraged(members, len(block))
        share = -(-len(members) // len(block))
        return [server.w + x if self._finite(x, share) else server.w for x in moves]

    def _unaveraged(self, members: list[walks.Member], parts: int) -> list[Vector]:
        """Without averaging: all steps at full strength, in whole walks or one by one."""
        if not self._arm.drift:
            return walks.interleaved(self._work, members, np.ones(len(members)), parts)
        if getattr(self._work.model, "fit", None) == "full":
            return [walks.at_once(self._work, members)]
        return [walks.in_turn(self._work, members)]

    def _damped(self, block: list[Group], members: list[walks.Member]) -> list[Vector]:
        """Without drift, where updates are taken one by one: damped single steps in turn.

        At every arrival the optimizer takes in what was walked since the one before, and
        with it FedAsync's step a_i (b_i - w) back to the model that the client had.
        """
        server, weights = self._server, self._weights(block)
        start, versions = server.w, dict(server.versions)
        walked, models = np.zeros_like(start), []
        pulls = iter(weights.tolist() if self._mixes and self._arm.staleness else [])

        def arrived(part: int, x: Vector) -> None:
            step = x - walked
            here = server.w + step
            for job, pull in zip(block[part].jobs, pulls, strict=False):
                step += pull * (versions[job.base_version] - here)
            if self._finite(step, len(block[part].jobs)):
                server.move(step)
            x[:] = walked[:] = server.w - start
            versions[block[part].version] = server.w
            models.append(server.w)

        walks.interleaved(self._work, members, weights, len(block), arrived)
        return models

    def _finite(self, x: Vector, updates: int) -> bool:
        """Whether a move can be made; if not, so many updates are refused."""
        finite = bool(np.isfinite(x).all())
        self.rejected += 0 if finite else updates
        return finite

    def _start(self, block: list[Group], group: Group, job: Job) -> Vector:
        """Where a member takes its first gradient."""
        if not self._arm.staleness:
            return self._server.w
        return self._server.versions[_base(block, group, job)]

    # --- the run's own way ----------------------------------------------------------------

    def _as_the_run(self, group: Group) -> tuple[list[Vector], Step | None]:
        """Walks alone, averaged. Without staleness every walk starts from the newest version."""
        server = self._server
        if self._arm.staleness:
            bases = [server.versions[job.base_version] for job in group.jobs]
            return bases, self._apply(group.jobs, group.jobs, bases)
        bases, step = [], None
        for part in self._parts(group):
            bases = [server.w] * len(part)
            fresh = [job._replace(base_version=server.version) for job in part]
            step = self._apply(part, fresh, bases)
        return bases, step

    def _apply(self, jobs: list[Job], counted_as: list[Job], bases: list[Vector]) -> Step:
        """Trains `jobs` from `bases` and lets the server take them in as `counted_as`."""
        results = self._train(jobs, bases)
        examples = self._study.plan.sizes[[job.client for job in jobs]]
        step = self._server.apply(counted_as, results, examples)
        self.rejected += int((~step.accepted).sum())
        return step

    def _train(self, jobs: list[Job], bases: list[Vector]) -> Results:
        if not jobs:
            return empty_results(self._server.w)
        found = []
        for job, base in zip(jobs, bases, strict=True):
            trained = worker.train(
                self._work, self._data.shards, base, job.base_version,
                np.array([job.client]), np.array([job.dispatch]),
                broadcast=self._server.extras.get(job.base_version, ()),
                states=[self._memories.get(job.client)],
            )  # fmt: skip
            if self._work.state_vectors:
                self._memories[job.client] = trained.states[0]
            found.append(trained)
        return stack(found)

    # --- weights without updates ------------------------------------------------------------

    @property
    def _mixes(self) -> bool:
        return isinstance(self._config.server.schedule, schema.AsyncSchedule)

    def _weights(self, block: list[Group]) -> Floats:
        """a_i of every member, (M,), as the aggregator would have used them."""
        found = []
        for group in block:
            parts = self._parts(group)
            found += [self._group_weights(part, group.version - 1) for part in parts if part]
        return np.concatenate(found)

    def _parts(self, group: Group) -> list[list[Job]]:
        """Who is taken in together: one by one, what the run lost comes in one by one, too."""
        if self._study.one_by_one and not self._arm.staleness:
            return [group.jobs, *([job] for job in group.lost)]
        return [self.jobs(group)]

    def _group_weights(self, jobs: list[Job], version: int) -> Floats:
        sizes = self._study.plan.sizes[[job.client for job in jobs]]
        ages = np.zeros(len(jobs), np.int64)
        if self._arm.staleness:
            ages = np.array([staleness(job, version) for job in jobs], np.int64)
        clients = clients_of(jobs)
        return self._server.average(np.eye(len(jobs)), self._server.weigh(ages, sizes), clients)[1]


def _data(study: Study, arm: Arm) -> Federation:
    if arm.non_iid:
        return study.federation
    assert study.reshuffled is not None
    return study.reshuffled


def _blocks(study: Study, arm: Arm) -> list[list[Group]]:
    """What the arm makes its versions from: groups, or windows of groups of one.

    Only members that hear from each other after every step need others beside them.
    """
    if study.window is None or arm.drift:
        return [[group] for group in study.trace]
    return windows(study.trace, study.window)


def _base(block: list[Group], group: Group, job: Job) -> int:
    """The version a job starts from: as many before the block's own start as it is stale."""
    return max(0, block[0].version - 1 - staleness(job, group.version - 1))
