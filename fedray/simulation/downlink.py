"""What clients get of a model on its way down."""

from __future__ import annotations

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.parts.compression.nothing import Nothing
from fedray.parts.transforms import Sender
from fedray.types import Vector

SERVER = -1
"""Its number as a sender."""


def sent(
    wire: schema.Compression, vector: Vector, *, seed: int, version: int,
    before: Vector | None = None, place: int = 0,
) -> Vector:  # fmt: skip
    """A vector (P,) of a version as clients decode it.

    By change, clients add what they decode to `before`, what they have of the version before:
    x <- x + C(w - x), so what was left out is in the next difference (EF21-P, Gruntkowska et al.
    2023). Both ends make the first version from the seed.
    """
    if isinstance(wire.down, Nothing):
        return vector
    drawn = Sender(SERVER, version, version, seed, place).rng(rng.Stream.COMPRESS)
    with np.errstate(all="ignore"):
        if wire.down_of == "model":
            return wire.down.carry(vector, drawn)
        return vector if before is None else before + wire.down.carry(vector - before, drawn)
