"""The executor on Ray: jobs travel to the actors that own their clients, in few calls.

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
from fedray.errors import FedrayError
from fedray.learning.work import Results, eval_pieces
from fedray.simulation.events import Job
from fedray.simulation.executor import empty_results
from fedray.types import Floats, Score, Vector

_INLINE_BYTES = 90_000
"""Parameters below this travel inside the call; above, once per version and node."""


@dataclass
class _Call:
    """One remote call and all that it takes to make it again."""

    actor: int
    method: str
    args: tuple[Any, ...]
    ref: Any
    answer: Any = None
    answered: bool = False


class RayExecutor:
    """Implements `simulation.executor.Executor` over a list of client actors.

    `create(i)` starts the i-th actor; it is called again when that actor is lost, at
    most `restarts` times in all.
    """

    def __init__(
        self,
        create: Callable[[int], Any],
        actors: Sequence[Any],
        *,
        clients: int,
        test_samples: int,
        evaluators: int,
        restarts: int,
    ) -> None:
        self.versions: Mapping[int, Vector] = {}
        self.lost_actors = 0
        self._create, self._actors = create, list(actors)
        self._owner = deal(clients, len(self._actors))
        self._pieces = np.arange(eval_pieces(test_samples))
        self._evaluators = min(evaluators, len(self._actors), len(self._pieces))
        self._restarts = restarts
        self._held: dict[int, Job] = {}
        self._held_evaluations: list[tuple[int, Vector, bool]] = []
        self._calls: dict[int, tuple[_Call, int]] = {}
        """By dispatch: the call that it travels in, and its row there."""
        self._evaluations: dict[int, list[_Call]] = {}
        self._client_evaluations: dict[int, list[_Call]] = {}
        self._deltas = np.empty((0, 0))
        self._sent: dict[int, Any] = {}
        """By version: its parameters in the object store."""

    # --- jobs -----------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._held[job.dispatch] = job

    def cancel(self, job: Job) -> None:
        if self._held.pop(job.dispatch, None) is None and job.dispatch in self._calls:
            del self._calls[job.dispatch]

    def flush(self) -> None:
        groups: dict[tuple[int, int], list[Job]] = {}
        for job in self._held.values():
            if not job.lost:
                key = (job.base_version, int(self._owner[job.client]))
                groups.setdefault(key, []).append(job)
        self._held = {}
        for (version, actor), jobs in groups.items():
            clients = np.array([job.client for job in jobs])
            dispatches = np.array([job.dispatch for job in jobs])
            args = (self._parameters(version), version, clients, dispatches)
            call = self._send(actor, "train", args)
            for row, job in enumerate(jobs):
                self._calls[job.dispatch] = call, row
        for version, w, clients_too in self._held_evaluations:
            self._send_evaluation(version, w, clients_too)
        self._held_evaluations = []
        for version in [v for v in self._sent if v not in self.versions]:
            del self._sent[version]

    def ready(self, jobs: Sequence[Job]) -> bool:
        calls = [self._calls.get(job.dispatch) for job in jobs]
        return all(found is not None and found[0].answered for found in calls)

    def join(self, jobs: Sequence[Job]) -> Results:
        if not jobs:
            return empty_results(next(iter(self.versions.values())))
        if any(job.dispatch in self._held for job in jobs):
            self.flush()
        found = [self._calls[job.dispatch] for job in jobs]
        self._answer(list({id(call): call for call, _ in found}.values()))
        joined = self._room(len(jobs), found[0][0].answer)
        for place, (call, row) in enumerate(found):
            for whole, part in zip(joined, call.answer, strict=True):
                whole[place] = part[row]
        for job in jobs:
            del self._calls[job.dispatch]
        return joined

    def _room(self, count: int, like: Results) -> Results:
        """Arrays for `count` results. Those of the deltas are used again, being large: they
        are valid until the next join."""
        size = like.deltas.shape[1]
        if len(self._deltas) < count:
            self._deltas = np.empty((count, size), like.deltas.dtype)
        facts: Any = (np.empty(count, part.dtype) for part in like[1:])
        return Results(self._deltas[:count], *facts)

    def wait_any(self, jobs: Iterable[Job], timeout_s: float | None) -> Job | None:
        self.flush()
        waiting = {job: self._calls[job.dispatch][0] for job in jobs}
        for job, call in waiting.items():
            if call.answered:
                return job
        refs = list({id(call.ref): call.ref for call in waiting.values()}.values())
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
        parameters = w if w.nbytes < _INLINE_BYTES else self._parameters(version, w)
        if clients_too:
            self._client_evaluations[version] = [
                self._send(a, "evaluate_clients", (parameters, np.flatnonzero(self._owner == a)))
                for a in range(len(self._actors))
            ]
            return
        first = version * self._evaluators  # in turn, so that no actor always has more to do
        self._evaluations[version] = [
            self._send((first + i) % len(self._actors), "evaluate", (parameters, pieces))
            for i, pieces in enumerate(np.array_split(self._pieces, self._evaluators))
        ]

    # --- calls ------------------------------------------------------------------------

    def _parameters(self, version: int, w: Vector | None = None) -> Any:
        value = self.versions[version] if w is None else w
        if value.nbytes < _INLINE_BYTES:
            return value
        if version not in self._sent:
            self._sent[version] = ray.put(value)
        return self._sent[version]

    def _send(self, actor: int, method: str, args: tuple[Any, ...]) -> _Call:
        ref = getattr(self._actors[actor], method).remote(*args)
        return _Call(actor, method, args, ref)

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
        for call in self._unanswered():
            if call.actor in lost:
                method = getattr(self._actors[call.actor], call.method)
                call.ref = method.remote(*call.args)

    def _unanswered(self) -> list[_Call]:
        every = [
            *(call for call, _ in self._calls.values()),
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
