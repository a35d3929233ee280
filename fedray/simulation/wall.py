"""The wall clock: events in the order in which they really happen. Not reproducible.

Drives the same policies as virtual time does; only here do the speed of this machine
and the number of its workers decide who arrives when.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from fedray.simulation.events import Arrived, Event, Job, WakeAt
from fedray.simulation.executor import Executor


class WallQueue:
    """Implements `events.Queue`: jobs arrive when the executor has finished them."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._jobs: dict[int, Job] = {}
        self._wakes: list[WakeAt] = []
        self._zero = time.monotonic()

    def __len__(self) -> int:
        return len(self._jobs) + len(self._wakes)

    def push_jobs(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.dispatched_at_s > self.next_s():  # resumed: the clock goes on from there
                self._zero = time.monotonic() - job.dispatched_at_s
            self._jobs[job.dispatch] = job

    def push_wake(self, wake: WakeAt) -> None:
        self._wakes = sorted([*self._wakes, wake], key=lambda w: w.at_s)

    def next_s(self) -> float:
        return time.monotonic() - self._zero

    def pop(self) -> tuple[float, Event]:
        left_s = max(0.0, self._wakes[0].at_s - self.next_s()) if self._wakes else None
        job = self._executor.wait_any(self._jobs.values(), left_s) if self._jobs else None
        if job is None:
            if not self._jobs and left_s:
                time.sleep(left_s)
            wake = self._wakes.pop(0)
            return self.next_s(), wake.event
        at_s = self.next_s()
        del self._jobs[job.dispatch]
        return at_s, Arrived(job._replace(due_s=at_s))

    def wakes(self) -> list[WakeAt]:
        return self._wakes
