"""The executor on Ray: jobs travel to client actors, in few calls.

Jobs of one version to one actor are one call. A lost actor is replaced and what it had
not answered is asked again; answers cannot change, because a job is a pure function of
its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from fedray.distributed.actors import deal
from fedray.distributed.arena import Arena
from fedray.distributed.parameters import Parameters
from fedray.errors import FedrayError
from fedray.learning.work import Results, eval_pieces
from fedray.simulation.events import Job
from fedray.simulation.executor import empty_results
from fedray.types import Floats, Ints, Matrix, Score, Vector


@dataclass
class _Call:
    """One remote call and all that it takes to make it again."""

    actor: int
    version: int
    w: Vector
    """The parameters of the version."""
    method: str
    more: tuple[Any, ...]
    """Its other arguments."""
    ref: Any = None
    answer: Any = None
    answered: bool = False


@dataclass
class _Sent:
    """A job on its way: its call, its place in it, and its row of the arena."""

    call: _Call
    place: int
    row: int
    """-1: the update comes back as a result."""
    examples: int


class RayExecutor:
    """Implements `simulation.executor.Executor` over a list of client actors.

    `create(i)` starts the i-th actor; it is called again when that actor is lost, at
    most `restarts` times in all. `sizes` (clients,) are examples per client. With
    `balanced`, any actor can train any client, and jobs go where there is least to do;
    without, they go to the client's own actor. Updates come back through `arena`.
    """

    def __init__(
        self,
        create: Callable[[int], Any],
        actors: Sequence[Any],
        *,
        sizes: Ints,
        balanced: bool,
        test_samples: int,
        evaluators: int,
        restarts: int,
        arena: Arena | None = None,
    ) -> None:
        self.versions: Mapping[int, Vector] = {}
        self.lost_actors = 0
        self._create, self._actors = create, list(actors)
        self._sizes, self._balanced = sizes, balanced
        self._owner = deal(len(sizes), len(self._actors))
        self._load = np.zeros(len(self._actors), np.int64)
        self._pieces = np.arange(eval_pieces(test_samples))
        self._evaluators = min(evaluators, len(self._actors), len(self._pieces))
        self._restarts = restarts
        self._arena = arena
        self._deltas = np.empty((0, 0))
        self._lent: list[_Sent] = []
        """Whose rows the last join handed out."""
        self._held: dict[int, Job] = {}
        self._held_evaluations: list[tuple[int, Vector, bool]] = []
        self._sent: dict[int, _Sent] = {}
        """By dispatch."""
        self._abandoned: list[_Sent] = []
        self._evaluations: dict[int, list[_Call]] = {}
        self._client_evaluations: dict[int, list[_Call]] = {}
        self._parameters = Parameters(arena)
        self._attached = [self._introduce(actor) for actor in self._actors]

    # --- jobs -----------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if not job.lost:
                self._held[job.dispatch] = job

    def cancel(self, job: Job) -> None:
        if self._held.pop(job.dispatch, None) is None and job.dispatch in self._sent:
            self._abandoned.append(self._sent.pop(job.dispatch))

    def flush(self, first: Sequence[Job] = ()) -> None:
        self._reclaim()
        urgent = [self._held.pop(job.dispatch) for job in first if job.dispatch in self._held]
        for jobs in (urgent, list(self._held.values())):
            rows = self._rows_for(jobs)
            for (version, actor), group in self._grouped(jobs).items():
                self._send_jobs(version, actor, group, rows)
        self._held = {}
        for version, w, clients_too in self._held_evaluations:
            self._send_evaluation(version, w, clients_too)
        self._held_evaluations = []
        self._parameters.forget(self.versions)

    def _rows_for(self, jobs: Sequence[Job]) -> dict[int, int]:
        """By dispatch, the row of the arena for the update; -1 where there is none."""
        rows = self._arena.take(len(jobs)) if self._arena else None
        found = [-1] * len(jobs) if rows is None else rows.tolist()
        return {job.dispatch: row for job, row in zip(jobs, found, strict=True)}

    def _send_jobs(
        self, version: int, actor: int, jobs: Sequence[Job], rows: Mapping[int, int]
    ) -> None:
        table = np.array([(job.client, job.dispatch, rows[job.dispatch]) for job in jobs])
        call = self._send(actor, "train", version, self.versions[version], version, table)
        for place, job in enumerate(jobs):
            examples = int(self._sizes[job.client])
            self._sent[job.dispatch] = _Sent(call, place, rows[job.dispatch], examples)

    def _grouped(self, jobs: list[Job]) -> dict[tuple[int, int], list[Job]]:
        """Jobs by version and actor."""
        groups: dict[tuple[int, int], list[Job]] = {}
        if self._balanced:  # the longest first, each to the actor with the least to do
            jobs.sort(key=lambda job: -self._sizes[job.client])
        for job in jobs:
            actor = int(self._load.argmin() if self._balanced else self._owner[job.client])
            self._load[actor] += self._sizes[job.client]
            groups.setdefault((job.base_version, actor), []).append(job)
        return groups

    def ready(self, jobs: Sequence[Job]) -> bool:
        sent = [self._sent.get(job.dispatch) for job in jobs]
        return all(found is not None and found.call.answered for found in sent)

    def join(self, jobs: Sequence[Job]) -> Results:
        if not jobs:
            return empty_results(next(iter(self.versions.values())))
        if any(job.dispatch in self._held for job in jobs):
            self.flush()
        found = [self._sent[job.dispatch] for job in jobs]
        self._answer(list({id(sent.call): sent.call for sent in found}.values()))
        facts = np.empty((4, len(jobs)))
        for place, sent in enumerate(found):
            facts[:, place] = sent.call.answer[0][:, sent.place]
        steps, norm, before, after = facts
        deltas = self._gathered(found)
        for job in jobs:
            del self._sent[job.dispatch]
        return Results(deltas, steps.astype(np.int64), norm, before, after)

    def _gathered(self, found: Sequence[_Sent]) -> Matrix:
        """The updates (K, P) in order; rows that lie so in the arena are not copied."""
        for sent in self._lent:
            self._done(sent)
        self._lent = list(found)
        rows = [sent.row for sent in found]
        in_order = rows[0] >= 0 and rows == list(range(rows[0], rows[0] + len(rows)))
        if in_order and self._arena and all(sent.call.answer[1] is None for sent in found):
            return self._arena.rows[rows[0] : rows[0] + len(rows)]
        vectors = [self._delta(sent) for sent in found]
        if len(self._deltas) < len(found):
            self._deltas = np.empty((len(found), len(vectors[0])), vectors[0].dtype)
        for place, vector in enumerate(vectors):
            self._deltas[place] = vector
        return self._deltas[: len(found)]

    def _delta(self, sent: _Sent) -> Vector:
        returned = sent.call.answer[1]
        if returned is None and self._arena is not None:
            return np.asarray(self._arena.rows[sent.row])
        return np.asarray(returned[sent.place])

    def _done(self, sent: _Sent) -> None:
        self._load[sent.call.actor] -= sent.examples
        if self._arena is not None and sent.row >= 0:
            self._arena.give_back(sent.row)

    def _reclaim(self) -> None:
        """Frees what cancelled jobs held, once they can no longer write to it."""
        if self._abandoned:
            refs = list({sent.call.ref for sent in self._abandoned})
            over, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
            for sent in [sent for sent in self._abandoned if sent.call.ref in over]:
                self._abandoned.remove(sent)
                self._done(sent)

    def wait_any(self, jobs: Iterable[Job], timeout_s: float | None) -> Job | None:
        self.flush()
        waiting = {job: self._sent[job.dispatch].call for job in jobs if not job.lost}
        for job, call in waiting.items():
            if call.answered:
                return job
        refs = list({call.ref for call in waiting.values()})
        done, _ = ray.wait(refs, num_returns=1, timeout=timeout_s, fetch_local=False)
        if not done:
            return None
        job = next(job for job, call in waiting.items() if call.ref == done[0])
        self._answer([waiting[job]])
        return job

    # --- evaluations ----------------------------------------------------------------

    def evaluate(self, version: int, w: Vector) -> None:
        self._held_evaluations.append((version, w, False))

    def evaluate_clients(self, version: int, w: Vector) -> None:
        self._held_evaluations.append((version, w, True))

    def evaluation(self, version: int) -> list[Score]:
        if version not in self._evaluations:
            self.flush()
        self._answer(self._evaluations[version])
        calls = self._evaluations.pop(version)
        return [score for call in calls for score in call.answer]

    def client_evaluation(self, version: int) -> Floats:
        if version not in self._client_evaluations:
            self.flush()
        self._answer(self._client_evaluations[version])
        calls = self._client_evaluations.pop(version)
        scores = np.empty((len(self._owner), calls[0].answer.shape[1]))
        for call in calls:
            scores[self._owner == call.actor] = call.answer
        return scores

    def _send_evaluation(self, version: int, w: Vector, clients_too: bool) -> None:
        if clients_too:
            self._client_evaluations[version] = [
                self._send(
                    actor, "evaluate_clients", version, w, np.flatnonzero(self._owner == actor)
                )
                for actor in range(len(self._actors))
            ]
            return
        first = version * self._evaluators  # in turn, so that no actor always has more to do
        self._evaluations[version] = [
            self._send((first + i) % len(self._actors), "evaluate", version, w, pieces)
            for i, pieces in enumerate(np.array_split(self._pieces, self._evaluators))
        ]

    # --- calls ------------------------------------------------------------------------

    def _send(self, actor: int, method: str, version: int, w: Vector, *more: Any) -> _Call:
        call = _Call(actor, version, w, method, more)
        self._parameters.borrow(version, w, attached=self._attached[actor])
        self._make(call)
        return call

    def _make(self, call: _Call) -> None:
        attached = self._attached[call.actor]
        w = self._parameters.named(call.version, call.w, attached=attached)
        call.ref = getattr(self._actors[call.actor], call.method).remote(w, *call.more)

    def _introduce(self, actor: Any) -> bool:
        """Whether the actor can reach the arena."""
        return self._arena is not None and ray.get(actor.attach.remote(self._arena.handle))

    def _answer(self, calls: Sequence[_Call]) -> None:
        """Waits for calls, replacing actors that are lost on the way."""
        waiting = [call for call in calls if not call.answered]
        while waiting:
            try:
                answers = ray.get([call.ref for call in waiting])
            except RayActorError as error:
                self._replace_lost(waiting, error)
                continue
            except RayTaskError as error:
                raise _as_ours(error) from None
            for call, answer in zip(waiting, answers, strict=True):
                call.answer, call.answered = answer, True
                self._parameters.give_back(call.version)
            return

    def _replace_lost(self, waiting: Sequence[_Call], error: RayActorError) -> None:
        lost = {call.actor for call in waiting if _is_lost(call.ref)}
        for actor in lost:
            self.lost_actors += 1
            if self.lost_actors > self._restarts:
                raise FedrayError(
                    f"lost {self.lost_actors} actors, more than runtime.actor_restarts = "
                    f"{self._restarts}; the last one: {str(error).splitlines()[0]}"
                ) from None
            ray.kill(self._actors[actor])  # so that it can not answer twice
            self._actors[actor] = self._create(actor)
            self._attached[actor] = self._introduce(self._actors[actor])
        for call in self._unanswered():
            if call.actor in lost:
                self._make(call)

    def _unanswered(self) -> list[_Call]:
        every = [
            *(sent.call for sent in [*self._sent.values(), *self._abandoned]),
            *(call for calls in self._evaluations.values() for call in calls),
            *(call for calls in self._client_evaluations.values() for call in calls),
        ]
        return list({id(call): call for call in every if not call.answered}.values())


def _is_lost(ref: Any) -> bool:
    done, _ = ray.wait([ref], timeout=0)
    if not done:
        return False
    try:
        ray.get(ref)
    except RayActorError:
        return True
    except RayTaskError:
        return False
    return False


def _as_ours(error: RayTaskError) -> Exception:
    cause = error.cause
    if isinstance(cause, FedrayError):
        return cause
    return FedrayError(f"a client failed: {type(cause).__name__}: {cause}")
