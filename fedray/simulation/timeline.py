"""The timeline: events in order, the policy's answer to each, nothing else.

A timeline yields lists of commands until the run is over. It starts no work itself; the
loop does what the commands say. Iterating without a loop replays who trained when, at
tens of thousands of arrivals a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from fedray.simulation.events import (
    Aggregate,
    Arrived,
    ClientsCameOn,
    Command,
    DeadlinePassed,
    Dispatch,
    EventQueue,
    Job,
    Proceed,
    Queue,
    Started,
    TimeIsUp,
    WakeAt,
)
from fedray.simulation.fleet import FleetState
from fedray.simulation.policies import Policy


class Timeline:
    """Drives a policy through virtual time until `rounds` versions are made.

    Ends early when `time_limit_s` is reached or no client will ever answer again; then
    updates that have arrived and not been used are flushed into one last version.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        rounds: int,
        time_limit_s: float | None = None,
        queue: Queue | None = None,
    ) -> None:
        self.policy = policy
        self.now_s = 0.0
        self._queue: Queue = EventQueue() if queue is None else queue
        self._rounds = rounds
        self._limit_s = float("inf") if time_limit_s is None else time_limit_s
        self._begun = False

    def __iter__(self) -> Iterator[list[Command]]:
        if not self._begun:
            self._begun = True
            yield self._scheduled(self.policy.step(0.0, Started()))
        while self.policy.version < self._rounds:
            if not len(self._queue) or self._queue.next_s() > self._limit_s:
                if len(self._queue):
                    self.now_s = self._limit_s
                yield self.policy.step(self.now_s, TimeIsUp())
                return
            self.now_s, event = self._queue.pop()
            if isinstance(event, Arrived) and self._called_off(event.job):
                continue
            yield self._scheduled(self.policy.step(self.now_s, event))

    def _called_off(self, job: Job) -> bool:
        current = self.policy.fleet.in_flight.get(job.client)
        return current is None or current.dispatch != job.dispatch

    def _scheduled(self, commands: list[Command]) -> list[Command]:
        for position, command in enumerate(commands):
            if isinstance(command, Dispatch):
                self._queue.push_jobs(command.jobs)
            elif isinstance(command, WakeAt):
                self._queue.push_wake(command)
            elif isinstance(command, Aggregate) and command.version == self._rounds:
                return commands[: position + 1]
        return commands

    def to_json(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON. Taken between two events."""
        fleet = self.policy.fleet
        return {
            "now_s": self.now_s,
            "version": self.policy.version,
            "fleet": asdict(fleet.remembered()),
            "in_flight": [list(job) for job in fleet.in_flight.values()],
            "waiting": [list(job) for job in self.policy.waiting],
            "bytes": [fleet.bytes_down, fleet.bytes_up],
            "wakes_at_s": self.policy.wakes_at_s,
            "wakes": [[w.at_s, _written(w.event)] for w in self._queue.wakes()],
        }

    def restore(self, state: dict[str, Any]) -> list[Job]:
        """Goes on where `to_json` was taken; returns the jobs that are in flight."""
        fleet = self.policy.fleet
        jobs = [Job(*fields) for fields in state["in_flight"]]
        fleet.restore(FleetState(**state["fleet"]), jobs)
        fleet.bytes_down, fleet.bytes_up = state["bytes"]
        self.policy.version = state["version"]
        self.policy.waiting = [Job(*fields) for fields in state["waiting"]]
        self.policy.wakes_at_s = state["wakes_at_s"]
        self.policy.restored()
        self.now_s, self._begun = state["now_s"], True
        self._queue.push_jobs(jobs)
        for at_s, written in state["wakes"]:
            self._queue.push_wake(WakeAt(at_s, _read(written)))
        return jobs


def _written(event: DeadlinePassed | ClientsCameOn | Proceed) -> int | str | None:
    """A timed event as JSON."""
    if isinstance(event, DeadlinePassed):
        return event.version
    return "proceed" if isinstance(event, Proceed) else None


def _read(written: int | str | None) -> DeadlinePassed | ClientsCameOn | Proceed:
    if isinstance(written, int):
        return DeadlinePassed(written)
    return ClientsCameOn() if written is None else Proceed()
