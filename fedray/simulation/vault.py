"""The server's part in secure aggregation: of a cohort's updates it has the sum alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.parts.secure import field
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.simulation.events import Job
from fedray.types import Ints, Matrix, Vector


class Vault:
    """One run's. `open` is to be called once per version, before the sum is asked for."""

    def __init__(self, protocol: Bonawitz, seed: int) -> None:
        self._protocol, self._seed = protocol, seed
        self._units: NDArray[np.int64] = np.empty((0, 0), np.int64)
        self._sum: NDArray[np.int64] | None = None

    def open(
        self, updates: Matrix, clients: Ints, missing: Sequence[Job], version: int
    ) -> Matrix | None:
        """The updates (A, P) as they count in the sum; None where too few have answered.

        `missing` started from the same model and did not get as far as an update.
        """
        cohort = sorted({*clients.tolist(), *(job.client for job in missing)})
        place = {client: i for i, client in enumerate(cohort)}
        protocol = self._protocol
        units = field.quantise(updates, protocol.bound, protocol.bits)
        dice = rng.generator(self._seed, rng.Stream.MASKS, version)
        answering = [place[client] for client in clients.tolist()]
        self._sum = protocol.sum(units, len(cohort), answering, dice) if len(cohort) else None
        if self._sum is None:
            return None
        return field.value(units, protocol.bound, protocol.bits).astype(updates.dtype)

    def mean(self, arrived: int, dtype: np.dtype[np.floating]) -> Vector:
        """The sum that was unmasked, over the number of updates in it."""
        assert self._sum is not None
        found = field.value(self._sum, self._protocol.bound, self._protocol.bits) / arrived
        return found.astype(dtype)
