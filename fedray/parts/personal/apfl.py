"""APFL: a mixture of a personal and the global model, whose share can be learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Severity
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.parts.personal.base import FEDAVG, OwnModels, plain_steps
from fedray.parts.personal.interpolate import mixed
from fedray.types import Floats, Ints, Vector


@dataclass(frozen=True, kw_only=True)
class Apfl(OwnModels):
    """A client uses alpha v_i + (1 - alpha) w and trains v_i so that this mixture is good.

    On every minibatch, from the models before it: w_i <- w_i - lr grad f(w_i);
    v_i <- v_i - lr alpha grad f(u_i) with u_i = alpha v_i + (1 - alpha) w_i; and where it is
    adaptive alpha <- alpha - lr <grad f(u_i), v_i - w_i>, kept within [0, 1].
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="apfl",
        title="Adaptive mixture of a personal and the global model",
        paper="Deng et al. 2020, Adaptive Personalized Federated Learning, algorithm 1 and "
        "equation 10 (arXiv 2003.13461)",
        rule="On each minibatch w_i takes an SGD step, which is all that the server sees, and v_i "
        "one down the loss of the mixture u_i = alpha v_i + (1 - alpha) w_i: "
        "v_i <- v_i - lr alpha grad f(u_i). adaptive: alpha <- alpha - lr <grad f(u_i), "
        "v_i - w_i>, within [0, 1], for every client by itself.",
        values={**FEDAVG, "personal": {"kind": "apfl", "alpha": 0.5, "adaptive": False}},
        proof="Equal to an independent reference, full batch, step by step, with a fixed and "
        "with an adaptive alpha; alpha = 0 is the global model, and the global run is FedAvg's.",
        differs="FedTorch, the authors' code, learns alpha once per round with a penalty "
        "0.02 alpha that the paper does not have; PFLlib leaves the factor alpha out of the step "
        "of v_i. v_i starts at the model of the client's first job.",
        family="personalisation",
    )
    replaces: ClassVar[bool] = True
    kind: Literal["apfl"] = "apfl"
    alpha: Annotated[Severity, Doc("share of v_i in the mixture, at first if adaptive")] = 0.5
    adaptive: Annotated[
        bool, Doc("every client learns its own alpha; costs a second vector of memory")
    ] = False

    @property
    def state_vectors(self) -> int:
        """v_i, and where it is learned a vector that begins with alpha."""
        return 1 + self.adaptive

    def conflict(self, config: Any) -> tuple[str, str] | None:
        return plain_steps(config)

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        return walk

    def train(self, job: Local, method: Method) -> Outcome:
        """Algorithm 1, lines 3 to 8."""
        w, steps = job.base.copy(), 0
        alpha, v = self._remembered(job)
        v, lr = v.copy(), w.dtype.type(job.lr)
        for gradient in job.gradients():
            slope = gradient(mixed(alpha, v, w))
            share = w.dtype.type(alpha)
            if self.adaptive:
                moved = alpha - job.lr * float(np.dot(slope, v - w))
                alpha = float(w.dtype.type(min(1.0, max(0.0, moved))))
            v -= lr * share * slope
            w -= lr * gradient(w)
            steps += 1
        kept = np.zeros((self.state_vectors, len(w)), w.dtype)
        kept[0] = v
        if self.adaptive:
            kept[1, 0] = alpha
        return Outcome(w, steps, own=kept)

    def own(self, job: Local) -> Vector:
        alpha, v = self._remembered(job)
        return mixed(alpha, v, job.base)

    def _remembered(self, job: Local) -> tuple[float, Vector]:
        """alpha and v_i; before the first job the configured one and the downloaded model."""
        if job.own is None:
            return self.alpha, job.base
        return (float(job.own[1, 0]) if self.adaptive else self.alpha), job.own[0]
