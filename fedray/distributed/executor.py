"""The executor on Ray: jobs travel to client actors, in few calls.

Jobs are held back until somebody waits for one; then all go at once, what is waited for
first. Updates come back through memory that server and actors share, where they can.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from fedray.distributed.actors import deal
from fedray.distributed.arena import Arena
from fedray.distributed.kept import KeptRows, Place
from fedray.distributed.residence import Residence
from fedray.distributed.troupe import Call, Troupe
from fedray.learning.work import Results, Work, eval_pieces
from fedray.simulation.events import Job
from fedray.simulation.executor import Question, empty_results
from fedray.simulation.memories import Memories
from fedray.types import Floats, Ints, Matrix, Score, Vector

_PLENTY = 8
"""Jobs per actor that are enough to do at a time: then others wait until they are wanted,
in fewer and larger calls, and those that are cancelled before are never computed."""


@dataclass
class _Sent:
    """A job on its way: its call, its place in it, and its row of the arena."""

    call: Call
    place: int
    row: int
    """-1: the update comes back as a result."""
    more: list[int]
    """The rows of uploads and memories, if there are any."""


class RayExecutor:
    """Implements `simulation.executor.Executor` over a list of client actors.

    `sizes` (clients,) are examples per client, `teams` (actors,) says who works together: a
    job goes to whoever has least to do in the team of the client's own actor. Updates come
    back through `arena`, or stay where they are made (`keeps`).
    """

    def __init__(
        self,
        troupe: Troupe,
        *,
        work: Work,
        sizes: Ints,
        teams: Ints,
        test_samples: int,
        evaluators: int,
        arena: Arena | None = None,
        keeps: bool = False,
    ) -> None:
        self.versions: Mapping[int, Vector] = {}
        self.extras: Mapping[int, tuple[Vector, ...]] = {}
        self._residence: Residence | None = None
        self._troupe, self._arena = troupe, arena
        self._uploads, self._extra = work.method.uploads, work.method.uploads + work.state_vectors
        self._sizes = sizes
        self._keeps, self._size, self._dtype = keeps, work.model.size, work.model.dtype
        self._owner = deal(len(sizes), len(troupe), by_leaf=keeps)
        self._done_with: list[list[int]] = [[] for _ in range(len(troupe))]
        """By actor, jobs whose updates it need not keep any longer."""
        self._form(np.arange(len(troupe)) if keeps else teams)
        self._pieces = np.arange(eval_pieces(test_samples))
        self._evaluators = min(evaluators, len(troupe), len(self._pieces))
        self._deltas = np.empty((0, 0))
        self._lent: list[_Sent] = []
        """Whose rows the last join handed out."""
        self._left: list[Place] = []
        """What the last join left with the actors."""
        self._held: dict[int, Job] = {}
        self._held_evaluations: list[tuple[int, Vector, bool]] = []
        self._sent: dict[int, _Sent] = {}
        """By dispatch."""
        self._abandoned: list[_Sent] = []
        self._evaluations: dict[int, list[Call]] = {}
        self._client_evaluations: dict[int, list[Call]] = {}
        self._held_questions: list[tuple[Hashable, Sequence[Question]]] = []
        self._questions: dict[Hashable, list[Call]] = {}

    @property
    def memories(self) -> Memories | None:
        """What clients remember. With any, every job goes to its client's own actor."""
        return self._residence.memories if self._residence else None

    @memories.setter
    def memories(self, memories: Memories | None) -> None:
        if memories is None:
            return
        self._form(np.arange(len(self._troupe)))
        self._residence = Residence(memories, len(self._troupe), self._finished)
        self._troupe.replaced = self._residence.lost

    def _form(self, teams: Ints) -> None:
        """Lets actors of the same team, by its number, take each other's jobs."""
        self._team = [np.flatnonzero(teams == team) for team in teams.tolist()]
        self._alone = len(np.unique(teams)) == len(teams)

    # --- jobs -----------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if not job.lost:
                self._held[job.dispatch] = job
                if self._residence:
                    self._residence.lineage.sent(job)

    def cancel(self, job: Job) -> None:
        if self._residence:
            self._residence.lineage.over(job)
        if self._held.pop(job.dispatch, None) is None and job.dispatch in self._sent:
            self._abandoned.append(self._sent.pop(job.dispatch))

    def flush(self, first: Sequence[Job] = ()) -> None:
        self._reclaim()
        urgent = [self._held.pop(job.dispatch) for job in first if job.dispatch in self._held]
        self._troupe.send(self._train_calls(urgent))
        later = []
        if len(urgent) < _PLENTY * len(self._troupe):
            later, self._held = list(self._held.values()), {}
        calls = self._train_calls(later) + self._evaluation_calls() + self._question_calls()
        self._troupe.send(calls)
        self._troupe.parameters.forget(self.versions)

    def _train_calls(self, jobs: list[Job]) -> list[Call]:
        rows = self._rows_for(jobs)
        calls = []
        for (version, actor), group in self._grouped(jobs).items():
            table = np.array([(job.client, job.dispatch, *rows[job.dispatch]) for job in group])
            vectors = (self.versions[version], *self.extras.get(version, ()))
            call = self._troupe.call(actor, "train", version, vectors, version, table)
            if self._residence:
                self._with_memories(call, table, group)
            elif self._keeps:
                call.more = (version, table, None, self._done_with[actor])
                self._done_with[actor] = []
            calls.append(call)
            for place, job in enumerate(group):
                row, *more = rows[job.dispatch]
                self._sent[job.dispatch] = _Sent(call, place, row, more)
        return calls

    def _with_memories(self, call: Call, table: Ints, jobs: list[Job]) -> None:
        """Sends along what the actor does not have, now and whenever it is replaced."""
        residence, version = self._residence, call.version
        assert residence is not None

        def more() -> tuple[Any, ...]:
            return (version, table, residence.memo(call.actor, jobs))

        call.more, call.renew = more(), more

    def _rows_for(self, jobs: Sequence[Job]) -> dict[int, list[int]]:
        """By dispatch, the rows of the arena for the update and for what comes with it.

        -1 where there are none. The updates of the group lie one after the other.
        """
        width, count = 1 + self._extra, len(jobs)
        there = self._arena is not None and not self._keeps
        taken = self._arena.take(count * width) if there and self._arena else None
        found = np.full((width, count), -1) if taken is None else taken.reshape(width, count)
        return {job.dispatch: found[:, i].tolist() for i, job in enumerate(jobs)}

    def _grouped(self, jobs: list[Job]) -> dict[tuple[int, int], list[Job]]:
        """Jobs by version and actor."""
        groups: dict[tuple[int, int], list[Job]] = {}
        if not self._alone:  # the longest first, each to the actor with the least to do
            jobs.sort(key=lambda job: -self._sizes[job.client])
        for job in jobs:
            client = job.client
            actor = int(self._owner[client])
            if not self._alone:
                team = self._team[actor]
                actor = int(team[self._troupe.load[team].argmin()])
            self._troupe.give(actor, int(self._sizes[client]))
            groups.setdefault((job.base_version, actor), []).append(job)
        if self._residence:  # a client's jobs in their order: what one leaves, the next needs
            groups = {key: sorted(groups[key], key=lambda job: job.dispatch)
                      for key in sorted(groups)}  # fmt: skip
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
        self._troupe.answer(list({id(sent.call): sent.call for sent in found}.values()))
        facts = np.empty((6, len(jobs)))
        for place, sent in enumerate(found):
            facts[:, place] = sent.call.answer[0][:, sent.place]
        steps, norm, before, after, square, labels = facts
        deltas: Any = self._kept(jobs, found) if self._keeps else self._gathered(found)
        results = Results(
            deltas, steps.astype(np.int64), norm, before, after, loss_square=square,
            labels=labels.astype(np.int64),
        )  # fmt: skip
        if self._extra:
            extra = np.stack([self._extras(sent) for sent in found])
            uploads, states = np.split(extra, [self._uploads], axis=1)
            results = results._replace(uploads=uploads, states=states)
            if self._residence:
                for job, state in zip(jobs, states, strict=True):
                    self._residence.done(job, state)
        for job in jobs:
            del self._sent[job.dispatch]
        return results

    def _extras(self, sent: _Sent) -> Matrix:
        """Uploads and memories (U + S, P) that came with a finished job."""
        returned = sent.call.answer[2]
        if returned is None and self._arena is not None:
            return np.asarray(self._arena.rows[sent.more])
        return np.asarray(returned[sent.place])

    def _finished(self, dispatch: int) -> Matrix:
        """The memories (S, P) that a finished job left."""
        return self._extras(self._sent[dispatch])[self._uploads :]

    def _kept(self, jobs: Sequence[Job], found: Sequence[_Sent]) -> KeptRows:
        """The updates where they are; those of the last join are done with."""
        for place in self._left:
            self._done_with[place.call.actor].append(place.dispatch)
        self._left = [
            Place(job.client, job.dispatch, sent.call)
            for job, sent in zip(jobs, found, strict=True)
        ]
        return KeptRows(self._troupe, self._left, self._size, self._dtype)

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
        if self._arena is not None and sent.row >= 0:
            for row in (sent.row, *sent.more):
                self._arena.give_back(row)

    def _reclaim(self) -> None:
        """Frees what cancelled jobs held, once they can no longer write to it.

        That is not yet so when their call is over but somebody waits for another job of
        it: if its actor is lost, all of the call is asked again.
        """
        if not self._abandoned:
            return
        wanted = {id(sent.call) for sent in self._sent.values()}
        refs = {
            sent.call.ref
            for sent in self._abandoned
            if not sent.call.answered and id(sent.call) not in wanted
        }
        over = self._over(list(refs))
        abandoned, self._abandoned = self._abandoned, []
        for sent in abandoned:
            if sent.call.answered or sent.call.ref in over:
                self._troupe.dismiss(sent.call)
                self._done(sent)
                if self._keeps:
                    jobs = sent.call.more[1][sent.place, 1]
                    self._done_with[sent.call.actor].append(int(jobs))
            else:
                self._abandoned.append(sent)

    def _over(self, refs: list[Any]) -> set[Any]:
        """Those that need no more waiting for."""
        if not refs:
            return set()
        return set(ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)[0])

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
        self._troupe.answer([waiting[job]])
        return job

    # --- evaluations ----------------------------------------------------------------

    def evaluate(self, version: int, w: Vector) -> None:
        self._held_evaluations.append((version, w, False))

    def evaluate_clients(self, version: int, w: Vector) -> None:
        self._held_evaluations.append((version, w, True))

    def evaluation(self, version: int) -> list[Score]:
        if version not in self._evaluations:
            self.flush()
        self._troupe.answer(self._evaluations[version])
        calls = self._evaluations.pop(version)
        return [score for call in calls for score in call.answer]

    def client_evaluation(self, version: int) -> Floats:
        if version not in self._client_evaluations:
            self.flush()
        self._troupe.answer(self._client_evaluations[version])
        calls = self._client_evaluations.pop(version)
        scores = np.empty((len(self._owner), calls[0].answer.shape[1]))
        for call in calls:
            scores[self._owner == call.actor] = call.answer
        return scores

    def _evaluation_calls(self) -> list[Call]:
        calls = []
        for version, w, clients_too in self._held_evaluations:
            # A model that is read out of a version is not what clients train from: another name.
            name = version if w is self.versions.get(version) else ~version
            if clients_too:
                owned = [np.flatnonzero(self._owner == a) for a in range(len(self._troupe))]
                new = [
                    self._troupe.call(actor, "evaluate_clients", name, w, clients)
                    for actor, clients in enumerate(owned)
                ]
                self._client_evaluations[version] = new
            else:
                first = version * self._evaluators  # in turn, so that none always has more to do
                parts = np.array_split(self._pieces, self._evaluators)
                new = [
                    self._troupe.call((first + i) % len(self._troupe), "evaluate", name, w, pieces)
                    for i, pieces in enumerate(parts)
                ]
                self._evaluations[version] = new
            calls += new
        self._held_evaluations = []
        return calls

    # --- questions ------------------------------------------------------------------

    def ask(self, key: Hashable, questions: Sequence[Question]) -> None:
        self._held_questions.append((key, questions))

    def answers(self, key: Hashable) -> list[Any]:
        if key not in self._questions:
            self.flush()
        self._troupe.answer(self._questions[key])
        return [call.answer for call in self._questions.pop(key)]

    def _question_calls(self) -> list[Call]:
        """Each question goes where there is least to do. What they share travels once."""
        calls = []
        for key, questions in self._held_questions:
            shared = ray.put(questions)
            self._questions[key] = []
            for place, question in enumerate(questions):
                actor = int(self._troupe.load.argmin())
                self._troupe.give(actor, question.examples)
                self._questions[key].append(self._troupe.errand(actor, "answer", shared, place))
            calls += self._questions[key]
        self._held_questions = []
        return calls
