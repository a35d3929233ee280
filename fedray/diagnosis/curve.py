"""What an arm came to: its evaluations, in order."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.types import Floats, Ints, Vector


@dataclass(frozen=True)
class Curve:
    """One entry per evaluated version, version 0 included; arrays are (E,)."""

    version: Ints
    virtual_time_s: Floats
    updates: Ints
    """Client updates that went in so far."""
    steps: Ints
    """Minibatch gradients evaluated so far."""
    samples: Ints
    """Training samples gone through so far: what the computing costs."""
    bytes: Ints
    """Moved so far, both directions."""
    accuracy: Floats
    """NaN for regression."""
    loss: Floats
    final: Vector
    """Parameters (P,) of the last version."""
