"""A vote on the direction of every coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from fedray.parts import summation
from fedray.parts.aggregators.base import Aggregator
from fedray.parts.arrivals import Arrivals, Combined, Memory
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.types import Floats, Matrix, Vector

_IN_A_BYTE = 127
"""Votes that a byte can count."""

_CARD = Algorithm(
    name="signsgd",
    title="Signs of the updates, and a majority vote",
    paper="Bernstein et al. 2018, signSGD: Compressed Optimisation for Non-Convex Problems, "
    "algorithm 3, with majority vote (arXiv 1802.04434)",
    rule="A client sends the signs of its update, the server moves every coordinate by a fixed "
    "step in the direction that most clients voted for: w <- w + step sign(sum_i sign(delta_i)).",
    values={
        "compression": {"up": {"kind": "sign", "error_feedback": False}},
        "server": {
            "weighting": "uniform",
            "aggregator": {"kind": "majority", "step": 0.01},
            "optimizer": {"kind": "sgd", "lr": 1.0},
        },
    },
    proof="Equal to a few-line reference, step by step; on two coordinates where three clients "
    "disagree the majority wins whatever the lengths.",
    differs="Biased: it does not settle where the mean does if clients are skewed, and the paper "
    "says so; efsignsgd corrects that. The paper votes on single gradients and sends the vote's "
    "result down as one bit per coordinate; here clients train whole jobs, and as they are not "
    "asked every round the model itself is sent.",
    family="communication",
)


@dataclass(frozen=True, kw_only=True)
class Majority(Aggregator):
    """step sign(sum_i weights_i sign(update_i)), coordinate by coordinate; a tie moves nothing.

    signSGD with majority vote (Bernstein et al. 2018, algorithm 3; arXiv 1802.04434). How far
    updates go does not count, so that one client cannot outweigh the others.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (_CARD,)
    kind: Literal["majority"] = "majority"
    step: Annotated[
        Literal["mean"] | Annotated[float, Gt(0)],
        Doc("how far each coordinate moves; mean: the weighted mean of all |update_ij|"),
    ] = "mean"

    def combine(self, arrivals: Arrivals, memory: Memory) -> Combined:
        """The weights that describe it are those of the votes."""
        updates, weights = arrivals.updates, arrivals.weights
        alike = weights[0] > 0 and (weights == weights[0]).all()
        votes = heads(updates) if alike else np.sign(signs(updates, weights))
        step = self.step
        if step == "mean":
            room = np.empty_like(updates[0])
            step = float(weights @ [np.abs(row, out=room).mean() for row in updates])
        return Combined(votes * updates.dtype.type(step), weights)


def heads(updates: Matrix) -> Vector:
    """sign(sum_i sign(update_i)) (P,), counted in whole numbers: several times as fast."""
    count = updates.shape[1]
    total, some = np.zeros(count, np.int32), np.empty(count, np.int8)
    side = np.empty(count, np.bool_)
    one = side.view(np.int8)
    for first in range(0, len(updates), _IN_A_BYTE):
        some[:] = 0
        for row in updates[first : first + _IN_A_BYTE]:
            np.greater(row, 0.0, out=side)
            np.add(some, one, out=some)
            np.less(row, 0.0, out=side)
            np.subtract(some, one, out=some)
        total += some
    return np.asarray(np.sign(total), updates.dtype)


def signs(updates: Matrix, weights: Floats) -> Vector:
    """sum_i weights_i sign(update_i) (P,)."""
    total: Vector = np.zeros_like(updates[0])
    room = np.empty_like(total)
    with summation.adding(len(total), total.dtype) as add:
        for row, weight in zip(updates, weights.tolist(), strict=True):
            add(total, np.sign(row, out=room), weight)
    return total
