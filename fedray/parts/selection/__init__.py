"""Selections by name: one line each."""

from __future__ import annotations

from typing import Any

from fedray.parts.selection.availability import AvailabilityAware
from fedray.parts.selection.base import Selection
from fedray.parts.selection.oort import Oort
from fedray.parts.selection.plain import BySize, RoundRobin, Uniform
from fedray.parts.selection.poisson import Poisson
from fedray.parts.selection.power_of_choice import PowerOfChoice
from fedray.parts.selection.staleness import StalenessAware
from fedray.parts.selection.tiers import Tiers

SELECTIONS: tuple[type[Selection], ...] = (
    Uniform,
    BySize,
    RoundRobin,
    Poisson,
    PowerOfChoice,
    Oort,
    StalenessAware,
    AvailabilityAware,
    Tiers,
)


def selection(of: Selection | str) -> Selection:
    """A selection, given as itself or by its word alone."""
    if isinstance(of, Selection):
        return of
    known: tuple[Any, ...] = SELECTIONS
    found: Selection = next(one for one in (kind() for kind in known) if one.kind == of)
    return found
