"""Aggregators by name: one line each."""

from __future__ import annotations

from fedray.parts.aggregators.base import Aggregator
from fedray.parts.aggregators.mean import Mean
from fedray.parts.aggregators.pairwise import Pairwise

AGGREGATORS: tuple[type[Aggregator], ...] = (
    Mean,
    Pairwise,
)
