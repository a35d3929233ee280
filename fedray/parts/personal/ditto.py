"""Ditto: a model of one's own, tied to the global one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, NonNegative
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.parts.personal.base import FEDAVG, OwnEpochs, OwnVector, PersonalLr, passes
from fedray.types import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Ditto(OwnVector):
    """Beside its job a client trains v_i on F_i(v) + pull / 2 |v - w|^2, w the downloaded model.

    v_i <- v_i - lr (grad F_i(v_i) + pull (v_i - w)). The global model comes about as without.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="ditto",
        title="Personal models tied to the global one",
        paper="Li et al. 2021, Ditto: Fair and Robust Federated Learning Through "
        "Personalization, algorithm 1 (arXiv 2012.04221)",
        rule="A client trains the global model as any method has it, and then its own: "
        "v_i <- v_i - lr (grad F_i(v_i) + pull (v_i - w)), w the model that it downloaded. "
        "pull = 0 is local training, a large one the global model.",
        values={**FEDAVG, "personal": {"kind": "ditto", "pull": 0.1}},
        proof="Equal to an independent reference, full batch, step by step; settles at "
        "(a_i m_i + pull w) / (a_i + pull) on quadratics; the global run has the same bits as "
        "without; pull = 0 is local training.",
        differs="v_i starts at the model of the client's first job, where the paper starts all "
        "at w_0. A step must be small beside the pull: lr pull < 2.",
        family="personalisation",
    )
    kind: Literal["ditto"] = "ditto"
    pull: Annotated[NonNegative, Doc("lambda, how strongly v_i is tied to the global model")] = 0.1
    epochs: OwnEpochs = None
    lr: PersonalLr = None

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """A step that overshoots the model that it is pulled to by more than its distance."""
        lr = self.lr or config.client.lr
        if lr * self.pull >= 2:
            return "personal.pull", (
                f"{self.pull:g} is too much for steps of {lr:g}: v_i would diverge; "
                f"allowed: less than 2 / lr = {2 / lr:g}"
            )
        return None

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        return walk if self.epochs is None else passes(self.epochs, sizes)

    def train(self, job: Local, method: Method) -> Outcome:
        """Algorithm 1, lines 5 to 8; the method draws its minibatches first."""
        trained = method.train(job)
        walked = job.tune(
            self.own(job), pull=self.pull, anchor=job.base, epochs=self.epochs, lr=self.lr
        )
        return trained._replace(own=walked.w[None])
