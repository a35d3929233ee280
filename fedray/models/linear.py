"""Least squares on a flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.models.losses import FLOAT32, penalty
from fedray.models.scoring import score_values
from fedray.types import Matrix, Score, Vector


@dataclass(frozen=True)
class LinearModel:
    """loss = mean (X coef + intercept - y)^2 / 2 + l2/2 |coef|^2.

    w = (coef (d,), intercept (1,)). X (n, d) with n >= 1, y (n,) float.
    """

    features: int
    l2: float = 0.0
    initial: Literal["zeros", "normal"] = "zeros"
    dtype: np.dtype[Any] = FLOAT32

    @property
    def size(self) -> int:
        return self.features + 1

    def init(self, rng: np.random.Generator) -> Vector:
        """Zeros, or N(0, 0.01^2) coefficients with a zero intercept."""
        w = np.zeros(self.size)
        if self.initial == "normal":
            w[:-1] = 0.01 * rng.standard_normal(self.features)
        return w.astype(self.dtype)

    def named(self, w: Vector) -> dict[str, NDArray[Any]]:
        """coef (1, d), intercept (1,): views of w."""
        return {"coef": w[None, :-1], "intercept": w[-1:]}

    def score(self, w: Vector, X: Matrix, y: NDArray[Any]) -> Score:
        with np.errstate(all="ignore"):
            return score_values(self._predict(w, X), y)

    def loss(self, w: Vector, X: Matrix, y: NDArray[Any]) -> float:
        with np.errstate(all="ignore"):
            return self.score(w, X, y).loss_sum / len(y) + penalty(self.l2, w[:-1])

    def gradient(self, w: Vector, X: Matrix, y: NDArray[Any], out: Vector) -> None:
        """Writes the gradient of `loss` into out (d + 1,)."""
        residual = self._predict(w, X)
        np.subtract(residual, y, out=residual, casting="same_kind")
        residual /= len(y)
        np.dot(residual, np.asarray(X, self.dtype), out=out[:-1])
        out[-1] = np.add.reduce(residual)
        if self.l2:
            out[:-1] += self.l2 * w[:-1]

    def _predict(self, w: Vector, X: Matrix) -> Vector:
        predicted: Vector = np.dot(np.asarray(X, self.dtype), w[:-1])
        predicted += w[-1]
        return predicted
