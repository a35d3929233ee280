"""How much an update counts: its share of the group, times a factor for its staleness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedray.config import schema
from fedray.types import Floats


def staleness_factor(law: schema.StalenessWeight, staleness: ArrayLike) -> Floats:
    """s(tau) for integer staleness tau >= 0, elementwise, in (0, 1]; s(0) = 1.

    constant 1; polynomial (1 + tau)^-a; hinge 1 up to b, then 1 / (a (tau - b) + 1)
    (Xie et al. 2019, section 5.2); exponential e^(-rate tau); inverse 1 / (1 + tau).
    """
    tau = np.asarray(staleness, np.float64)
    match law:
        case schema.ConstantWeight():
            return np.ones_like(tau)
        case schema.PolynomialWeight(exponent=exponent):
            return np.power(1.0 + tau, -exponent)
        case schema.HingeWeight(a=a, b=b):
            return 1.0 / (a * np.maximum(tau - b, 0.0) + 1.0)
        case schema.ExponentialWeight(rate=rate):
            return np.exp(-rate * tau)
        case schema.InverseWeight():
            return 1.0 / (1.0 + tau)


def shares(weighting: str, examples: NDArray[Any]) -> Floats:
    """Share of each update in its group, summing to 1: n_i / sum n, or 1 / M."""
    if weighting == "examples":
        n = np.asarray(examples, np.float64)
        return np.asarray(n / n.sum())
    return np.full(len(examples), 1.0 / len(examples))
