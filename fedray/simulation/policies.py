"""What the server does when: `step(event) -> commands`, without arithmetic and without I/O.

A policy decides from arrivals, clocks and version numbers alone, never from what a
client computed. That is why a whole timeline can be replayed, planned ahead, or spread
over any number of workers without changing. Only a selection that `looks` at results breaks
this: then nobody is picked in the step that makes a version, but in the one after, which
`Proceed` brings about at the same instant, once the version and its results are there.
"""

from __future__ import annotations

import math
from typing import Protocol

from fedray.config import schema
from fedray.simulation.events import (
    Aggregate,
    Arrived,
    ClientsCameOn,
    Command,
    DeadlinePassed,
    Discard,
    Dispatch,
    Event,
    Job,
    Proceed,
    TimeIsUp,
    WakeAt,
)
from fedray.simulation.fleet import Fleet


def staleness(job: Job, version: int) -> int:
    """The server's version when an update is applied minus the version it started from."""
    return version - job.base_version


def _refused(job: Job, version: int, drop_beyond: float, now_s: float) -> Discard | None:
    """Why an arrival is not used, if it is not."""
    if job.lost:
        return Discard(job, "dropped_out", now_s, version)
    if staleness(job, version) > drop_beyond:
        return Discard(job, "stale", now_s, version)
    return None


class Policy(Protocol):
    """The server's side of the timeline. `version` is the newest global version."""

    fleet: Fleet
    version: int
    waiting: list[Job]
    """Arrived, not yet aggregated, in order of arrival."""
    wakes_at_s: float
    """When clients that were missing may have come on; the past if none were."""

    def step(self, now_s: float, event: Event) -> list[Command]:
        """Takes one event in, gives back what to do, in order."""

    def restored(self) -> None:
        """Called after the fields above were set from a checkpoint."""


class BufferedPolicy:
    """FedBuff's timeline; with a buffer of one, FedAsync's.

    `concurrency` clients train at any time. An arrival is replaced at once from the
    current version; the arrival that completes the buffer is replaced after the
    aggregation, so from the new version. Under `wait` no new version is made while work
    in flight would get staler than the bound; meanwhile arrivals are not replaced.
    """

    def __init__(
        self, schedule: schema.BufferedSchedule | schema.AsyncSchedule, fleet: Fleet
    ) -> None:
        self.fleet = fleet
        self.version = 0
        self.waiting: list[Job] = []
        self._concurrency = schedule.concurrency
        self._goal = schedule.buffer_size if isinstance(schedule, schema.BufferedSchedule) else 1
        bound = schedule.max_staleness
        self._drop_beyond = bound if bound is not None and schedule.on_stale == "drop" else math.inf
        self._wait_bound = bound if bound is not None and schedule.on_stale == "wait" else math.inf
        self.wakes_at_s = -math.inf

    def step(self, now_s: float, event: Event) -> list[Command]:
        commands: list[Command] = []
        match event:
            case Arrived(job):
                self._receive(job, now_s, commands)
            case TimeIsUp():
                if self.waiting:
                    commands.append(self._aggregate(now_s))
                return commands
            case _:
                pass
        if len(self.waiting) >= self._goal and not self._must_wait():
            commands.append(self._aggregate(now_s))
            if self.fleet.looks:
                return [*commands, WakeAt(now_s, Proceed())]
        if len(self.waiting) < self._goal:
            self._fill(now_s, commands)
        return commands

    def restored(self) -> None:
        """Everything else follows from the jobs in flight."""

    def _receive(self, job: Job, now_s: float, commands: list[Command]) -> None:
        self.fleet.arrived(job)
        if refused := _refused(job, self.version, self._drop_beyond, now_s):
            commands.append(refused)
        else:
            self.waiting.append(job)

    def _must_wait(self) -> bool:
        oldest = next(iter(self.fleet.in_flight.values()), None)
        return oldest is not None and staleness(oldest, self.version + 1) > self._wait_bound

    def _aggregate(self, now_s: float) -> Aggregate:
        self.version += 1
        jobs, self.waiting = self.waiting, []
        self.fleet.made(self.version, now_s, jobs)
        return Aggregate(self.version, now_s, jobs, *self.fleet.take_bytes())

    @property
    def _held(self) -> int:
        """Arrivals whose place nobody takes yet."""
        return 0

    def _fill(self, now_s: float, commands: list[Command]) -> None:
        wanted = self._concurrency - len(self.fleet.in_flight) - self._held
        jobs = self.fleet.start(wanted, self.version, now_s)
        if jobs:
            commands.append(Dispatch(jobs))
        if len(jobs) < wanted and self.wakes_at_s <= now_s:
            self.wakes_at_s = self.fleet.next_on_s(now_s)
            if self.wakes_at_s < math.inf:
                commands.append(WakeAt(self.wakes_at_s, ClientsCameOn()))


class PeriodicPolicy(BufferedPolicy):
    """FedFix's timeline: a version every `every_s` seconds, from what has arrived by then.

    Who has arrived waits for the version and starts anew from it, so that `concurrency`
    clients are training or waiting at any time. A period in which nothing arrives makes a
    version equal to the one before; no period begins while nobody trains.
    """

    def __init__(self, schedule: schema.BufferedSchedule, fleet: Fleet) -> None:
        assert schedule.every_s is not None
        super().__init__(schedule, fleet)
        self._every_s = schedule.every_s
        self._ticking = False
        """Whether the end of this period is on the way."""

    @property
    def _held(self) -> int:
        return len(self.waiting)

    def step(self, now_s: float, event: Event) -> list[Command]:
        commands: list[Command] = []
        match event:
            case Arrived(job):
                self._receive(job, now_s, commands)
                return commands
            case DeadlinePassed(version):
                if version == self.version:
                    self._ticking = False
                    commands.append(self._aggregate(now_s))
                    if self.fleet.looks:
                        return [*commands, WakeAt(now_s, Proceed())]
            case TimeIsUp():
                if self.waiting:
                    commands.append(self._aggregate(now_s))
                return commands
            case Proceed():
                self._ticking = False  # the period that the version closed
            case _:
                pass
        self._fill(now_s, commands)
        if self.fleet.in_flight and not self._ticking:
            self._ticking = True
            commands.append(WakeAt(now_s + self._every_s, DeadlinePassed(self.version)))
        return commands

    def restored(self) -> None:
        self._ticking = bool(self.fleet.in_flight)


class SyncPolicy:
    """Rounds: draw a cohort, wait for all of it, for the first arrivals, or for the deadline.

    Version v + 1 is made from the cohort that downloaded version v, and, with
    `late: carry`, from updates of earlier cohorts that have arrived by then. A round in
    which nothing arrives makes a version equal to the one before. Where clients join by chance,
    a round waits for all that did.
    """

    def __init__(self, schedule: schema.SyncSchedule, fleet: Fleet, cohort: int) -> None:
        self.fleet = fleet
        self.version = 0
        self.waiting: list[Job] = []
        self._goal = fleet.population.clients if fleet.by_chance else cohort
        self._draw = min(fleet.population.clients, math.ceil(cohort * schedule.over_select - 1e-9))
        self._deadline_s = schedule.deadline_s
        self._carry = schedule.late == "carry"
        bound = schedule.max_staleness
        self._drop_beyond = math.inf if bound is None else bound
        self._outstanding = 0
        """Of this round's cohort: jobs in flight. No round is open while nobody is out."""
        self._fresh = 0
        """Of this round's cohort: updates that have arrived."""
        self._joined_by_nobody = -1
        """The version that a round started from which nobody joined by chance; it closes next."""
        self.wakes_at_s = -math.inf

    def step(self, now_s: float, event: Event) -> list[Command]:
        commands: list[Command] = []
        before = self.version
        match event:
            case Arrived(job):
                self._receive(job, now_s, commands)
                if job.base_version == self.version and (
                    not self._outstanding or self._fresh == self._goal
                ):
                    self._close(now_s, commands)
            case DeadlinePassed(version):
                if version == self.version:
                    self._close(now_s, commands)
            case TimeIsUp():
                if self.waiting:
                    commands.append(self._aggregate(now_s))
                return commands
            case _:
                pass
        if self.fleet.looks and self.version > before:
            return [*commands, WakeAt(now_s, Proceed())]
        if not self._outstanding and self._joined_by_nobody != self.version:
            self._begin(now_s, commands)
        return commands

    def restored(self) -> None:
        version = self.version
        self._outstanding = sum(j.base_version == version for j in self.fleet.in_flight.values())
        self._fresh = sum(j.base_version == version for j in self.waiting)
        if self.fleet.by_chance and not self._outstanding:
            self._joined_by_nobody = version

    def _receive(self, job: Job, now_s: float, commands: list[Command]) -> None:
        self.fleet.arrived(job)
        fresh = job.base_version == self.version
        self._outstanding -= fresh
        if refused := _refused(job, self.version, self._drop_beyond, now_s):
            commands.append(refused)
        else:
            self.waiting.append(job)
            self._fresh += fresh

    def _close(self, now_s: float, commands: list[Command]) -> None:
        if not self._carry and self._outstanding:
            for job in list(self.fleet.in_flight.values()):
                self.fleet.release(job)
                commands.append(Discard(job, "late", now_s, self.version))
        commands.append(self._aggregate(now_s))

    def _aggregate(self, now_s: float) -> Aggregate:
        self.version += 1
        self._outstanding = self._fresh = 0
        jobs, self.waiting = self.waiting, []
        self.fleet.made(self.version, now_s, jobs)
        return Aggregate(self.version, now_s, jobs, *self.fleet.take_bytes())

    def _begin(self, now_s: float, commands: list[Command]) -> None:
        jobs = self.fleet.start(self._draw, self.version, now_s)
        self._outstanding = len(jobs)
        if jobs:
            commands.append(Dispatch(jobs))
            if self._deadline_s is not None:
                commands.append(WakeAt(now_s + self._deadline_s, DeadlinePassed(self.version)))
        elif self.fleet.by_chance:
            self._joined_by_nobody = self.version
            commands.append(WakeAt(now_s, DeadlinePassed(self.version)))
        elif self.wakes_at_s <= now_s:
            self.wakes_at_s = self.fleet.next_on_s(now_s)
            if self.wakes_at_s < math.inf:
                commands.append(WakeAt(self.wakes_at_s, ClientsCameOn()))


def build_policy(schedule: schema.Schedule, fleet: Fleet, cohort: int) -> Policy:
    """The policy of a schedule; `cohort` is the sync round's size."""
    if isinstance(schedule, schema.SyncSchedule):
        return SyncPolicy(schedule, fleet, cohort)
    if isinstance(schedule, schema.BufferedSchedule) and schedule.every_s is not None:
        return PeriodicPolicy(schedule, fleet)
    return BufferedPolicy(schedule, fleet)
