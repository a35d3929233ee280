"""The client actors: they own shards and train.

Imported by every actor process, so it pulls in little: numpy, and what the model needs.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fedray.distributed import arena
from fedray.learning import work as worker
from fedray.learning.work import Work
from fedray.types import Federation, Floats, Ints, Matrix, Score, Vector


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

    def ready(self) -> bool:
        """Answers once the actor is up."""
        return True

    def take(self, work: Work, federation: Federation) -> bool:
        """From now on this host works for another run."""
        self._work, self._federation, self._shared = work, federation, None
        return True

    def attach(self, handle: arena.Handle) -> bool:
        """From now on vectors can be named by their row of shared memory, if it is in reach."""
        self._shared = arena.attach(handle)
        return self._shared is not None

    def perform(self, items: list[tuple[Any, ...]]) -> list[Any]:
        """Several calls in one: (method, *arguments) each; their results in order."""
        return [getattr(self, method)(*arguments) for method, *arguments in items]

    def train(self, base: Any, version: int, jobs: Ints) -> tuple[Floats, Matrix | None]:
        """Jobs that start from one version: `jobs` (K, 3) are client, dispatch and row.

        `base` names the parameters, see `_vector`. Returns facts (4, K): steps, norm, loss
        before and after; and deltas (K, P), or None if they are in their rows.
        """
        clients, dispatches, rows = jobs.T
        into = None
        if self._shared is not None and rows[0] >= 0:
            into = [self._shared[row] for row in rows.tolist()]
        found = worker.train(
            self._work, self._federation.shards, self._vector(base), version,
            clients, dispatches, into,
        )  # fmt: skip
        return np.stack(found[1:]), None if into is not None else found.deltas

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


def deal(clients: int, actors: int) -> NDArray[np.int64]:
    """Which actor owns each client, shape (clients,): in turn, so that loads are alike."""
    return np.arange(clients) % actors
