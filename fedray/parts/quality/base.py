"""What a quality is: how much an update is worth, beyond its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np
from annotated_types import Gt, Lt

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, NonNegative, Strict
from fedray.types import Floats, Matrix

Subset: TypeAlias = tuple[int, ...]
"""Places of some updates in their group, in rising order."""


class Verdict(NamedTuple):
    """A model on the validation samples."""

    loss: float
    """Mean; inf where it is not finite."""
    accuracy: float
    """NaN for a regression."""


class Bench(Protocol):
    """The updates of one version, and what can be found out about them."""

    updates: Matrix
    """(A, P)"""
    shares: Floats
    """(A,): what each would count without quality; they sum to 1."""
    classification: bool
    version: int
    """That is being made."""
    seed: int

    def own(self) -> list[Verdict]:
        """Every client's own model: the one that it downloaded, and its update."""

    def of(self, subsets: Sequence[Subset]) -> list[Verdict]:
        """The version that the server would make of some of the updates alone, shares
        normalised among them; the version before for none."""


@dataclass(frozen=True, kw_only=True)
class Quality(Strict):
    """Weights go as share_i s_i^gamma, normalised, with scores s_i >= 0."""

    kind: str
    ALGORITHM: ClassVar[Algorithm | None] = None
    """How users pick it by name."""
    active: ClassVar[bool] = True
    regression: ClassVar[bool] = True
    """Whether there is a score where there is no accuracy."""
    gamma: Annotated[
        NonNegative, Doc("power of the scores; 0 weighs as without, on the same test samples")
    ] = 1.0
    validation_fraction: Annotated[
        float,
        Gt(0),
        Lt(1),
        Doc(
            "share of the test samples set aside for validation; scores of the run are on the rest"
        ),
    ] = 0.2

    def scores(self, bench: Bench) -> Floats:
        """(A,), each >= 0."""
        raise NotImplementedError


def reweighed(shares: Floats, scores: Floats, gamma: float) -> Floats:
    """share_i s_i^gamma, (A,), scaled to the sum of the shares.

    The shares themselves where every score is 0: then nothing tells the updates apart.
    """
    if gamma == 0:
        return shares
    found = shares * np.nan_to_num(scores, nan=0.0, neginf=0.0) ** gamma
    total = float(found.sum())
    if not np.isfinite(total) or total <= 0:
        return shares
    return np.asarray(found * (shares.sum() / total))
