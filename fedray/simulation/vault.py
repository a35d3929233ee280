"""The server's part in secure aggregation: of a cohort's updates it has the sum alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.parts.secure import field
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.simulation.events import Job
from fedray.types import Matrix, Vector


class Vault:
    """One run's. `admitted` is asked once per version, and then the `mean`."""

    def __init__(self, protocol: Bonawitz, seed: int) -> None:
        self._protocol, self._seed = protocol, seed
        self._sum: NDArray[np.int64] | None = None

    def admitted(
        self, updates: Matrix, jobs: Sequence[Job], finite: NDArray[np.bool_], gone: Sequence[Job],
        version: int,
    ) -> tuple[Matrix, NDArray[np.bool_], bool]:  # fmt: skip
        """The updates (A, P), those of the `finite` jobs, as they count in the unmasked sum; which
        of all jobs do; and whether the next version is given up.

        The cohort is all that started from `version`, also those that are `gone`. Who diverged
        sends nothing, as if it had dropped out.
        """
        clients = [job.client for job, ok in zip(jobs, finite, strict=True) if ok]
        lost = {job.client for job in gone if job.base_version == version}
        cohort = sorted(lost | {job.client for job in jobs})
        if not cohort:
            return updates, finite, False
        place, protocol = {client: i for i, client in enumerate(cohort)}, self._protocol
        units = field.quantise(updates, protocol.bound, protocol.bits)
        dice = rng.generator(self._seed, rng.Stream.MASKS, version + 1)
        answering = [place[client] for client in clients]
        self._sum = protocol.sum(units, len(cohort), answering, dice)
        if self._sum is None:
            return updates[:0], np.zeros_like(finite), True
        found = field.value(units, protocol.bound, protocol.bits)
        return found.astype(updates.dtype), finite, False

    def mean(self, arrived: int, dtype: np.dtype[np.floating]) -> Vector:
        """The sum that was unmasked, over the number of updates in it."""
        assert self._sum is not None
        found = field.value(self._sum, self._protocol.bound, self._protocol.bits) / arrived
        return found.astype(dtype)
