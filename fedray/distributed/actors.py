"""The actors: clients that own shards and train, and the server that runs the loop.

Imported by every actor process, so it pulls in little: numpy, and what the model needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fedray.learning import work as worker
from fedray.learning.work import Results, Work
from fedray.types import Federation, Floats, Score, Vector


class Client:
    """One client, or a host of several: their shards, and the local models while they train.

    Shards are views of the node's shared memory, or read from the user's own files.
    """

    def __init__(self, work: Work, federation: Federation) -> None:
        # One thread per actor: cores are shared by actors, and sums keep their order.
        self._limits = threadpool_limits(limits=1)
        self._work, self._federation = work, federation

    def ready(self) -> bool:
        """Answers once the actor is up."""
        return True

    def train(
        self, base: Vector, version: int, clients: NDArray[Any], dispatches: NDArray[Any]
    ) -> Results:
        """Jobs of this actor's clients that start from one version."""
        shards = self._federation.shards
        return worker.train(self._work, shards, base, version, clients, dispatches)

    def evaluate(self, w: Vector, pieces: NDArray[Any]) -> list[Score]:
        """Some pieces of the test set."""
        data = self._federation
        return worker.evaluate(self._work, w, data.X_test, data.y_test, pieces)

    def evaluate_clients(self, w: Vector, clients: NDArray[Any]) -> Floats:
        """This actor's clients on their own shards."""
        return worker.evaluate_clients(self._work, self._federation.shards, w, clients)


ClientActor: Any = ray.remote(Client)


def deal(clients: int, actors: int) -> NDArray[np.int64]:
    """Which actor owns each client, shape (clients,): in turn, so that loads are alike."""
    return np.arange(clients) % actors
