"""Arithmetic in finite fields: fixed-point numbers, masks, and shares of a secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.types import Floats, Matrix

Residues = NDArray[np.uint64]
"""Elements of the field of masked vectors, in [0, VALUES)."""

VALUES = (1 << 31) - 1
"""A prime: masked vectors are summed modulo this, 31 bits a coordinate."""
KEYS = (1 << 61) - 1
"""A prime: keys and shares. Far too small for secrets in earnest."""
GENERATOR = 37
VALUE_BITS = 31


def quantise(updates: Matrix, bound: float, bits: int) -> NDArray[np.int64]:
    """Coordinates in [-bound, bound], others cut to it, as whole numbers of bound / 2^(bits - 1).

    Rounded towards 0, so that no update gets longer: a bound on its length still holds.
    """
    top = (1 << (bits - 1)) - 1
    units = np.trunc(np.clip(updates.astype(np.float64) / bound, -1, 1) * (top + 1))
    return np.clip(units, -top, top).astype(np.int64)


def value(units: NDArray[np.int64], bound: float, bits: int) -> Floats:
    """The numbers that whole numbers stand for."""
    return np.asarray(units * (bound / (1 << (bits - 1))))


def residues(units: NDArray[np.int64]) -> Residues:
    """Whole numbers, negative ones too, as elements of the field."""
    return np.asarray(units % VALUES, np.uint64)


def whole(elements: Residues) -> NDArray[np.int64]:
    """The whole numbers in (-VALUES / 2, VALUES / 2) that elements stand for."""
    signed = elements.astype(np.int64)
    return np.where(signed > VALUES // 2, signed - VALUES, signed)


def mask(seed: int, size: int) -> Residues:
    """A seed, stretched to `size` elements, each as likely as any other."""
    return rng.generator(seed, rng.Stream.MASKS).integers(0, VALUES, size, dtype=np.uint64)


def shares(secret: int, parties: Sequence[int], threshold: int, dice: np.random.Generator) -> dict[
    int, int
]:  # fmt: skip
    """Shamir's: by party, the value at party + 1 of a random polynomial with `secret` at 0.

    Of degree threshold - 1, so that so many shares tell the secret and fewer tell nothing.
    """
    higher = [int(c) for c in dice.integers(0, KEYS, threshold - 1)]
    found = {}
    for party in parties:
        total = 0
        for coefficient in reversed([secret, *higher]):
            total = (total * (party + 1) + coefficient) % KEYS
        found[party] = total
    return found


def at_zero(parties: Sequence[int]) -> list[int]:
    """Lagrange's coefficients: what the shares of these parties count for the secret."""
    found = []
    for i in parties:
        above = below = 1
        for j in parties:
            if i != j:
                above = above * (j + 1) % KEYS
                below = below * (j - i) % KEYS
        found.append(above * pow(below, -1, KEYS) % KEYS)
    return found


def secret(of: Mapping[int, int], coefficients: Mapping[int, int]) -> int:
    """The secret that shares, by party, are of."""
    return sum(of[party] * c for party, c in coefficients.items()) % KEYS
