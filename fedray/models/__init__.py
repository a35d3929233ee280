"""Models as pure functions of a flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedray import types
from fedray.config import schema
from fedray.errors import InputError
from fedray.models.linear import LinearModel
from fedray.models.mlp import MlpModel
from fedray.models.scoring import add_scores, metrics
from fedray.models.softmax import SoftmaxModel

__all__ = [
    "MODELS",
    "LinearModel",
    "MlpModel",
    "SoftmaxModel",
    "add_scores",
    "build_model",
    "metrics",
]


def build_model(config: schema.Model, *, features: int, classes: int) -> types.Model:
    """The model that a configuration describes, for d features and C classes (0: regression).

    Raises InputError (model.kind, model.estimator, model.params, model.fit) where model
    and data do not fit each other. All kinds but `sklearn` are DifferentiableModels.
    """
    if classes == 1:
        raise InputError(
            f"{config.kind} needs at least two classes, the data has one", key="model.kind"
        )
    return MODELS[type(config)](config, features, classes)


def _linear(config: schema.LinearModel, features: int, classes: int) -> LinearModel:
    if classes:
        raise InputError(
            f"linear is a regression, the data has {classes} classes; "
            "allowed: softmax, mlp, or sklearn with a classifier",
            key="model.kind",
        )
    return LinearModel(features, config.l2, config.init, np.dtype(config.dtype))


def _softmax(config: schema.SoftmaxModel, features: int, classes: int) -> SoftmaxModel:
    if not classes:
        raise InputError(
            "softmax needs classes, the labels of the data are real numbers; "
            "allowed: linear, mlp, or sklearn with a regressor",
            key="model.kind",
        )
    return SoftmaxModel(features, classes, config.l2, config.init, np.dtype(config.dtype))


def _mlp(config: schema.MlpModel, features: int, classes: int) -> MlpModel:
    return MlpModel(features, classes, tuple(config.hidden), config.l2, np.dtype(config.dtype))


def _sklearn(config: schema.SklearnModel, features: int, classes: int) -> types.Model:
    from fedray.models.sklearn import build_sklearn

    return build_sklearn(config, features=features, classes=classes)


MODELS: dict[type, Callable[[Any, int, int], types.Model]] = {
    schema.LinearModel: _linear,
    schema.SoftmaxModel: _softmax,
    schema.MlpModel: _mlp,
    schema.SklearnModel: _sklearn,
}
"""Which builder makes a model of which record: add a kind of model here."""
