"""The clients as the server sees them: who is free, whom to ask next, when an answer is due."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.learning.stragglers import Stragglers
from fedray.parts.selection import selection as named
from fedray.parts.selection.base import By, News, Reply, Selection
from fedray.simulation.availability import Always
from fedray.simulation.distributions import draw
from fedray.simulation.events import Job
from fedray.simulation.population import Population
from fedray.types import Floats

_BLOCK = 4096
_TRIES = 12
_MORE_TRIES = 1 / 8
"""Of the population, where clients may be off: cheap beside the list that this saves."""

REPLY_BYTES = 8
"""A client's loss of a model that it was asked about."""
FORWARD_SHARE = 1 / 3
"""Of the time that a sample takes in training, what a forward pass alone takes."""


@dataclass
class FleetState:
    """All that a fleet must remember across a checkpoint, besides the jobs in flight."""

    next_dispatch: int = 0
    next_draw: int = 0
    selection: dict[str, Any] = field(default_factory=dict)
    """Which selection it is, and what that remembers."""


class Fleet:
    """Picks free clients, as its selection says, and starts their jobs; keeps who is in flight.

    To the selection it is the `Pool`. Costs per job do not grow with the population. A
    uniform draw takes the k-th client that is not busy, found by bisection in the sorted list
    of busy ones; a draw that hits one who is off (or, by size, one who is busy) is repeated;
    only when many draws fail are the free clients listed. Every way is exactly uniform (or
    exactly by size) over the free and available clients.
    """

    def __init__(
        self,
        population: Population,
        *,
        seed: int,
        selection: Selection | str = "uniform",
        sizes: Floats | None = None,
        forward_s: Floats | None = None,
        stragglers: Stragglers | None = None,
        training: Floats | None = None,
    ) -> None:
        self.population = population
        self.clients = population.clients
        self.state = FleetState()
        self.in_flight: dict[int, Job] = {}
        """By client, in order of dispatch, so the first one has the oldest version."""
        self._busy: list[int] = []
        self._taken: set[int] = set()
        """Picked and not yet started."""
        self.bytes_down = self.bytes_up = 0
        self.version, self.now_s = 0, 0.0
        self.sizes = np.ones(self.clients) if sizes is None else np.asarray(sizes, float)
        self.duration_s = population.duration_s
        self.survey: Callable[[Sequence[int]], list[Reply]] | None = None
        """Asks clients about the newest model; there is none where nothing is computed."""
        self._forward_s = np.zeros(self.clients) if forward_s is None else forward_s
        self._waited_s, self._asked = 0.0, set[int]()
        self._seed, self._selection = seed, named(selection)
        self._selector = self._selection.selector(self.clients, seed)
        self._named = repr(self._selection)
        self._draws = rng.Uniforms(seed, rng.Stream.SELECT)
        self._losses = rng.Uniforms(seed, rng.Stream.DROPOUT)
        self._stragglers = stragglers
        self._training = training
        self._jitter: tuple[int, list[float]] = (-1, [])
        self._ladders: dict[By, list[float]] = {}
        self._downloads_s = population.download_s
        self._uploads_s = population.upload_s
        self._waits_s = population.download_s + population.upload_s
        self._compute_s = population.compute_s
        self._always_on = isinstance(population.availability, Always)
        more = 0 if self._always_on else int(population.clients * _MORE_TRIES)
        self._tries = max(_TRIES, more)

    @property
    def looks(self) -> bool:
        """Whether who is picked depends on what clients compute."""
        return self._selection.looks

    @property
    def by_chance(self) -> bool:
        """Whether any number of clients may be picked, whatever number is asked for."""
        return self._selection.by_chance

    def start(self, count: int, version: int, now_s: float) -> list[Job]:
        """Starts up to `count` jobs from `version`; fewer if not enough clients are free."""
        if count < 1:
            return []
        self.version, self.now_s = version, now_s
        self._waited_s, self._asked = 0.0, set()
        picked = self._selector.pick(self, count)
        if len(self._taken) > len(picked):  # who was looked at, and not wanted
            for client in self._taken.difference(picked):
                del self._busy[bisect_left(self._busy, client)]
        self._taken.clear()
        return [self._job(client, version, now_s) for client in picked]

    def made(self, version: int, at_s: float, jobs: Sequence[Job]) -> None:
        """A version is made of the updates of these jobs."""
        self._selector.made(version, at_s, [job.client for job in jobs])

    def learned(self, news: News) -> None:
        """What came of a version is known."""
        self._selector.learned(news)

    def remembered(self) -> FleetState:
        """The state, for a checkpoint."""
        self.state.selection = {"of": self._named, "memory": self._selector.memory}
        return self.state

    def release(self, job: Job) -> None:
        """The client is free again."""
        del self.in_flight[job.client]
        del self._busy[bisect_left(self._busy, job.client)]

    def restore(self, state: FleetState, in_flight: Iterable[Job]) -> None:
        """Goes on from a checkpoint."""
        self.state = state
        if state.selection.get("of") == self._named:  # not where a fork has chosen another one
            self._selector.memory = state.selection["memory"]
        self.in_flight = {job.client: job for job in in_flight}
        self._busy = sorted(self.in_flight)

    def arrived(self, job: Job) -> None:
        """The client's update has come in whole."""
        self.release(job)
        if not job.lost:
            self.bytes_up += self.population.payload.bytes_up

    def take_bytes(self) -> tuple[int, int]:
        """Bytes (down, up) moved since the last call."""
        moved = self.bytes_down, self.bytes_up
        self.bytes_down = self.bytes_up = 0
        return moved

    def next_on_s(self, now_s: float) -> float:
        """When waiting for a client makes sense; inf if none will ever come on."""
        return self.population.availability.next_on(self.population.clients, now_s)

    def _job(self, client: int, version: int, now_s: float) -> Job:
        dispatch = self.state.next_dispatch
        self.state.next_dispatch += 1
        compute_s = float(self._compute_s[client]) * self._jitter_of(dispatch)
        if self._stragglers is not None:
            left_out = 1.0 - self._stragglers.done(dispatch)
            if self._training is not None:
                left_out *= float(self._training[client])
            compute_s *= 1.0 - left_out
        if client in self._asked:  # has the model, and starts when all that were asked answered
            duration_s = self._waited_s + compute_s + float(self._uploads_s[client])
        else:
            duration_s = float(self._waits_s[client]) + compute_s + self._waited_s
            self.bytes_down += self.population.payload.bytes_down
        due_s = now_s + duration_s
        dropout = self.population.dropout
        lost = dropout > 0 and self._losses.at(dispatch) < dropout
        if self._stragglers is not None:
            lost = lost or self._stragglers.drops(dispatch)
        if not self._always_on:
            off_s = self.population.availability.on_until(client, now_s)
            if off_s < due_s:  # went off before it was done: its work is lost, noticed then
                due_s, lost = off_s, True
        job = Job(client, dispatch, version, now_s, due_s, lost)
        self.in_flight[client] = job
        return job

    def _jitter_of(self, dispatch: int) -> float:
        law = self.population.jitter
        if isinstance(law, schema.Constant):
            return law.value
        block, offset = divmod(dispatch, _BLOCK)
        if block != self._jitter[0]:
            drawn = draw(law, rng.generator(self._seed, rng.Stream.JITTER, block), _BLOCK)
            self._jitter = block, drawn.tolist()
        return self._jitter[1][offset]

    # --- the pool that the selection picks from ---------------------------------------------

    def uniform(self) -> float:
        self.state.next_draw += 1
        return self._draws.at(self.state.next_draw - 1)

    def free(self, client: int) -> bool:
        if client in self.in_flight or client in self._taken:
            return False
        return self._always_on or self.stays_s(client) > 0

    def stays_s(self, client: int) -> float:
        return self.population.availability.on_until(client, self.now_s) - self.now_s

    def take(self, client: int) -> None:
        self._taken.add(client)
        insort(self._busy, client)

    def give_back(self, client: int) -> None:
        self._taken.discard(client)
        del self._busy[bisect_left(self._busy, client)]

    def draw(self, by: By = "uniform", accept: Callable[[int], bool] | None = None) -> int | None:
        client = self._drawn(by, accept)
        if client is not None:
            self.take(client)
        return client

    def in_turn(self, start: int) -> int | None:
        for ahead in range(self.clients):
            client = (start + ahead) % self.clients
            if self.free(client):
                self.take(client)
                return client
        return None

    def ask(self, clients: Sequence[int], *, wait: bool = True) -> list[Reply]:
        """A client that is asked downloads the model and goes through its shard once; the
        answer's own way back takes no time."""
        if self.survey is None:
            raise RuntimeError("nobody is there to ask")
        if not clients:
            return []
        self.bytes_down += len(clients) * self.population.payload.bytes_down
        self.bytes_up += len(clients) * REPLY_BYTES
        if wait:
            self._asked.update(clients)
            slowest_s = max(float(self._downloads_s[c] + self._forward_s[c]) for c in clients)
            self._waited_s = max(self._waited_s, slowest_s)
        return self.survey(clients)

    def _drawn(self, by: By, accept: Callable[[int], bool] | None) -> int | None:
        idle = self.clients - len(self._busy)
        if not idle:
            return None
        ladder = None if by == "uniform" else self._ladder(by)
        for _ in range(self._tries):
            if ladder is None:
                client = self._nth_idle(int(self.uniform() * idle))
            else:
                client = min(bisect_right(ladder, self.uniform()), self.clients - 1)
            if self.free(client) and (accept is None or accept(client)):
                return client
        return self._from_list(by, accept)

    def _ladder(self, by: By) -> list[float]:
        """Cumulative chances of all clients."""
        if by not in self._ladders:
            weights = self.sizes if by == "size" else 1.0 / np.maximum(self.duration_s, 1e-12)
            self._ladders[by] = (np.cumsum(weights) / np.sum(weights)).tolist()
        return self._ladders[by]

    def _nth_idle(self, n: int) -> int:
        """The n-th smallest client that is not busy: busy[i] - i idle ones are below busy[i]."""
        busy = self._busy
        low, high = 0, len(busy)
        while low < high:
            middle = (low + high) // 2
            if busy[middle] - middle <= n:
                low = middle + 1
            else:
                high = middle
        return n + low

    def _from_list(self, by: By, accept: Callable[[int], bool] | None) -> int | None:
        found = [c for c in range(self.clients) if self.free(c)]
        free = found if accept is None else [c for c in found if accept(c)]
        if not free:
            return None
        if by == "uniform":
            return free[int(self.uniform() * len(free))]
        shares = np.diff(np.asarray(self._ladder(by)), prepend=0.0)[free]
        ladder = np.cumsum(shares) / shares.sum()
        return free[min(int(np.searchsorted(ladder, self.uniform(), "right")), len(free) - 1)]
