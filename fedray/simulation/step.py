"""How one version came about, and the figures that the tables have of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedray.learning.work import Results
from fedray.parts import summation
from fedray.types import Floats, Ints, Matrix, Vector


class Step(NamedTuple):
    """How one version came about: what the flight recorder needs, kept until it has time.

    Arrays are (K,) over the group, in order of arrival; `vectors` (A, P) are the
    accepted updates as they were averaged and `accepted` (K,) says which those are.
    """

    staleness: Ints
    examples: Ints
    weights: Floats
    accepted: NDArray[np.bool_]
    vectors: Matrix
    lengths: Floats
    """(A,): norms of `vectors`."""
    update: Vector
    results: Results
    clients: Ints
    """(A,)"""
    bound: float | None = None
    """C: no user's updates were longer, where that is looked after."""


def describe(step: Step) -> Mapping[str, object]:
    """Figures of one step, for the tables. Vectors are d_i, weights a_i, update d.

    cosine_i = d_i.d / |d_i||d|; cancellation = |sum a_i d_i| / sum a_i |d_i| (1: all
    pull the same way, 1/sqrt(K): orthogonal, 0: they cancel out);
    n_effective = (sum a_i)^2 / sum a_i^2; drift = mean |w_i - w_downloaded|.
    With c the mean cosine between two of M updates, dilution_law = sqrt((1 + (M - 1) c) / M)
    is what cancellation comes to for equally long and equally weighted ones.
    """
    norms = step.lengths
    length = float(np.sqrt(np.dot(step.update, step.update)))
    weights = step.weights[step.accepted]
    with np.errstate(all="ignore"):
        cosines = summation.dots(step.vectors, step.update) / (norms * length)
        pull = float(weights @ norms)
        cancellation = length / pull if pull else float("nan")
        n_effective = float(weights.sum() ** 2 / (weights @ weights)) if len(weights) else 0.0
    cosine = np.full(len(step.accepted), np.nan)
    cosine[step.accepted] = cosines
    some = len(weights) > 0
    return {
        "cosine": cosine,
        "update_norm": length,
        "cancellation": cancellation if some else None,
        "cosine_mean": float(cosines.mean()) if some and length else None,
        "n_effective": n_effective,
        **_pairwise(step),
        "clip_norm": step.bound,
        "drift_mean": float(step.results.norm[step.accepted].mean()) if some else None,
    }


def _pairwise(step: Step) -> dict[str, float | None]:
    """Mean cosine over pairs of updates, from the length of the sum of their directions."""
    moving = step.lengths > 0
    count = int(np.count_nonzero(moving))
    if count < 2:
        return {"cosine_pairwise": None, "dilution_law": None}
    inverse = np.divide(1.0, step.lengths, out=np.zeros(len(moving)), where=moving)
    total = summation.total(step.vectors, inverse, step.clients)
    squared = float(np.dot(total, total))
    return {
        "cosine_pairwise": (squared - count) / (count * (count - 1)),
        "dilution_law": math.sqrt(squared) / count,
    }
