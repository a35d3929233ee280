"""Which memories of clients each actor holds, as the server knows it.

The server keeps all of them (`simulation.memories`), so that none dies with an actor; an actor
keeps those of the clients that it trained last, so that they need not travel twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fedray.distributed.actors import Memo
from fedray.distributed.placement import MEMORIES_BYTES
from fedray.simulation.events import Job
from fedray.simulation.executor import Lineage
from fedray.simulation.memories import Memories
from fedray.types import Matrix


class Residence:
    """Says for every call what the actor has to be given, and what it may drop."""

    def __init__(self, memories: Memories, actors: int, finished: Callable[[int], Matrix]) -> None:
        self.memories = memories
        self.lineage = Lineage()
        self._finished = finished
        """The memories that a job came to which is done but not joined, by dispatch."""
        self._most = max(1, MEMORIES_BYTES // max(1, 2 * memories.row_bytes))
        self._held: list[dict[int, tuple[int, int]]] = [{} for _ in range(actors)]
        """By actor and client, the two jobs whose memories it has; used last comes last."""

    def memo(self, actor: int, jobs: Sequence[Job]) -> Memo:
        """What a call for these jobs, in order, has to say."""
        held, parents = self._held[actor], []
        given: dict[int, Matrix] = {}
        given_as: dict[int, int] = {}
        for job in jobs:
            before = self.lineage.before(job)
            parent = self.memories.dispatch(job.client) if before is None else before
            if parent >= 0 and parent not in held.get(job.client, ()):
                kept = self.memories.get(job.client) if before is None else self._finished(before)
                given[job.client], given_as[job.client] = np.array(kept), parent
            held.pop(job.client, None)
            held[job.client] = (parent, job.dispatch)
            parents.append(parent)
        forget = []
        busy = {job.client for job in jobs}
        for client in list(held)[: max(0, len(held) - self._most)]:
            if client not in busy and not self.lineage.open(client):
                del held[client]
                forget.append(client)
        return Memo(np.array(parents, np.int64), given, given_as, forget)

    def done(self, job: Job, state: Matrix) -> None:
        """A job's memories have come in, and it is joined."""
        self.memories.remember(job.client, state, job.dispatch)
        self.lineage.over(job)

    def lost(self, actor: int) -> None:
        """An actor, and all that it held, is gone."""
        self._held[actor] = {}
