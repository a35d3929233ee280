"""What happens on the timeline (events), and what the server does about it (commands)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from fedray.types import Ints

Status: TypeAlias = Literal["applied", "stale", "dropped_out", "late", "rejected"]


class Job(NamedTuple):
    """One dispatch: a client trains from one version of the model.

    `due_s` is when its update (or the news that it was `lost`) reaches the server.
    """

    client: int
    dispatch: int
    base_version: int
    dispatched_at_s: float
    due_s: float
    lost: bool = False


def clients_of(jobs: Sequence[Job]) -> Ints:
    """Their clients, (K,)."""
    return np.array([job.client for job in jobs], np.int64)


class Started(NamedTuple):
    """The run begins."""


class Arrived(NamedTuple):
    """A job is due."""

    job: Job


class DeadlinePassed(NamedTuple):
    """The round that makes version `version + 1` is out of time."""

    version: int


class ClientsCameOn(NamedTuple):
    """Somebody may be available again."""


class Proceed(NamedTuple):
    """A version was made, and its results are known: whoever trains next can be picked."""


class TimeIsUp(NamedTuple):
    """No event is left, or the run's virtual time is spent: flush what has arrived."""


Event: TypeAlias = Started | Arrived | DeadlinePassed | ClientsCameOn | Proceed | TimeIsUp


class Dispatch(NamedTuple):
    """Send these clients the current model."""

    jobs: list[Job]


class Discard(NamedTuple):
    """This job's update is not used."""

    job: Job
    status: Status
    at_s: float
    version: int
    """The server's version then."""


class Aggregate(NamedTuple):
    """Make `version` from these jobs, in order of arrival; may be empty."""

    version: int
    at_s: float
    jobs: list[Job]
    bytes_down: int
    bytes_up: int
    """Moved since the version before."""


class WakeAt(NamedTuple):
    """Bring this event back at a time."""

    at_s: float
    event: DeadlinePassed | ClientsCameOn | Proceed


Command: TypeAlias = Dispatch | Discard | Aggregate | WakeAt

_AFTER_ALL_CLIENTS = 1 << 62


class Queue(Protocol):
    """Where a timeline's next event comes from."""

    def __len__(self) -> int:
        """Events that are still to come."""

    def push_jobs(self, jobs: Iterable[Job]) -> None:
        """Each of them will arrive."""

    def push_wake(self, wake: WakeAt) -> None:
        """The event will come back at its time."""

    def next_s(self) -> float:
        """No event happens before this time."""

    def pop(self) -> tuple[float, Event]:
        """The next event and its time."""

    def wakes(self) -> list[WakeAt]:
        """The timed events that are still to come, in order."""


class EventQueue:
    """Events in virtual time, in the total order (time, client, dispatch).

    A timed event comes after all arrivals of the same instant, so an update that
    arrives exactly at the deadline is on time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Event]] = []
        self._timed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push_jobs(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            heapq.heappush(self._heap, (job.due_s, job.client, job.dispatch, Arrived(job)))

    def push_wake(self, wake: WakeAt) -> None:
        self._timed += 1
        heapq.heappush(self._heap, (wake.at_s, _AFTER_ALL_CLIENTS, self._timed, wake.event))

    def next_s(self) -> float:
        """When the next event happens; inf if there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def pop(self) -> tuple[float, Event]:
        at_s, _, _, event = heapq.heappop(self._heap)
        return at_s, event

    def wakes(self) -> list[WakeAt]:
        """The timed events that are still to come, in order."""
        return [
            WakeAt(at_s, event)
            for at_s, _, _, event in sorted(self._heap, key=lambda entry: entry[:3])
            if isinstance(event, DeadlinePassed | ClientsCameOn | Proceed)
        ]
