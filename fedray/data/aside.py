"""Validation samples: some of the test samples, which then are in the test set no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedray import rng
from fedray.errors import InputError
from fedray.types import Federation


def set_aside(federation: Federation, fraction: float, seed: int) -> Federation:
    """The same data with a random share of the test samples as validation samples.

    Raises InputError where one of the two would be empty.
    """
    samples = len(federation.y_test)
    count = round(fraction * samples)
    if not 0 < count < samples:
        raise InputError(
            f"{fraction:g} of {samples} test samples leaves none for validation or for the test",
            key="server.quality.validation_fraction",
        )
    order = rng.generator(seed, rng.Stream.VALIDATION).permutation(samples)
    aside, rest = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        federation,
        X_test=federation.X_test[rest],
        y_test=federation.y_test[rest],
        X_validation=federation.X_test[aside],
        y_validation=federation.y_test[aside],
    )
