"""A vote on the direction of every coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt

from fedray.parts.aggregators.base import Aggregator
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.fields import Doc


@dataclass(frozen=True, kw_only=True)
class Majority(Aggregator):
    """step sign(sum_i weights_i sign(update_i)), coordinate by coordinate; a tie moves nothing.

    signSGD with majority vote (Bernstein et al. 2018, algorithm 3; arXiv 1802.04434). How far
    updates go does not count, so that one client cannot outweigh the others.
    """

    kind: Literal["majority"] = "majority"
    step: Annotated[
        Literal["mean"] | Annotated[float, Gt(0)],
        Doc("how far each coordinate moves; mean: the weighted mean of all |update_ij|"),
    ] = "mean"

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The weights that describe it are those of the votes."""
        updates, weights = arrivals.updates, arrivals.weights
        of = weights.astype(updates.dtype)
        votes = np.sign(of @ np.sign(updates))
        step = self.step
        if step == "mean":
            step = float(weights @ np.abs(updates).mean(axis=1))
        return Combined(votes * updates.dtype.type(step), weights)
