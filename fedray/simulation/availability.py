"""When clients can be reached: on-windows in virtual time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.types import Floats


class Availability(Protocol):
    """On-windows [start, end) per client."""

    def on_until(self, client: int, at_s: float) -> float:
        """End of the client's window that holds `at_s`; `at_s` itself if it is off then."""

    def next_on(self, clients: int, after_s: float) -> float:
        """The first time > after_s at which some client comes on; inf if none does."""


@dataclass(frozen=True)
class Always:
    """Every client is always on."""

    def on_until(self, client: int, at_s: float) -> float:
        return math.inf

    def next_on(self, clients: int, after_s: float) -> float:
        return math.inf


@dataclass(frozen=True)
class Cycle:
    """On for on_s, off for off_s, repeated; client i starts `phase_s[i]` into its cycle."""

    on_s: float
    off_s: float
    phase_s: Floats

    def on_until(self, client: int, at_s: float) -> float:
        into = (at_s + float(self.phase_s[client])) % (self.on_s + self.off_s)
        return at_s + max(0.0, self.on_s - into)

    def next_on(self, clients: int, after_s: float) -> float:
        period = self.on_s + self.off_s
        wait = period - (after_s + self.phase_s) % period
        # The smallest step that is visible in floating point keeps time moving on.
        return max(float(after_s + wait.min()), math.nextafter(after_s, math.inf))


@dataclass(frozen=True)
class Trace:
    """Given windows: per client, sorted starts and ends. Clients without any are never on."""

    starts: Mapping[int, list[float]]
    ends: Mapping[int, list[float]]

    def on_until(self, client: int, at_s: float) -> float:
        starts = self.starts.get(client)
        if not starts:
            return at_s
        window = bisect_right(starts, at_s) - 1
        return max(at_s, self.ends[client][window]) if window >= 0 else at_s

    def next_on(self, clients: int, after_s: float) -> float:
        found = math.inf
        for starts in self.starts.values():
            window = bisect_right(starts, after_s)
            if window < len(starts):
                found = min(found, starts[window])
        return found


def cycle(config: schema.CycleAvailability, clients: int, seed: int) -> Cycle:
    """A cycle with a uniformly random phase per client."""
    period = config.on_s + config.off_s
    phases = rng.generator(seed, rng.Stream.AVAILABILITY).uniform(0.0, period, clients)
    return Cycle(config.on_s, config.off_s, np.asarray(phases))
