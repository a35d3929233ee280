"""The server's part in central privacy: updates are cut, sums are noised, the bound may move."""

from __future__ import annotations

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.learning.work import Results
from fedray.parts.arrivals import Memory
from fedray.parts.privacy.central import Central
from fedray.parts.privacy.clipping import Adaptive, clip
from fedray.parts.summation import Scaled
from fedray.simulation.accounting import Guarantee
from fedray.types import Floats, Ints, Matrix, Vector


class Guard:
    """One run's. `memory` holds the clipping norm C of the version to come."""

    def __init__(self, config: schema.Config, spent: Guarantee) -> None:
        assert isinstance(config.privacy, Central)
        self._clipping, self._spent, self._seed = config.privacy.clipping, spent, config.seed
        schedule = config.server.schedule
        self._mixing = schedule.mixing if isinstance(schedule, schema.AsyncSchedule) else 1.0
        self.memory: Memory = {"bound": np.array([self._clipping.first])}
        self._fits: Floats = np.empty(0)

    @property
    def bound(self) -> float:
        """C"""
        return float(self.memory["bound"][0])

    def cut(self, updates: Matrix, clients: Ints) -> tuple[Scaled, Floats]:
        """The updates (A, P) of a version, no user's together longer than C, and their lengths."""
        found, lengths, self._fits = clip(updates, clients, self.bound)
        return found, lengths

    def share(self, arrived: int) -> float:
        """From the mean over the updates that arrived to the sum over those expected."""
        return arrived / self._spent.expected

    def release(self, mean: Vector, arrived: int, version: int) -> Vector:
        """From the mean of the updates that arrived to sum / m + N(0, (z_delta C / m)^2).

        Every weight in the sum is at most 1, or `mixing`. Also of a version without any update,
        or else it would show that there was none. Then C moves on.
        """
        expected, bound = self._spent.expected, self.bound
        drawn = rng.generator(self._seed, rng.Stream.NOISE, version)
        deviation = self._spent.update_noise * bound * self._mixing / expected
        noise = drawn.normal(0.0, deviation, len(mean))
        if isinstance(self._clipping, Adaptive):
            bound = self._clipping.follow(bound, self._fits, expected, drawn)
            self.memory = {"bound": np.array([bound])}
        self._fits = np.empty(0)
        noise += mean * self.share(arrived)
        return noise.astype(mean.dtype)


def silenced(results: Results) -> Results:
    """With zeros in place of updates that are not finite: where sums are private and secure, who
    diverges must not show in whether enough have answered."""
    diverged = ~np.isfinite(results.norm)
    if not diverged.any():
        return results
    deltas, norm = results.deltas.copy(), results.norm.copy()
    deltas[diverged], norm[diverged] = 0.0, 0.0
    return results._replace(deltas=deltas, norm=norm)
