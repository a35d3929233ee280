"""The client actors: they own shards and train.

Imported by every actor process, so it pulls in little: numpy, and what the model needs.
"""

from __future__ import annotations

import gc
from typing import Any, NamedTuple

import numpy as np
import ray
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fedray.distributed import arena
from fedray.learning import work as worker
from fedray.learning.work import Results, Tensor, Work
from fedray.parts import summation
from fedray.simulation.executor import stack
from fedray.types import Federation, Floats, Ints, Matrix, Score, Vector


class Memo(NamedTuple):
    """What a call says about the memories of the clients that it is for."""

    parents: Ints
    """(K,): the job that each job builds on; -1 for a client without memories."""
    given: dict[int, Matrix]
    """Memories (S, P) that the actor may not have, by client,"""
    given_as: dict[int, int]
    """and the jobs that they come from."""
    forget: list[int]
    """Clients whose memories make room for others'."""


class _Run(NamedTuple):
    """What all jobs of a call have in common."""

    work: Work
    federation: Federation
    w: Vector
    version: int
    broadcast: tuple[Vector, ...]

    def train(self, clients: Ints, dispatches: Ints, into: Any, states: Any) -> Results:
        return worker.train(
            self.work, self.federation.shards, self.w, self.version, clients, dispatches, into,
            broadcast=self.broadcast, states=states,
        )  # fmt: skip


class Client:
    """One client, or a host of several: their shards, and the local models while they train.

    Shards are views of the node's shared memory, or read from the user's own files.
    """

    def __init__(self, work: Work, federation: Federation) -> None:
        # One thread per actor: cores are shared by actors, and sums keep their order.
        self._limits = threadpool_limits(limits=1)
        gc.freeze()  # what is here now stays; looking through it again takes milliseconds
        self._work, self._federation = work, federation
        self._shared: Matrix | None = None
        self._states: dict[int, dict[int, Matrix]] = {}
        """What clients remember, by client and by the job that it comes from."""
        self._kept: dict[int, Vector] = {}
        """Updates that are not sent, by dispatch."""

    def ready(self) -> bool:
        """Answers once the actor is up."""
        return True

    def node(self) -> str:
        """Where the actor is; answers once it is up."""
        return str(ray.get_runtime_context().get_node_id())

    def take(self, work: Work, federation: Federation) -> bool:
        """From now on this host works for another run."""
        self._work, self._federation, self._shared = work, federation, None
        self._states, self._kept = {}, {}
        return True

    def attach(self, handle: arena.Handle) -> bool:
        """From now on vectors can be named by their row of shared memory, if it is in reach."""
        self._shared = arena.attach(handle)
        return self._shared is not None

    def perform(self, items: list[tuple[Any, ...]]) -> list[Any]:
        """Several calls in one: (method, *arguments) each; their results in order."""
        return [getattr(self, method)(*arguments) for method, *arguments in items]

    def train(
        self,
        base: Any,
        version: int,
        jobs: Ints,
        memo: Memo | None = None,
        done_with: list[int] | None = None,
    ) -> tuple[Floats, Matrix | None, Tensor | None]:
        """Jobs that start from one version: `jobs` (K, 3 + E) are client, dispatch and rows.

        `base` names the parameters, and in a tuple also what a method sends with them, see
        `_vector`. Returns facts (6, K): steps, norm, loss before and after, squared loss before,
        label; deltas (K, P); and uploads and states together (K, E, P). None stands for what is
        in its rows, for nothing, or, with `done_with`, for deltas that are kept here until their
        jobs are named there.
        """
        clients, dispatches, rows, *more = jobs.T
        names = base if isinstance(base, tuple) else (base,)
        w, *broadcast = (self._vector(name) for name in names)
        shared = self._shared is not None and rows[0] >= 0
        into = [self._shared[row] for row in rows.tolist()] if shared else None  # type: ignore[index]
        run = _Run(self._work, self._federation, w, version, tuple(broadcast))
        if memo is None:
            found = run.train(clients, dispatches, into, None)
        else:
            found = self._remembering(run, clients, dispatches, into, memo)
        extra = np.concatenate((found.uploads, found.states), axis=1)
        if shared and more:
            assert self._shared is not None
            for vectors, places in zip(extra, np.stack(more, axis=1), strict=True):
                self._shared[places] = vectors
        if done_with is not None:
            for dispatch in done_with:
                self._kept.pop(dispatch, None)
            self._kept.update(zip(dispatches.tolist(), found.deltas, strict=True))
        facts = np.stack(
            (
                found.steps.astype(np.float64),
                found.norm,
                found.loss_before,
                found.loss_after,
                found.loss_square,
                found.labels.astype(np.float64),
            )
        )
        stays = shared or done_with is not None
        return facts, None if stays else found.deltas, None if shared or not more else extra

    def _remembering(
        self, run: _Run, clients: Ints, dispatches: Ints, into: Any, memo: Memo
    ) -> Results:
        """One job after the other, as a client's next one builds on the one before."""
        for client in memo.forget:
            self._states.pop(client, None)
        for client, state in memo.given.items():
            self._states.setdefault(client, {})[memo.given_as[client]] = state
        parts = []
        for i, parent in enumerate(memo.parents.tolist()):
            client, dispatch = int(clients[i]), int(dispatches[i])
            known = self._states.get(client, {})
            before = known.get(parent)
            assert parent < 0 or before is not None
            found = run.train(
                clients[i : i + 1], dispatches[i : i + 1], into and into[i : i + 1], [before]
            )
            after = {dispatch: found.states[0]}
            self._states[client] = after if before is None else {parent: before, **after}
            parts.append(found)
        return stack(parts)

    def kept(self, what: str, dispatches: list[int], *more: Any) -> Any:
        """Of deltas that are kept here: `rows` (K, P); `dots` with a vector (K,); or `parts` of
        a weighted sum, given weights (K,), clients (K,) and this actor's range of leaves.

        None where one is missing: this actor has taken the place of another.
        """
        if any(dispatch not in self._kept for dispatch in dispatches):
            return None
        rows = [self._kept[dispatch] for dispatch in dispatches]
        if what == "dots":
            vector = self._vector(*more)
            return np.array([np.dot(row, vector) for row in rows])
        if what == "parts":
            return summation.part_sums(np.stack(rows), *more)
        return np.stack(rows)

    def evaluate(self, w: Any, pieces: Ints) -> list[Score]:
        """Some pieces of the test set."""
        data = self._federation
        return worker.evaluate(self._work, self._vector(w), data.X_test, data.y_test, pieces)

    def evaluate_clients(self, w: Any, clients: Ints) -> Floats:
        """Some clients on their own shards."""
        return worker.evaluate_clients(
            self._work, self._federation.shards, self._vector(w), clients
        )

    def answer(self, questions: Any, place: int) -> Any:
        """One of some questions, which are given as themselves or as a reference."""
        if isinstance(questions, ray.ObjectRef):
            questions = ray.get(questions)
        return questions[place](self._work, self._federation)

    def _vector(self, named: Any) -> Vector:
        """Parameters, given as themselves, as a reference, or as a row of the shared memory."""
        if isinstance(named, ray.ObjectRef):
            return np.asarray(ray.get(named))
        if isinstance(named, np.ndarray):
            return named
        assert self._shared is not None
        return np.asarray(self._shared[named])


ClientActor: Any = ray.remote(Client)


def deal(clients: int, actors: int, *, by_leaf: bool = False) -> NDArray[np.int64]:
    """Which actor owns each client, shape (clients,): in turn, so that loads are alike.

    `by_leaf`: whole leaves of `parts.summation`, so that an actor can add up what it owns.
    """
    numbers = np.arange(clients)
    if by_leaf:
        return np.asarray(summation.leaf(numbers) * actors // summation.LEAVES)
    return numbers % actors
