"""Draws of the distributions that a configuration can name."""

from __future__ import annotations

import numpy as np

from fedray.config import schema
from fedray.types import Floats


def draw(law: schema.Distribution, rng: np.random.Generator, size: int) -> Floats:
    """`size` independent draws of `law`, shape (size,), all >= 0."""
    match law:
        case schema.Constant(value=value):
            return np.full(size, value)
        case schema.Uniform(low=low, high=high):
            return rng.uniform(low, high, size)
        case schema.HalfNormal(scale=scale):
            return np.abs(rng.normal(0.0, scale, size))
        case schema.Exponential(mean=mean):
            return rng.exponential(mean, size)
        case schema.LogNormal(median=median, sigma=sigma):
            return median * np.exp(sigma * rng.standard_normal(size))
        case schema.Pareto(minimum=minimum, shape=shape):
            return minimum * (1.0 - rng.random(size)) ** (-1.0 / shape)
