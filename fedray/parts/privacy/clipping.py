"""How far one user can move a version."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from fedray.parts.fields import Doc, Positive, Strict
from fedray.parts.summation import Scaled
from fedray.types import Floats, Ints, Matrix, Vector

_AT_A_TIME = 128
_TINY = 1e-20
"""Squares below it may be of numbers whose own are below what float32 can tell from 0."""


@dataclass(frozen=True, kw_only=True)
class Flat(Strict):
    """delta_i <- delta_i min(1, C / |delta_i|), with the same C for the whole run."""

    kind: Literal["flat"] = "flat"
    norm: Annotated[float, Gt(0), Doc("C: bound on the length of an update")] = 1.0

    @property
    def first(self) -> float:
        """C of the first version."""
        return self.norm


@dataclass(frozen=True, kw_only=True)
class Adaptive(Strict):
    """C follows a quantile of the lengths, privately (Andrew et al. 2021, arXiv 1905.03871).

    b = 1/2 + (sum_i (b_i - 1/2) + N(0, sigma_b^2)) / m with b_i = 1 if |delta_i| <= C else 0;
    C <- C exp(-rate (b - quantile)). The noise on the sum of updates is made larger for it:
    z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2), so that both together cost what z does.
    """

    kind: Literal["adaptive"] = "adaptive"
    initial: Annotated[float, Gt(0), Doc("C of the first version")] = 0.1
    quantile: Annotated[float, Gt(0), Lt(1), Doc("share of updates that should fit")] = 0.5
    rate: Annotated[float, Ge(0), Doc("how fast C moves, in logarithms")] = 0.2
    bit_noise: Annotated[
        Positive | None, Doc("sigma_b; default a twentieth of the expected updates per version")
    ] = None

    @property
    def first(self) -> float:
        """C of the first version."""
        return self.initial

    def sigma(self, expected: float) -> float:
        """sigma_b, for m expected updates per version."""
        return expected / 20 if self.bit_noise is None else self.bit_noise

    def noise(self, multiplier: float, expected: float) -> float:
        """z_delta for z. Raises ValueError where the bits alone would cost more than z does."""
        sigma = self.sigma(expected)
        if multiplier >= 2 * sigma:
            raise ValueError(f"{multiplier:g} must be below 2 sigma_b = {2 * sigma:g}")
        return float((multiplier**-2 - (2 * sigma) ** -2) ** -0.5)

    def follow(
        self, bound: float, fits: Floats, expected: float, rng: np.random.Generator
    ) -> float:
        """C of the next version. `fits` (A,) holds b_i - 1/2, see `clip`."""
        noisy = float(fits.sum()) + self.sigma(expected) * float(rng.normal())
        return bound * math.exp(-self.rate * (0.5 + noisy / expected - self.quantile))


def clip(updates: Matrix, clients: Ints, bound: float) -> tuple[Scaled, Floats, Floats]:
    """Updates (A, P) cut to length C, their lengths (A,), and each one's part in the count.

    A client with several updates in a group gets C divided by their number for each, so that
    together they move the sum by C at the most. Parts are (b_i - 1/2) over that number.
    """
    _, place, counts = np.unique(clients, return_inverse=True, return_counts=True)
    times = counts[place].astype(np.float64)
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.array([_square(row) for row in updates], np.float64))
    bounds = bound / times
    short = lengths <= bounds
    factors = np.where(short, 1.0, bounds / np.where(short, 1.0, lengths))
    cut = Scaled(updates, _below(factors, updates.dtype), clients)
    return cut, np.minimum(lengths, bounds), (short - 0.5) / times


def _square(vector: Vector) -> float:
    """|x|^2, and never less: what is made this long at most is so whatever rounding did.

    A float32 dot of n elements, in any order, is short by n 2^-24 of itself at most; so one of
    128 at a time, which are added up in float64, leaves the length right to 4e-6. Where squares
    leave float32's range all is in float64.
    """
    if vector.dtype == np.float32:
        whole = len(vector) // _AT_A_TIME * _AT_A_TIME
        parts, rest = vector[:whole].reshape(-1, _AT_A_TIME), vector[whole:]
        dots = np.matmul(parts[:, None, :], parts[:, :, None])
        found = float(dots.sum(dtype=np.float64)) + float(np.dot(rest, rest))
        if _TINY < found < np.inf:
            return found / (1.0 - (_AT_A_TIME + 1) * 2.0**-24)
    exact = vector.astype(np.float64)
    return float(np.dot(exact, exact))


def _below(factors: Floats, dtype: np.dtype[Any]) -> Floats:
    """Factors in the precision of the updates; those below 1 rounded down so far that a product
    with them, which is rounded too, is not above what it would be exactly."""
    near = factors.astype(dtype)
    down = np.nextafter(near, dtype.type(0), dtype=dtype)
    return np.asarray(np.where(factors < 1, np.nextafter(down, dtype.type(0)), near), np.float64)
