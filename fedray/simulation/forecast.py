"""What a run will do, known before it trains: its timeline, replayed without arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedray.parts.selection import selection
from fedray.simulation.events import Aggregate, Command, Discard, Dispatch, Job
from fedray.simulation.plan import Plan
from fedray.simulation.policies import staleness
from fedray.simulation.timeline import Timeline
from fedray.types import Floats, Ints

MAX_EVENTS = 200_000
"""Events that `forecast` replays before it extrapolates: a few seconds' worth."""

Ending = Literal["rounds", "virtual_time_s", "bytes", "no_clients", "cut"]


@dataclass(frozen=True)
class Forecast:
    """The figures of a run to come. Exact, unless `scale` > 1 or `may_end_earlier`.

    `scale` > 1: the replay was cut, and counts, bytes and time are those of the replayed
    part times `scale`; staleness and participation are those of the replayed part. A
    `scale` of None: it was cut before the first version, so nothing says how far it goes.
    Updates that are not finite, which only training can tell, count as applied here.
    """

    ends_by: Ending
    scale: float | None
    may_end_earlier: tuple[str, ...]
    """Rules of `stop` that depend on what the clients learn."""
    versions: int
    dispatched: int
    applied: int
    dropped: Mapping[str, int]
    """Jobs whose update is not used, by status."""
    virtual_time_s: float
    """When the last version is made."""
    bytes_down: int
    bytes_up: int
    staleness_counts: Ints
    """Applied updates by staleness 0, 1, 2, ..., as replayed."""
    applied_by_client: Ints
    """Updates applied, shape (clients,), as replayed."""
    asked: int
    """Clients that are asked to train at least once, as replayed."""
    fastest_share: float | None
    """Share of the applied updates that comes from the fastest tenth of the clients."""
    blind: str | None = None
    """The selection that looks at results, for which uniform selection stood in."""

    @property
    def exact(self) -> bool:
        return self.scale == 1.0 and self.blind is None

    @property
    def staleness_mean(self) -> float | None:
        applied = self.staleness_counts.sum()
        if not applied:
            return None
        return float(self.staleness_counts @ np.arange(len(self.staleness_counts)) / applied)

    @property
    def staleness_max(self) -> int | None:
        return len(self.staleness_counts) - 1 if len(self.staleness_counts) else None

    @property
    def taking_part(self) -> int:
        """Clients with at least one applied update."""
        return int(np.count_nonzero(self.applied_by_client))


def forecast(plan: Plan, *, max_events: int = MAX_EVENTS) -> Forecast:
    """Replays the timeline of `plan`, all of it or `max_events` steps of the server.

    Who trains when depends on clocks and version numbers alone, so this is the timeline
    of the run itself; but with a selection that looks at results, uniform selection stands in
    for it, `blind`. The clock must be virtual.
    """
    tally, timeline = _Tally(plan), plan.timeline(blind=True)
    for events, commands in enumerate(timeline):
        if events == max_events:
            return tally.forecast("cut", tally.scale())
        if tally.take(commands):
            return tally.forecast("bytes", 1.0)
    return tally.forecast(_ending(plan, timeline), 1.0)


def _ending(plan: Plan, timeline: Timeline) -> Ending:
    if timeline.policy.version >= plan.config.server.rounds:
        return "rounds"
    limit_s = plan.config.stop.virtual_time_s
    return "virtual_time_s" if limit_s and timeline.now_s >= limit_s else "no_clients"


class _Tally:
    """Counts what the commands of a timeline come to."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._stop = plan, plan.config.stop
        self._staleness: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()
        self._applied = np.zeros(plan.population.clients, np.int64)
        self._asked = np.zeros(plan.population.clients, bool)
        self._dispatched = self._version = self._down = self._up = 0
        self._now_s = 0.0

    def take(self, commands: list[Command]) -> bool:
        """Counts commands in order; True where the run ends for its bytes."""
        for command in commands:
            match command:
                case Dispatch(jobs):
                    self._dispatched += len(jobs)
                    for job in jobs:
                        self._asked[job.client] = True
                case Discard(status=status):
                    self._dropped[status] += 1
                case Aggregate():
                    self._apply(command.jobs, command)
                    if self._spent():
                        return True
                case _:
                    pass
        return False

    def _apply(self, jobs: list[Job], made: Aggregate) -> None:
        self._version, self._now_s = made.version, made.at_s
        self._down += made.bytes_down
        self._up += made.bytes_up
        for job in jobs:
            self._staleness[staleness(job, made.version - 1)] += 1
            self._applied[job.client] += 1

    def _spent(self) -> bool:
        return self._stop.bytes is not None and self._down + self._up >= self._stop.bytes

    def forecast(self, ends_by: Ending, scale: float | None) -> Forecast:
        """Everything counted so far, times `scale`."""
        rules = ("accuracy", "loss", "patience")
        times = scale or 1.0
        chosen = selection(self._plan.config.server.selection)
        return Forecast(
            ends_by=ends_by,
            scale=scale,
            may_end_earlier=tuple(r for r in rules if getattr(self._stop, r) is not None),
            versions=round(self._version * times),
            dispatched=round(self._dispatched * times),
            applied=round(int(self._applied.sum()) * times),
            dropped={status: round(n * times) for status, n in sorted(self._dropped.items())},
            virtual_time_s=self._now_s * times,
            bytes_down=round(self._down * times),
            bytes_up=round(self._up * times),
            staleness_counts=np.array(
                [self._staleness[s] for s in range(max(self._staleness, default=-1) + 1)], np.int64
            ),
            applied_by_client=self._applied,
            asked=int(self._asked.sum()),
            fastest_share=fastest_share(self._plan.population.duration_s, self._applied),
            blind=chosen.kind if chosen.looks else None,
        )

    def scale(self) -> float | None:
        """How many times the replayed part the whole run is, by the limit that is met first."""
        stop, done = self._stop, self._version
        ratios = [self._plan.config.server.rounds / done] if done else []
        if stop.virtual_time_s is not None and self._now_s:
            ratios.append(stop.virtual_time_s / self._now_s)
        if stop.bytes is not None and self._down + self._up:
            ratios.append(stop.bytes / (self._down + self._up))
        return min(ratios, default=None)


def fastest_share(duration_s: Floats, applied: Ints) -> float | None:
    """Share of the updates `applied` (N,) by the N/10 clients whose jobs are shortest.

    0.1 is even. None where nothing is applied.
    """
    total = int(applied.sum())
    if not total:
        return None
    count = max(1, round(len(applied) / 10))
    return float(applied[np.argsort(duration_s, kind="stable")[:count]].sum() / total)
