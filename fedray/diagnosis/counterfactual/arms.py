"""The factorial of counterfactual arms: which causes are on, and which make no difference."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Literal, NamedTuple, TypeAlias

Cause: TypeAlias = Literal["non_iid", "drift", "staleness", "averaging"]

CAUSES: tuple[Cause, ...] = ("non_iid", "drift", "staleness", "averaging")


class Arm(NamedTuple):
    """One corner of the factorial: True where a cause is on, as it is in the run.

    `docs/diagnosis.md` defines what off means for each.
    """

    non_iid: bool = True
    drift: bool = True
    staleness: bool = True
    averaging: bool = True

    @property
    def name(self) -> str:
        """`run` (all on), `pooled` (all off), else the causes that are on, joined by +."""
        if all(self):
            return "run"
        return "+".join(self.on) or "pooled"

    @property
    def on(self) -> tuple[Cause, ...]:
        return tuple(cause for cause, on in zip(CAUSES, self, strict=True) if on)

    def without(self, causes: Collection[str]) -> Arm:
        """The same arm with these causes off."""
        return Arm(*(on and cause not in causes for cause, on in zip(CAUSES, self, strict=True)))

    def computed_as(self, inert: Collection[str]) -> Arm:
        """The arm that stands for this one where the `inert` causes make no difference.

        Inert causes are set to on, so that the run's own arm stands for all it equals.
        """
        return Arm(*(on or cause in inert for cause, on in zip(CAUSES, self, strict=True)))


RUN, POOLED = Arm(), Arm(False, False, False, False)

ARMS: tuple[Arm, ...] = tuple(Arm(*on) for on in product((True, False), repeat=len(CAUSES)))
"""All 16, the run itself first and the pooled one last."""
