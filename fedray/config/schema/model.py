"""What is learned: `model`, by its `kind`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from fedray.parts.fields import Count, Doc, Name, OneOf, Strict

Dtype = Annotated[Literal["float32", "float64"], Doc("precision of parameters and training")]
L2 = Annotated[float, Ge(0), Doc("adds l2/2 * |coef|^2 to the loss; intercepts are free")]


@dataclass(frozen=True, kw_only=True)
class LinearModel(Strict):
    """Least squares: loss = mean (x.coef + intercept - y)^2 / 2."""

    kind: Literal["linear"] = "linear"
    l2: L2 = 0.0
    init: Literal["zeros", "normal"] = "zeros"
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class SoftmaxModel(Strict):
    """Multinomial logistic regression: loss = mean cross-entropy."""

    kind: Literal["softmax"] = "softmax"
    l2: L2 = 0.0
    init: Annotated[
        Literal["zeros", "normal"], Doc("normal: N(0, 0.01^2) coefficients, zero intercepts")
    ] = "zeros"
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class MlpModel(Strict):
    """ReLU layers, He-normal initialisation; cross-entropy, or squared error for regression."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Count, ...], MinLen(1), Doc("widths of the hidden layers")] = (200, 200)
    l2: L2 = 0.0
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class SklearnModel(Strict):
    """Any scikit-learn estimator with array coefficients, by import path.

    fit partial: `client.epochs` passes of partial_fit from the global coefficients;
    full: fit() from scratch (a closed form cannot drift). The client's lr, momentum
    and batch size are then the estimator's own parameters.
    """

    kind: Literal["sklearn"] = "sklearn"
    estimator: Annotated[Name, Doc("import path, e.g. sklearn.linear_model.SGDClassifier")]
    params: Annotated[dict[str, Any], Doc("keyword arguments of the estimator")] = field(
        default_factory=dict
    )
    fit: Annotated[
        Literal["auto", "partial", "full"], Doc("auto: partial where the estimator has partial_fit")
    ] = "auto"
    dtype: Dtype = "float64"


Model = Annotated[LinearModel | SoftmaxModel | MlpModel | SklearnModel, OneOf("kind")]
