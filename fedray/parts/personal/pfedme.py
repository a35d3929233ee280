"""pFedMe: Moreau envelopes instead of local objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, Positive
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.parts.personal.base import OwnVector, plain_steps
from fedray.types import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class PFedMe(OwnVector):
    """Client i walks down its Moreau envelope min_theta f_i(theta) + pull / 2 |theta - w|^2.

    For every minibatch, `inner_steps` times theta_i <- theta_i - lr (grad f(theta_i) +
    pull (theta_i - w_i)), then w_i <- w_i - client.lr pull (w_i - theta_i). The server takes the
    w_i, its step size server.optimizer.lr is the paper's beta; theta_i is the client's own model.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="pfedme",
        title="Personal models by Moreau envelopes",
        paper="Dinh et al. 2020, Personalized Federated Learning with Moreau Envelopes, "
        "algorithm 1 (arXiv 2006.08848)",
        rule="For each minibatch a client brings theta_i near the minimum of f(theta) + "
        "pull / 2 |theta - w_i|^2 by inner_steps gradient steps of size personal.lr, and then "
        "steps w_i <- w_i - client.lr pull (w_i - theta_i). The server: "
        "w <- (1 - beta) w + beta mean w_i, beta being server.optimizer.lr.",
        values={
            "method": {"kind": "plain"},
            "client": {"lr": 0.005},
            "personal": {"kind": "pfedme", "pull": 15.0, "inner_steps": 5, "lr": 0.05},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="Equal to an independent reference, full batch, step by step, with beta other "
        "than 1; with many inner steps theta_i is the minimum (a_i m_i + pull w) / (a_i + pull).",
        differs="As in the authors' code, theta_i goes on from minibatch to minibatch and starts "
        "every job at the downloaded model.",
        family="personalisation",
    )
    replaces: ClassVar[bool] = True
    kind: Literal["pfedme"] = "pfedme"
    pull: Annotated[Positive, Doc("lambda of the Moreau envelope")] = 15.0
    inner_steps: Annotated[Count, Doc("K: gradient steps of theta_i per minibatch")] = 5
    lr: Annotated[Positive, Doc("step size of theta_i; that of w_i is client.lr")] = 0.05

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """Own steps, and those of theta_i and w_i towards one another must not overshoot."""
        for key, lr in (("personal.lr", self.lr), ("client.lr", config.client.lr)):
            if lr * self.pull >= 2:
                return key, (
                    f"{lr:g} is too much with a pull of {self.pull:g}: the models would diverge; "
                    f"allowed: less than 2 / pull = {2 / self.pull:g}"
                )
        return plain_steps(config)

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        return (self.inner_steps - 1) * walk

    def train(self, job: Local, method: Method) -> Outcome:
        """Algorithm 1, lines 4 to 8."""
        w, theta, steps = job.base.copy(), job.base.copy(), 0
        real = w.dtype.type
        inner, outer, pull = real(self.lr), real(job.lr * self.pull), real(self.pull)
        for gradient in job.gradients():
            for _ in range(self.inner_steps):
                theta -= inner * (gradient(theta) + pull * (theta - w))
            w -= outer * (w - theta)
            steps += 1
        return Outcome(w, steps, own=theta[None])
