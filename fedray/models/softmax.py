"""Multinomial logistic regression on a flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.models.losses import FLOAT32, cross_entropies, penalty, softmax_residual
from fedray.models.scoring import score_logits
from fedray.types import Matrix, Score, Vector


@dataclass(frozen=True)
class SoftmaxModel:
    """loss = mean cross-entropy of softmax(X coef.T + intercept) + l2/2 |coef|^2.

    w = (coef (C, d) by rows, intercept (C,)). X (n, d) with n >= 1, y (n,) int in [0, C).
    All C rows are free, as in scikit-learn's LogisticRegression.
    """

    features: int
    classes: int
    l2: float = 0.0
    initial: Literal["zeros", "normal"] = "zeros"
    dtype: np.dtype[Any] = FLOAT32

    @property
    def size(self) -> int:
        return self.classes * (self.features + 1)

    def init(self, rng: np.random.Generator) -> Vector:
        """Zeros, or N(0, 0.01^2) coefficients with zero intercepts."""
        w = np.zeros(self.size)
        if self.initial == "normal":
            w[: -self.classes] = 0.01 * rng.standard_normal(self.classes * self.features)
        return w.astype(self.dtype)

    def named(self, w: Vector) -> dict[str, NDArray[Any]]:
        """coef (C, d), intercept (C,): views of w."""
        return {
            "coef": w[: -self.classes].reshape(self.classes, self.features),
            "intercept": w[-self.classes :],
        }

    def score(self, w: Vector, X: Matrix, y: NDArray[Any]) -> Score:
        with np.errstate(all="ignore"):
            return score_logits(self._logits(w, np.asarray(X, self.dtype)), y)

    def loss(self, w: Vector, X: Matrix, y: NDArray[Any]) -> float:
        with np.errstate(all="ignore"):
            losses = cross_entropies(self._logits(w, np.asarray(X, self.dtype)), y)
            mean = float(np.add.reduce(losses, dtype=np.float64)) / len(y)
            return mean + penalty(self.l2, w[: -self.classes])

    def gradient(self, w: Vector, X: Matrix, y: NDArray[Any], out: Vector) -> None:
        """Writes the gradient of `loss` into out (P,): two matrix products and little else.

        numpy's floating-point warnings are left on, since turning them off would cost a
        tenth of a small step: callers wrap a whole job in np.errstate.
        """
        X = np.asarray(X, self.dtype)
        Z = self._logits(w, X)
        ones = softmax_residual(Z, y)
        weights = self.classes * self.features
        np.dot(Z, X, out=out[:weights].reshape(self.classes, self.features))
        np.dot(Z, ones, out=out[weights:])
        if self.l2:
            out[:weights] += self.l2 * w[:weights]

    def _logits(self, w: Vector, X: Matrix) -> Matrix:
        """coef X.T + intercept, (C, n), in blocks of rows that suit OpenBLAS's small kernels.

        Those stop near 300^2 numbers per factor and 100^3 products and are 2 to 3 times
        faster than what follows; the block only depends on C and d, so results do too.
        """
        coef, n = w[: -self.classes].reshape(self.classes, self.features), len(X)
        block = min(80_000, 800_000 // self.classes) // self.features
        if n <= block or block < 16:
            Z: Matrix = np.dot(coef, X.T)
        else:
            Z = np.empty((self.classes, n), self.dtype)
            for i in range(0, n, block):
                np.matmul(coef, X[i : i + block].T, out=Z[:, i : i + block])
        Z += w[-self.classes :, None]
        return Z
