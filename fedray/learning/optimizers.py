"""Server optimizers: what the server does with the aggregated update.

Each is a pure function (config, w, update, state) -> (w', state'), vectors (P,). The
update points from the old model to the new one (w_local - w), so the server ADDS.
State is a dict of named vectors, empty before the first step, kept in checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from fedray.config import schema
from fedray.types import Vector

State: TypeAlias = Mapping[str, Vector]
Step: TypeAlias = Callable[[Any, Vector, Vector, State], tuple[Vector, State]]


def sgd(
    config: schema.SgdOptimizer, w: Vector, update: Vector, state: State
) -> tuple[Vector, State]:
    """w <- w + lr update. With lr = 1 on a mean: FedAvg (McMahan et al. 2017, algorithm 1)."""
    if config.lr == 1.0:
        return w + update, state
    step = config.lr * update
    return np.add(w, step, out=step), state


def momentum(
    config: schema.MomentumOptimizer, w: Vector, update: Vector, state: State
) -> tuple[Vector, State]:
    """v <- beta v + update; w <- w + lr v, or with Nesterov w <- w + lr (update + beta v).

    FedAvgM (Hsu et al. 2019, section 4.3) steps by lr v; the authors' experiments used
    the Nesterov form.
    """
    v = config.momentum * state.get("v", np.zeros_like(w)) + update
    step = update + config.momentum * v if config.nesterov else v
    return w + config.lr * step, {"v": v}


def _adaptive(
    w: Vector, update: Vector, state: State, lr: float, beta1: float, tau: float,
    second: Callable[[Vector, Vector], Vector],
) -> tuple[Vector, State]:  # fmt: skip
    """m <- b1 m + (1 - b1) d; v <- second(v, d^2); w <- w + lr m / (sqrt(v) + tau).

    Reddi et al. 2021, algorithm 2: no bias correction, and v starts at tau^2 (Flower's
    FedAdam starts at 0 and corrects the bias).
    """
    m = beta1 * state.get("m", np.zeros_like(w)) + (1.0 - beta1) * update
    v = second(state.get("v", np.full_like(w, tau**2)), update * update)
    return w + lr * m / (np.sqrt(v) + tau), {"m": m, "v": v}


def adam(
    config: schema.AdamOptimizer, w: Vector, update: Vector, state: State
) -> tuple[Vector, State]:
    """FedAdam: v <- b2 v + (1 - b2) d^2."""
    b2 = config.beta2
    return _adaptive(
        w, update, state, config.lr, config.beta1, config.tau,
        lambda v, squared: b2 * v + (1.0 - b2) * squared,
    )  # fmt: skip


def yogi(
    config: schema.YogiOptimizer, w: Vector, update: Vector, state: State
) -> tuple[Vector, State]:
    """FedYogi: v <- v - (1 - b2) d^2 sign(v - d^2)."""
    b2 = config.beta2
    return _adaptive(
        w, update, state, config.lr, config.beta1, config.tau,
        lambda v, squared: v - (1.0 - b2) * squared * np.sign(v - squared),
    )  # fmt: skip


def adagrad(
    config: schema.AdagradOptimizer, w: Vector, update: Vector, state: State
) -> tuple[Vector, State]:
    """FedAdagrad: v <- v + d^2."""
    return _adaptive(
        w, update, state, config.lr, config.beta1, config.tau,
        lambda v, squared: v + squared,
    )  # fmt: skip


OPTIMIZERS: dict[type, Step] = {
    schema.SgdOptimizer: sgd,
    schema.MomentumOptimizer: momentum,
    schema.AdamOptimizer: adam,
    schema.YogiOptimizer: yogi,
    schema.AdagradOptimizer: adagrad,
}
"""One line per optimizer; it enrols it in the conformance tests."""
