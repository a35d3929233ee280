"""What a number of a device is drawn from, by `kind`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fedray.parts.fields import NonNegative, OneOf, Positive, Strict


@dataclass(frozen=True, kw_only=True)
class Constant(Strict):
    """Always `value`."""

    kind: Literal["constant"] = "constant"
    value: NonNegative


@dataclass(frozen=True, kw_only=True)
class Uniform(Strict):
    """U(low, high)."""

    kind: Literal["uniform"] = "uniform"
    low: NonNegative
    high: Positive


@dataclass(frozen=True, kw_only=True)
class HalfNormal(Strict):
    """Half-normal: |N(0, scale^2)|."""

    kind: Literal["halfnormal"] = "halfnormal"
    scale: Positive


@dataclass(frozen=True, kw_only=True)
class Exponential(Strict):
    """Exponential with the given mean."""

    kind: Literal["exponential"] = "exponential"
    mean: Positive


@dataclass(frozen=True, kw_only=True)
class LogNormal(Strict):
    """median * exp(sigma N(0, 1))."""

    kind: Literal["lognormal"] = "lognormal"
    median: Positive
    sigma: NonNegative = 0.5


@dataclass(frozen=True, kw_only=True)
class Pareto(Strict):
    """minimum * U^(-1/shape): heavy-tailed."""

    kind: Literal["pareto"] = "pareto"
    minimum: Positive
    shape: Positive = 1.5


Distribution = Annotated[
    Constant | Uniform | HalfNormal | Exponential | LogNormal | Pareto, OneOf("kind")
]
