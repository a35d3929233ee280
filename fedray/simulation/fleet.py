"""The clients as the server sees them: who is free, whom to ask next, when an answer is due."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.simulation.availability import Always
from fedray.simulation.distributions import draw
from fedray.simulation.events import Job
from fedray.simulation.population import Population
from fedray.types import Floats

_BLOCK = 4096
_TRIES = 12
_MORE_TRIES = 1 / 8
"""Of the population, where clients may be off: cheap beside the list that this saves."""

Selection = Literal["uniform", "size", "round_robin"]


@dataclass
class FleetState:
    """All that a fleet must remember across a checkpoint, besides the jobs in flight."""

    next_dispatch: int = 0
    next_draw: int = 0
    next_in_turn: int = 0


class Fleet:
    """Picks free clients and starts their jobs; keeps who is in flight.

    Costs per job do not grow with the population. A uniform draw takes the k-th client
    that is not busy, found by bisection in the sorted list of busy ones; a draw that
    hits one who is off (or, by size, one who is busy) is repeated; only when many draws
    fail are the free clients listed. Every way is exactly uniform (or exactly by
    size) over the free and available clients.
    """

    def __init__(
        self,
        population: Population,
        *,
        seed: int,
        selection: Selection = "uniform",
        sizes: Floats | None = None,
    ) -> None:
        self.population = population
        self.state = FleetState()
        self.in_flight: dict[int, Job] = {}
        """By client, in order of dispatch, so the first one has the oldest version."""
        self._busy: list[int] = []
        self.bytes_down = self.bytes_up = 0
        self._seed, self._selection = seed, selection
        self._draws = rng.Uniforms(seed, rng.Stream.SELECT)
        self._losses = rng.Uniforms(seed, rng.Stream.DROPOUT)
        self._jitter: tuple[int, list[float]] = (-1, [])
        self._cumulative: list[float] | None = None
        if selection == "size":
            assert sizes is not None
            self._cumulative = (np.cumsum(sizes) / np.sum(sizes)).tolist()
        self._waits_s = (population.download_s + population.upload_s).tolist()
        self._compute_s = population.compute_s.tolist()
        self._always_on = isinstance(population.availability, Always)
        more = 0 if self._always_on else int(population.clients * _MORE_TRIES)
        self._tries = max(_TRIES, more)

    def start(self, count: int, version: int, now_s: float) -> list[Job]:
        """Starts up to `count` jobs from `version`; fewer if not enough clients are free."""
        jobs = []
        for _ in range(count):
            client = self._pick(now_s)
            if client is None:
                break
            jobs.append(self._job(client, version, now_s))
        return jobs

    def release(self, job: Job) -> None:
        """The client is free again."""
        del self.in_flight[job.client]
        del self._busy[bisect_left(self._busy, job.client)]

    def restore(self, state: FleetState, in_flight: Iterable[Job]) -> None:
        """Goes on from a checkpoint."""
        self.state = state
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
        duration_s = self._waits_s[client] + self._compute_s[client] * self._jitter_of(dispatch)
        dropout = self.population.dropout
        lost = dropout > 0 and self._losses.at(dispatch) < dropout
        due_s = now_s + duration_s
        if not self._always_on:
            off_s = self.population.availability.on_until(client, now_s)
            if off_s < due_s:  # went off before it was done: its work is lost, noticed then
                due_s, lost = off_s, True
        job = Job(client, dispatch, version, now_s, due_s, lost)
        self.in_flight[client] = job
        insort(self._busy, client)
        self.bytes_down += self.population.payload.bytes_down
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

    def _pick(self, now_s: float) -> int | None:
        if self._selection == "round_robin":
            return self._pick_in_turn(now_s)
        idle = self.population.clients - len(self._busy)
        if not idle:
            return None
        for _ in range(self._tries):
            if self._cumulative is None:
                client = self._nth_idle(int(self._uniform() * idle))
            else:
                found = bisect_right(self._cumulative, self._uniform())
                client = min(found, self.population.clients - 1)
            if self._free(client, now_s):
                return client
        return self._pick_from_list(now_s)

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

    def _pick_from_list(self, now_s: float) -> int | None:
        free = [c for c in range(self.population.clients) if self._free(c, now_s)]
        if not free:
            return None
        if self._cumulative is None:
            return free[int(self._uniform() * len(free))]
        shares = np.diff(np.asarray(self._cumulative), prepend=0.0)[free]
        ladder = np.cumsum(shares) / shares.sum()
        return free[min(int(np.searchsorted(ladder, self._uniform(), "right")), len(free) - 1)]

    def _pick_in_turn(self, now_s: float) -> int | None:
        clients = self.population.clients
        for ahead in range(clients):
            client = (self.state.next_in_turn + ahead) % clients
            if self._free(client, now_s):
                self.state.next_in_turn = (client + 1) % clients
                return client
        return None

    def _free(self, client: int, now_s: float) -> bool:
        if client in self.in_flight:
            return False
        return self._always_on or self.population.availability.on_until(client, now_s) > now_s

    def _uniform(self) -> float:
        self.state.next_draw += 1
        return self._draws.at(self.state.next_draw - 1)
