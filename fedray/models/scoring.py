"""Additive scores: a test set is scored in chunks, by anyone, and the chunks add up."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.models.losses import cross_entropies
from fedray.types import Matrix, Metrics, Score, Vector


def add_scores(scores: Iterable[Score]) -> Score:
    """The score of all chunks together; summed in the given order, at least one chunk."""
    total, *rest = scores
    for score in rest:
        both = total.per_class is not None and score.per_class is not None
        total = Score(
            samples=total.samples + score.samples,
            loss_sum=total.loss_sum + score.loss_sum,
            per_class=total.per_class + score.per_class if both else None,  # type: ignore[operator]
            squared_sum=total.squared_sum + score.squared_sum,
            y_sum=total.y_sum + score.y_sum,
            y_squared_sum=total.y_squared_sum + score.y_squared_sum,
            loss_square_sum=total.loss_square_sum + score.loss_square_sum,
        )
    return total


def metrics(score: Score) -> Metrics:
    """Means of a score: loss and accuracy, or loss, mse and R^2.

    The loss has no regularisation in it. A class without samples has accuracy nan.
    R^2 = 1 - SSE / SST with SST = sum y^2 - (sum y)^2 / n; for constant labels 1 if
    they are met exactly, else 0, as in scikit-learn. No samples: all figures are nan.
    """
    n = score.samples
    loss = score.loss_sum / n if n else nan
    if score.per_class is None:
        mse = score.squared_sum / n if n else nan
        return Metrics(loss, mse=mse, r2=_r2(score) if n else nan)
    right, count = score.per_class.tolist()
    accuracy = sum(right) / n if n else nan
    return Metrics(loss, accuracy, [r / c if c else nan for r, c in zip(right, count, strict=True)])


def _r2(score: Score) -> float:
    spread = max(score.y_squared_sum - score.y_sum**2 / score.samples, 0.0)
    if spread == 0.0:
        return float(score.squared_sum == 0.0)
    return 1.0 - score.squared_sum / spread


def score_logits(Z: Matrix, y: NDArray[Any]) -> Score:
    """Score of logits Z (C, n), which are used up, for classes y (n,); ties: lower class."""
    predicted = Z.argmax(axis=0)
    return score_classes(predicted, cross_entropies(Z, y), y, len(Z))


def score_classes(predicted: NDArray[Any], losses: Vector, y: NDArray[Any], classes: int) -> Score:
    """Score of predicted classes (n,) with their losses (n,)."""
    right = np.bincount(y[predicted == y], minlength=classes)
    per_class = np.stack((right, np.bincount(y, minlength=classes)))
    total = float(np.add.reduce(losses, dtype=np.float64))
    squares = float(np.add.reduce(losses * losses, dtype=np.float64))
    return Score(len(y), total, per_class, loss_square_sum=squares)


def score_values(predicted: Vector, y: NDArray[Any]) -> Score:
    """Score of predicted values (n,) of a regression: loss is half of the squared error."""
    labels = y.astype(np.float64, copy=False)
    errors = np.subtract(predicted, labels, dtype=np.float64)
    squares = errors * errors
    squared = float(np.add.reduce(squares))
    return Score(
        len(y),
        squared / 2,
        squared_sum=squared,
        y_sum=float(np.add.reduce(labels)),
        y_squared_sum=float(np.add.reduce(labels * labels)),
        loss_square_sum=float(np.add.reduce(squares * squares)) / 4,
    )
