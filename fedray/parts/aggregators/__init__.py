"""Aggregators by name: one line each. Those that others may wrap have theirs in `rules`."""

from __future__ import annotations

from fedray.parts.aggregators.base import Aggregator
from fedray.parts.aggregators.bucketing import Bucketing
from fedray.parts.aggregators.majority import Majority
from fedray.parts.aggregators.norm_bound import NormBound
from fedray.parts.aggregators.pairwise import Pairwise
from fedray.parts.aggregators.rules import RULES

AGGREGATORS: tuple[type[Aggregator], ...] = (
    *RULES,
    Pairwise,
    NormBound,
    Bucketing,
    Majority,
)
