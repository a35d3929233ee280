"""What an aggregator is: many updates to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.fields import Strict


@dataclass(frozen=True, kw_only=True)
class Aggregator(Strict):
    """A pure function of the arrivals, and of what it remembered at the version before.

    Its result does not depend on the order of arrival, beyond rounding.
    """

    kind: str
    linear: ClassVar[bool] = False
    """Whether the aggregate is sum_i weights_i updates_i for the weights that it returns, and
    those do not depend on the updates."""

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The aggregate of at least one update, all of them finite."""
        raise NotImplementedError
