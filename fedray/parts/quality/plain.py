"""Scores of single updates: accuracy, loss, direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fedray.parts.quality.base import Bench, Quality
from fedray.types import Floats


@dataclass(frozen=True, kw_only=True)
class Alike(Quality):
    """Updates count by their samples alone."""

    active: ClassVar[bool] = False
    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class Validation(Quality):
    """s_i: accuracy of the client's own model on the validation samples."""

    regression: ClassVar[bool] = False
    kind: Literal["validation"] = "validation"

    def scores(self, bench: Bench) -> Floats:
        return np.array([verdict.accuracy for verdict in bench.own()])


@dataclass(frozen=True, kw_only=True)
class Loss(Quality):
    """s_i = exp(-loss of the client's own model on the validation samples)."""

    kind: Literal["loss"] = "loss"

    def scores(self, bench: Bench) -> Floats:
        return np.exp([-verdict.loss for verdict in bench.own()])


@dataclass(frozen=True, kw_only=True)
class Cosine(Quality):
    """s_i = max(0, cos(update_i, mean update)), the mean weighted as without quality.

    An update that is much longer than the others takes the mean with it, and gets the best score.
    """

    kind: Literal["cosine"] = "cosine"

    def scores(self, bench: Bench) -> Floats:
        updates = bench.updates
        mean = bench.shares.astype(updates.dtype) @ updates
        lengths = np.sqrt(np.einsum("ij,ij->i", updates, updates)) * np.sqrt(np.dot(mean, mean))
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines = np.where(lengths > 0, (updates @ mean) / lengths, 0.0)
        return np.maximum(cosines.astype(np.float64), 0.0)
