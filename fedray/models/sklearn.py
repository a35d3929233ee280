"""Any scikit-learn estimator with array coefficients, as a model on a flat vector.

Linear estimators: w = (coef_, intercept_). Networks: w = (coefs_..., intercepts_...).
A template, fitted once to made-up data of the right shape, knows all else that an
estimator needs to predict and to go on training; coefficients are set on copies of it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.errors import FedrayError, InputError
from fedray.models.estimators import (
    Fit,
    check_kind,
    construct,
    decision_logits,
    diverged,
    first_line,
    fit_template,
    fits_jointly,
    made_up,
    outputs,
    parameters,
    quiet,
    seeded,
    set_parameters,
)
from fedray.models.scoring import score_classes, score_logits, score_values
from fedray.types import Matrix, Score, Vector


@dataclass(frozen=True)
class SklearnModel:
    """A picklable adapter; make it with `build_sklearn`. X (n, d), y (n,) int or float."""

    template: Any = field(repr=False, compare=False)
    name: str
    features: int
    classes: int
    fit: Fit
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return sum(part.size for part in parameters(self.template).values())

    def init(self, rng: np.random.Generator) -> Vector:
        """Zeros for linear estimators, the estimator's own random start for networks."""
        if not hasattr(self.template, "coefs_"):
            return np.zeros(self.size, self.dtype)
        # A fit whose steps are too small to change anything leaves the start as it was drawn.
        still = {"solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1}
        network = self._fresh(rng).set_params(**still, early_stopping=False)
        with quiet():
            network.fit(*made_up(self.features, self.classes, self.dtype, 0))
        return self._flat(parameters(network))

    def named(self, w: Vector) -> dict[str, NDArray[Any]]:
        """coef and intercept, or coef_0, ..., intercept_0, ...: views in scikit-learn's shapes."""
        found, start = {}, 0
        for name, part in parameters(self.template).items():
            found[name] = w[start : start + part.size].reshape(part.shape)
            start += part.size
        return found

    def train(
        self, base: Vector, X: Matrix, y: NDArray[Any], *, epochs: int, rng: np.random.Generator
    ) -> Vector:
        """The parameters after local training, (P,).

        partial: `epochs` passes of partial_fit from `base`, with new optimiser state.
        full: fit() of a new estimator; `base` only serves classes that the client lacks.
        A fit that overflows returns nan throughout, to be rejected like any other update
        that is not finite. Raises FedrayError if the estimator refuses the data.
        """
        X = np.asarray(X, self.dtype)
        estimator = self._fresh(rng) if self.fit == "full" else self._with(base, rng)
        try:
            with quiet():
                if self.fit == "full":
                    estimator.fit(X, y)
                for _ in range(epochs if self.fit == "partial" else 0):
                    estimator.partial_fit(X, y)
        except ValueError as error:
            if diverged(error) or not np.isfinite(base).all():
                return np.full(self.size, np.nan, self.dtype)
            raise FedrayError(self._refusal(error, y)) from error
        return self._flat(self._all_classes(estimator, base))

    def score(self, w: Vector, X: Matrix, y: NDArray[Any]) -> Score:
        """Log-loss of predict_proba, or of the softmax of decision_function without one.

        Probabilities are clipped to the smallest normal number. Regression: squared error / 2.
        """
        estimator = self._with(w)
        X = np.asarray(X, self.dtype)
        with quiet():
            if not self.classes:
                return score_values(np.asarray(estimator.predict(X)).reshape(len(y)), y)
            if not hasattr(estimator, "predict_proba"):
                return score_logits(decision_logits(estimator, X), y)
            chance = estimator.predict_proba(X)[np.arange(len(y)), y]
            losses = -np.log(np.maximum(chance, np.finfo(chance.dtype).tiny))
            return score_classes(estimator.predict(X), losses, y, self.classes)

    def _fresh(self, rng: np.random.Generator) -> Any:
        from sklearn.base import clone

        return seeded(clone(self.template), rng)

    def _with(self, w: Vector, rng: np.random.Generator | None = None) -> Any:
        estimator = copy.deepcopy(self.template)
        set_parameters(estimator, self.named(w))
        return seeded(estimator, rng) if rng else estimator

    def _flat(self, parts: dict[str, NDArray[Any]]) -> Vector:
        return np.concatenate([part.ravel() for part in parts.values()]).astype(self.dtype)

    def _refusal(self, error: ValueError, y: NDArray[Any]) -> str:
        present = np.unique(y)
        if self.classes and len(present) == 1:
            return (
                f"{self.name} can not be fitted to a client that only holds class {present[0]}; "
                "use an estimator with partial_fit, or a partition with two classes per client"
            )
        return f"{self.name} refuses a client's data: {first_line(error)}"

    def _all_classes(self, fitted: Any, base: Vector) -> dict[str, NDArray[Any]]:
        """Parameters over all C classes of an estimator that may have seen only some.

        Absent classes keep the coefficients of `base`: no data, no change. Of two
        classes scikit-learn fits one score z; the pair gets (-z, z) where classes are
        fitted one against the rest, and (-z/2, z/2), the same probabilities, where they
        are fitted jointly by a softmax.
        """
        parts = parameters(fitted)
        if not self.classes or len(fitted.classes_) == self.classes:
            return parts
        present = fitted.classes_.astype(int)
        network = hasattr(fitted, "coefs_")
        last = f"_{len(parts) // 2 - 1}"
        whole = {name: part.copy() for name, part in self.named(base).items()}
        for name, part in parts.items():
            if whole[name].ndim == 0 or (network and not name.endswith(last)):
                whole[name] = part
                continue
            if part.ndim < whole[name].ndim:  # RidgeClassifier drops the axis of a single score
                part = part[None]
            # Puts the class on the last axis: networks have it there, linear ones on the first.
            target, source = (whole[name], part) if network else (whole[name].T, part.T)
            if len(present) == 2:
                z = source[..., 0] * (0.5 if fits_jointly(self.template) else 1.0)
                target[..., present[0]], target[..., present[1]] = -z, z
            else:
                target[..., present] = source
        return whole


def build_sklearn(config: schema.SklearnModel, *, features: int, classes: int) -> SklearnModel:
    """The adapter of `config.estimator` for d features and C classes (0: regression).

    Raises InputError: model.estimator for what can not be imported, is no estimator of
    the data's kind, or is not determined by its coefficients; model.params for
    arguments that it refuses; model.fit for partial without partial_fit.
    """
    estimator = construct(config)
    check_kind(config.estimator, estimator, classes)
    fit: Fit = "full"
    if config.fit == "partial" and not hasattr(estimator, "partial_fit"):
        raise InputError(
            f"{config.estimator} has no partial_fit; allowed: full, auto", key="model.fit"
        )
    if config.fit != "full" and hasattr(estimator, "partial_fit"):
        fit = "partial"
    dtype = np.dtype(config.dtype)
    template, other = (fit_template(estimator, fit, features, classes, dtype, i) for i in (0, 1))
    model = SklearnModel(template, config.estimator, features, classes, fit, dtype)
    _check_coefficients(model, other)
    return model


def _check_coefficients(model: SklearnModel, other: Any) -> None:
    """Takes coefficients from one fit to another: they must take the predictions along."""
    reason = "it has no coef_ or coefs_"
    if parameters(other):
        X, _ = made_up(model.features, model.classes, model.dtype, 2)
        try:
            moved = model._with(model._flat(parameters(other)))
            with quiet():
                if np.allclose(outputs(moved, X), outputs(other, X), rtol=1e-3, atol=1e-4):
                    return
            reason = "its predictions do not follow from its coefficients alone"
        except (AttributeError, TypeError, ValueError) as error:
            reason = f"its coefficients can not be set ({first_line(error)})"
    raise InputError(f"{model.name} can not be averaged: {reason}", key="model.estimator")
