"""What the adapter needs of scikit-learn's estimators: make, fit, take apart, put together."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.errors import InputError, nearest
from fedray.rng import Stream, generator
from fedray.types import Matrix

Fit = Literal["partial", "full"]


def parameters(estimator: Any) -> dict[str, NDArray[Any]]:
    """The coefficients of a fitted estimator by name: not copied; empty if it has none."""
    if hasattr(estimator, "coefs_"):
        coefs = {f"coef_{i}": part for i, part in enumerate(estimator.coefs_)}
        return coefs | {f"intercept_{i}": part for i, part in enumerate(estimator.intercepts_)}
    found = {}
    for name in ("coef", "intercept"):
        value = getattr(estimator, f"{name}_", None)
        if isinstance(value, np.ndarray | np.floating | float):
            found[name] = np.asarray(value)
    return found if "coef" in found else {}


def set_parameters(estimator: Any, parts: dict[str, NDArray[Any]]) -> None:
    """Puts copies of the given coefficients into a fitted estimator, in its own precision."""
    own = parameters(estimator)
    new = {name: np.array(part, own[name].dtype, order="C") for name, part in parts.items()}
    if hasattr(estimator, "coefs_"):
        estimator.coefs_ = [part for name, part in new.items() if name.startswith("coef_")]
        estimator.intercepts_ = [part for name, part in new.items() if name.startswith("inter")]
        return
    for name, part in new.items():
        setattr(estimator, f"{name}_", part if part.ndim else part.item())
        if hasattr(estimator, f"_average_{name}"):  # averaged SGD, before its first step
            setattr(estimator, f"_standard_{name}", part)
            setattr(estimator, f"_average_{name}", np.zeros_like(part))


def construct(config: schema.SklearnModel) -> Any:
    path, params = config.estimator, dict(config.params)
    module_name, _, class_name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"can not import {path!r}: {first_line(error)}; "
            "allowed: an import path like sklearn.linear_model.SGDClassifier",
            key="model.estimator",
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        hint = nearest(class_name, dir(module))
        raise InputError(f"{module_name} has no {class_name!r}{hint}", key="model.estimator")
    if not (isinstance(found, type) and hasattr(found, "fit") and hasattr(found, "get_params")):
        raise InputError(f"{path} is no scikit-learn estimator", key="model.estimator")
    if "random_state" in params:
        raise InputError(
            "random_state can not be set here, it follows from seed", key="model.params"
        )
    try:
        return found(**params)
    except TypeError as error:
        raise InputError(f"{path}: {first_line(error)}", key="model.params") from error


def check_kind(path: str, estimator: Any, classes: int) -> None:
    from sklearn.base import is_classifier, is_regressor

    if not (is_classifier(estimator) if classes else is_regressor(estimator)):
        data = f"the data has {classes} classes" if classes else "the data is a regression"
        kind = "a classifier" if classes else "a regressor"
        raise InputError(f"{path} is not {kind}, {data}", key="model.estimator")


def fit_template(
    estimator: Any, fit: Fit, features: int, classes: int, dtype: np.dtype[Any], variant: int
) -> Any:
    from sklearn.base import clone

    X, y = made_up(features, classes, dtype, variant)
    known = {"classes": np.arange(classes)} if classes and fit == "partial" else {}
    template = seeded(clone(estimator), generator(variant, Stream.INIT))
    try:
        with quiet():
            template = getattr(template, "partial_fit" if fit == "partial" else "fit")(
                X, y, **known
            )
    except (ValueError, TypeError) as error:
        message = f"{type(estimator).__name__}: {first_line(error)}"
        raise InputError(message, key="model.params") from error
    if hasattr(template, "random_state"):
        template.random_state = None
    _forget_training(template)
    return template


def _forget_training(estimator: Any) -> None:
    """Resets step counts and optimiser state to what they are before the first step."""
    if hasattr(estimator, "_optimizer"):
        del estimator._optimizer
        estimator.t_ = estimator.n_iter_ = estimator._no_improvement_count = 0
        estimator.loss_curve_, estimator.best_loss_ = [], np.inf
    elif hasattr(estimator, "t_"):
        estimator.t_ = 1.0


def made_up(
    features: int, classes: int, dtype: np.dtype[Any], variant: int
) -> tuple[Matrix, NDArray[Any]]:
    """Ten samples of every class (twenty of a regression): enough to validate on."""
    rng = generator(variant, Stream.INIT, 1)
    X = rng.standard_normal((10 * (classes or 2), features))
    y = np.arange(len(X)) % classes if classes else X[:, 0] + rng.standard_normal(len(X))
    return X.astype(dtype), y


def outputs(estimator: Any, X: Matrix) -> NDArray[Any]:
    for name in ("decision_function", "predict_proba"):
        if hasattr(estimator, name):
            return np.asarray(getattr(estimator, name)(X))
    return np.asarray(estimator.predict(X))


def decision_logits(estimator: Any, X: Matrix) -> Matrix:
    """decision_function as (C, n); of two classes the first has 0."""
    scores = np.asarray(estimator.decision_function(X), np.float64)
    return np.stack((np.zeros_like(scores), scores)) if scores.ndim == 1 else scores.T.copy()


def fits_jointly(template: Any) -> bool:
    """Whether class probabilities are the softmax of the scores; tried out on some samples."""
    if not hasattr(template, "decision_function") or not hasattr(template, "predict_proba"):
        return hasattr(template, "predict_proba")
    X, _ = made_up(template.n_features_in_, len(template.classes_), np.dtype(np.float64), 2)
    odds = np.exp(template.decision_function(X))
    joint = odds / odds.sum(axis=1, keepdims=True)
    return bool(np.allclose(joint, template.predict_proba(X), atol=1e-5))


def seeded(estimator: Any, rng: np.random.Generator) -> Any:
    if "random_state" in estimator.get_params():
        state = np.random.RandomState(np.random.MT19937(int(rng.integers(2**63))))
        estimator.set_params(random_state=state)
    return estimator


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of convergence, overflow and the like: the caller judges the numbers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def diverged(error: ValueError) -> bool:
    """Whether a ValueError says that the fit left the range of numbers, in scikit-learn's words."""
    return any(word in str(error) for word in ("overflow", "non-finite"))


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
