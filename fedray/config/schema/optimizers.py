"""The server's step from an aggregate: `server.optimizer`, by its `kind`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from fedray.parts.fields import Doc, OneOf, Positive, Strict

ServerLr = Annotated[float, Gt(0), Doc("server step size")]
Beta = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class SgdOptimizer(Strict):
    """w <- w + lr * update."""

    kind: Literal["sgd"] = "sgd"
    lr: ServerLr = 1.0


@dataclass(frozen=True, kw_only=True)
class MomentumOptimizer(Strict):
    """FedAvgM (Hsu et al. 2019): v <- momentum v + update; w <- w + lr v.

    nesterov: w <- w + lr (update + momentum v).
    """

    kind: Literal["momentum"] = "momentum"
    lr: ServerLr = 1.0
    momentum: Beta = 0.9
    nesterov: bool = False


@dataclass(frozen=True, kw_only=True)
class AdamOptimizer(Strict):
    """FedAdam (Reddi et al. 2021, algorithm 2), without bias correction, v_0 = tau^2."""

    kind: Literal["adam"] = "adam"
    lr: ServerLr = 0.1
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    tau: Positive = 1e-3


@dataclass(frozen=True, kw_only=True)
class YogiOptimizer(Strict):
    """FedYogi (Reddi et al. 2021, algorithm 2), v_0 = tau^2."""

    kind: Literal["yogi"] = "yogi"
    lr: ServerLr = 0.01
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    tau: Positive = 1e-3


@dataclass(frozen=True, kw_only=True)
class AdagradOptimizer(Strict):
    """FedAdagrad (Reddi et al. 2021, algorithm 2; beta1 = 0 in their experiments), v_0 = tau^2."""

    kind: Literal["adagrad"] = "adagrad"
    lr: ServerLr = 0.1
    beta1: Beta = 0.0
    tau: Positive = 1e-3


Optimizer = Annotated[
    SgdOptimizer | MomentumOptimizer | AdamOptimizer | YogiOptimizer | AdagradOptimizer,
    OneOf("kind"),
]
