"""Local fine-tuning: the server's model, trained a little more at home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, NonNegative
from fedray.parts.local import Local
from fedray.parts.personal.base import FEDAVG, OwnModels, PersonalLr
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class Finetune(OwnModels):
    """The client's own model is the server's after `epochs` passes of SGD over its shard.

    Training does not change by it. Every evaluation starts anew from the server's model; the
    time it takes a client is not part of any job.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="finetune",
        title="FedAvg, and each client trains the result a little more",
        paper="Yu et al. 2020, Salvaging Federated Learning by Local Adaptation, section 3.2 "
        "(arXiv 2002.04758)",
        rule="v_i is what `epochs` passes of SGD over client i's own samples make of the newest "
        "global model w. Training goes on as if nobody did that.",
        values={**FEDAVG, "personal": {"kind": "finetune", "epochs": 1.0}},
        proof="With 0 epochs the models are equal to the bit; on quadratics v_i = m_i + "
        "(1 - lr a_i)^K (w - m_i); the global run has the same bits as without.",
        differs="The paper also freezes layers and uses lower step sizes: set personal.lr, or "
        "fedrep for a head alone.",
        family="personalisation",
    )
    kind: Literal["finetune"] = "finetune"
    epochs: Annotated[
        NonNegative, Doc("passes over the client's training samples; 0: the server's model itself")
    ] = 1.0
    lr: PersonalLr = None

    def own(self, job: Local) -> Vector:
        if not self.epochs:
            return job.base
        return job.tune(job.base, epochs=self.epochs, lr=self.lr).w
