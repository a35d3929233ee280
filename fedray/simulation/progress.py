"""Where a run is."""

from __future__ import annotations

from typing import NamedTuple

from fedray.types import Metrics


class Progress(NamedTuple):
    """Where a run is, for a display."""

    version: int
    rounds: int
    virtual_time_s: float
    metrics: Metrics | None
    staleness_mean: float
    in_flight: int
    updates: int
    wall_time_s: float
    best: float | None = None
    """Best evaluation so far: accuracy, or for regression the lowest loss."""
    staleness: tuple[int, ...] = ()
    """Of each update that the version was made of."""
    bytes_down: int = 0
    bytes_up: int = 0
