"""A fully connected ReLU network on a flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.models.losses import FLOAT32, cross_entropies, penalty, softmax_residual
from fedray.models.scoring import score_logits, score_values
from fedray.types import Matrix, Score, Vector


@dataclass(frozen=True)
class MlpModel:
    """ReLU layers; loss = mean cross-entropy, or mean squared error / 2, + l2/2 |coefs|^2.

    w = (coef_0 (d, h0), intercept_0 (h0,), coef_1 (h0, h1), ...), coefficients as
    (inputs, outputs) like scikit-learn's `coefs_`. C outputs, or one if classes = 0
    (regression). X (n, d) with n >= 1; y (n,) int in [0, C), or float.
    """

    features: int
    classes: int
    hidden: tuple[int, ...] = (200, 200)
    l2: float = 0.0
    dtype: np.dtype[Any] = FLOAT32

    @property
    def size(self) -> int:
        return self._layout[-1][2]

    @cached_property
    def _layout(self) -> list[tuple[tuple[int, int], int, int]]:
        """Per layer: shape of the coefficients, where they end, where the intercepts end."""
        layout, end = [], 0
        for inputs, outputs in pairwise((self.features, *self.hidden, self.classes or 1)):
            coef_end = end + inputs * outputs
            end = coef_end + outputs
            layout.append(((inputs, outputs), coef_end, end))
        return layout

    def init(self, rng: np.random.Generator) -> Vector:
        """Coefficients N(0, 2 / inputs), intercepts 0 (He et al. 2015, eq. 10, for every layer)."""
        w = np.zeros(self.size)
        for coef, _ in self._layers(w):
            coef[:] = rng.standard_normal(coef.shape) * np.sqrt(2.0 / len(coef))
        return w.astype(self.dtype)

    def named(self, w: Vector) -> dict[str, NDArray[Any]]:
        """coef_0 (d, h0), intercept_0 (h0,), coef_1, ...: views of w."""
        found = {}
        for layer, (coef, intercept) in enumerate(self._layers(w)):
            found[f"coef_{layer}"] = coef
            found[f"intercept_{layer}"] = intercept
        return found

    def score(self, w: Vector, X: Matrix, y: NDArray[Any]) -> Score:
        with np.errstate(all="ignore"):
            output = self._forward(self._layers(w), X)[-1]
            return score_logits(output.T, y) if self.classes else score_values(output[:, 0], y)

    def loss(self, w: Vector, X: Matrix, y: NDArray[Any]) -> float:
        with np.errstate(all="ignore"):
            layers = self._layers(w)
            output = self._forward(layers, X)[-1]
            if self.classes:
                total = float(np.add.reduce(cross_entropies(output.T, y), dtype=np.float64))
            else:
                total = score_values(output[:, 0], y).loss_sum
            return total / len(y) + penalty(self.l2, *(coef for coef, _ in layers))

    def gradient(self, w: Vector, X: Matrix, y: NDArray[Any], out: Vector) -> None:
        """Writes the gradient of `loss` into out (P,). At a kink, ReLU'(0) = 0.

        numpy's floating-point warnings are left on: callers wrap a whole job in np.errstate.
        """
        layers = self._layers(w)
        activations = self._forward(layers, X)
        delta = activations.pop()
        ones = self._residual(delta, y)
        for layer, (grad_coef, grad_intercept) in reversed([*enumerate(self._layers(out))]):
            inputs = activations.pop()
            coef = layers[layer][0]
            np.dot(inputs.T, delta, out=grad_coef)
            np.dot(ones, delta, out=grad_intercept)
            if self.l2:
                grad_coef += self.l2 * coef
            if layer:
                delta = np.dot(delta, coef.T)
                delta *= inputs > 0

    def _residual(self, output: Matrix, y: NDArray[Any]) -> Vector:
        """Turns the output (n, C) into d(mean loss)/d(output), in place; returns n ones."""
        if self.classes:
            return softmax_residual(output.T, y)
        np.subtract(output[:, 0], y, out=output[:, 0], casting="same_kind")
        output /= len(y)
        return np.ones(len(y), self.dtype)

    def _forward(self, layers: list[tuple[Matrix, Vector]], X: Matrix) -> list[Matrix]:
        """X and the output of every layer, (n, units) each."""
        activations = [np.asarray(X, self.dtype)]
        for layer, (coef, intercept) in enumerate(layers):
            Z = np.dot(activations[-1], coef)
            Z += intercept
            if layer < len(layers) - 1:
                np.maximum(Z, 0, out=Z)
            activations.append(Z)
        return activations

    def _layers(self, w: Vector) -> list[tuple[Matrix, Vector]]:
        """Views of w: coefficients (inputs, outputs) and intercepts (outputs,) per layer."""
        layers, start = [], 0
        for shape, coef_end, end in self._layout:
            layers.append((w[start:coef_end].reshape(shape), w[coef_end:end]))
            start = end
        return layers
