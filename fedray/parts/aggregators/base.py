"""What an aggregator is: many updates to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fedray.errors import InputError
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Strict
from fedray.types import Floats, Matrix

Conflict = tuple[str, str]
"""A key of an aggregator, dotted where it is one of its inner rule, and what is wrong with it."""

ALONE = "it makes a version of every single update, and one update has nobody to be compared with"
"""Why most robust rules refuse mode async."""
MEDIAN_ALONE = f"{ALONE}; in place of median a number would do"
"""Why those refuse it whose scale is a median."""


@dataclass(frozen=True, kw_only=True)
class Aggregator(Strict):
    """A pure function of the arrivals, and of what it remembered at the version before.

    Its result does not depend on the order of arrival, beyond rounding.
    """

    kind: str
    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = ()
    """What it is published as; users pick these by name."""
    linear: ClassVar[bool] = False
    """Whether the aggregate is sum_i weights_i updates_i for the weights that it returns, and
    those do not depend on the updates."""

    @property
    def weighted(self) -> bool:
        """Whether shares by examples mean something to it; if not, every update counts as one."""
        return True

    @property
    def needs_company(self) -> str | None:
        """Why it means nothing for versions that are made from a single update, if it does not."""
        return None

    @property
    def server_vectors(self) -> int:
        """Vectors that it remembers from version to version."""
        return 0

    def conflict(self, count: int) -> Conflict | None:
        """What does not go with versions that are made from `count` updates."""
        return None

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The aggregate of at least one update, all of them finite.

        Of fewer updates than were asked for, as dropouts and deadlines leave them, it makes the
        best that its rule can; it never fails.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Comparing(Aggregator):
    """A rule that holds the updates of a version against each other, each counting as one."""

    @property
    def weighted(self) -> bool:
        return False

    @property
    def needs_company(self) -> str | None:
        return ALONE


def check_size(aggregator: Aggregator, count: int) -> None:
    """Raises InputError where versions made from `count` updates are too small for it."""
    if found := aggregator.conflict(count):
        raise InputError(found[1], key=f"server.aggregator.{found[0]}")


def too_few(kind: str, count: int, least: int = 3) -> Conflict | None:
    """The conflict of a rule that needs so many updates whatever its parameters are."""
    if count >= least:
        return None
    return "kind", f"{kind} needs versions made from at least {least} updates, these are of {count}"


def too_many(kind: str, f: int | Literal["auto"], count: int, each: int) -> Conflict | None:
    """The conflict of a rule that needs `each` f + 3 updates to stand f attackers."""
    if f == "auto":
        return too_few(kind, count)
    if count >= each * f + 3:
        return None
    return "f", (
        f"{f} is too many for versions made from {count} updates; "
        f"{kind} needs {each} f + 3 = {each * f + 3}"
    )


def stood(f: int | Literal["auto"], count: int, each: int) -> int:
    """Attackers among `count` updates that such a rule allows for; auto: as many as it can."""
    most = max(0, (count - 3) // each)
    return most if f == "auto" else min(f, most)


def points(arrivals: Arrivals) -> tuple[Matrix, Floats]:
    """x_i = s(tau_i) delta_i (A, P), in mode async times mixing, and these factors (A,).

    This is how staleness enters a rule that is no sum: an update that is late is shorter, and
    the rule sees it so. sum_i share_i x_i is the weighted mean.
    """
    shares = arrivals.shares
    factors = np.divide(arrivals.weights, shares, out=np.ones(len(shares)), where=shares > 0)
    if (factors == 1.0).all():
        return arrivals.updates, factors
    return factors.astype(arrivals.updates.dtype)[:, None] * arrivals.updates, factors
