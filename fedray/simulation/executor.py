"""Who does the arithmetic. The loop talks to this protocol and to nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fedray.learning import work as worker
from fedray.learning.work import Results, Work
from fedray.simulation.events import Job
from fedray.simulation.memories import Memories
from fedray.types import Federation, Floats, Matrix, Score, Vector


class Question(Protocol):
    """Any other thing to work out: a pure function of the data, in a picklable record."""

    @property
    def examples(self) -> int:
        """Samples that it goes through, about: what it costs."""

    def __call__(self, work: Work, federation: Federation) -> Any:
        """The answer, the same bits wherever it is worked out."""


class Executor(Protocol):
    """Runs jobs and evaluations whenever it likes and hands results over when asked.

    `versions` holds the parameters of every version that a job in flight started from, and
    `extras` what a method sends with them. `memories`, where a method's clients remember
    something, is kept up to date with every join.
    """

    versions: Mapping[int, Vector]
    extras: Mapping[int, tuple[Vector, ...]]
    memories: Memories | None

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accepts jobs; may hold them back until `flush`."""

    def cancel(self, job: Job) -> None:
        """The job's result will never be asked for."""

    def flush(self, first: Sequence[Job] = ()) -> None:
        """Sends everything that was held back to the workers; `first` is wanted first."""

    def ready(self, jobs: Sequence[Job]) -> bool:
        """Whether `join` would return without waiting."""

    def join(self, jobs: Sequence[Job]) -> Results:
        """Waits for these jobs; results in the order given. Each job is joined once.

        The deltas are valid until the next join.
        """

    def wait_any(self, jobs: Iterable[Job], timeout_s: float | None) -> Job | None:
        """Some job that is finished, waiting for one if need be; None on time-out."""

    def evaluate(self, version: int, w: Vector) -> None:
        """Asks for the test scores of a model."""

    def evaluation(self, version: int) -> list[Score]:
        """Waits for the scores that `evaluate` asked for, in order of the test samples."""

    def evaluate_clients(self, version: int, w: Vector) -> None:
        """Asks for the scores of a model on every client's shard."""

    def client_evaluation(self, version: int) -> Floats:
        """Waits for them: see `learning.work.evaluate_clients`, a row per client."""

    def ask(self, key: Hashable, questions: Sequence[Question]) -> None:
        """Asks questions; like jobs they may be held back until `flush`."""

    def answers(self, key: Hashable) -> list[Any]:
        """Waits for the answers to what was asked under this key, in order."""


class Lineage:
    """Which job of a client a later one builds on, where clients remember something.

    That is the last one before it that was not called off: a client whose update is refused
    goes back to what it remembered before.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[int]] = {}
        """By client, its jobs that are neither joined nor called off, oldest first."""

    def sent(self, job: Job) -> None:
        """This job will be done."""
        self._open.setdefault(job.client, []).append(job.dispatch)

    def over(self, job: Job) -> None:
        """This job is joined, or called off."""
        still = [d for d in self._open.get(job.client, ()) if d != job.dispatch]
        if still:
            self._open[job.client] = still
        else:
            self._open.pop(job.client, None)

    def open(self, client: int) -> bool:
        """Whether a client has jobs that are neither joined nor called off."""
        return client in self._open

    def before(self, job: Job) -> int | None:
        """The job not yet joined that this one builds on; None: on what is remembered."""
        return max((d for d in self._open.get(job.client, ()) if d < job.dispatch), default=None)


class LocalExecutor:
    """The same arithmetic in this process, one job after the other, when it is asked for."""

    def __init__(self, work: Work, federation: Federation) -> None:
        self.versions: Mapping[int, Vector] = {}
        self.extras: Mapping[int, tuple[Vector, ...]] = {}
        self.memories: Memories | None = None
        self._lineage = Lineage()
        self._work, self._data = work, federation
        self._finished: dict[int, Results] = {}
        self._models: dict[int, Vector] = {}
        self._client_models: dict[int, Vector] = {}
        self._questions: dict[Hashable, Sequence[Question]] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        if self.memories is not None:
            for job in jobs:
                if not job.lost:
                    self._lineage.sent(job)

    def cancel(self, job: Job) -> None:
        self._finished.pop(job.dispatch, None)
        self._lineage.over(job)

    def flush(self, first: Sequence[Job] = ()) -> None:
        pass

    def ready(self, jobs: Sequence[Job]) -> bool:
        return True

    def join(self, jobs: Sequence[Job]) -> Results:
        if not jobs:
            return empty_results(next(iter(self.versions.values())))
        return stack([self._join(job) for job in jobs])

    def _join(self, job: Job) -> Results:
        known = self._finished.pop(job.dispatch, None)
        found = self._train(job) if known is None else known
        if self.memories is not None:
            self.memories.remember(job.client, found.states[0], job.dispatch)
            self._lineage.over(job)
        return found

    def wait_any(self, jobs: Iterable[Job], timeout_s: float | None) -> Job | None:
        job = next(iter(jobs), None)
        if job is not None:
            self._finished[job.dispatch] = self._train(job)
        return job

    def _train(self, job: Job) -> Results:
        return worker.train(
            self._work,
            self._data.shards,
            self.versions[job.base_version],
            job.base_version,
            np.array([job.client]),
            np.array([job.dispatch]),
            broadcast=self.extras.get(job.base_version, ()),
            states=[self._remembered(job)],
        )

    def _remembered(self, job: Job) -> Matrix | None:
        if self.memories is None:
            return None
        before = self._lineage.before(job)
        if before is not None:
            return np.asarray(self._finished[before].states[0])
        return self.memories.get(job.client)

    def evaluate(self, version: int, w: Vector) -> None:
        self._models[version] = w

    def evaluation(self, version: int) -> list[Score]:
        pieces = np.arange(worker.eval_pieces(len(self._data.y_test)))
        w = self._models.pop(version)
        return worker.evaluate(self._work, w, self._data.X_test, self._data.y_test, pieces)

    def evaluate_clients(self, version: int, w: Vector) -> None:
        self._client_models[version] = w

    def client_evaluation(self, version: int) -> Floats:
        w = self._client_models.pop(version)
        clients = np.arange(self._data.clients)
        return worker.evaluate_clients(self._work, self._data.shards, w, clients)

    def ask(self, key: Hashable, questions: Sequence[Question]) -> None:
        self._questions[key] = questions

    def answers(self, key: Hashable) -> list[Any]:
        return [question(self._work, self._data) for question in self._questions.pop(key)]


def stack(parts: Sequence[Results]) -> Results:
    """Results one after the other."""
    columns: Any = zip(*parts, strict=True)
    return Results(*(np.concatenate(column) for column in columns))


def empty_results(like: Vector) -> Results:
    """No results, of models like the given one."""
    return Results(np.empty((0, len(like)), like.dtype), np.empty(0, np.int64), *(np.empty(0),) * 3)
