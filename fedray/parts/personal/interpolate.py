"""Interpolation of a local and the global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Severity
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.parts.personal.base import FEDAVG, OwnEpochs, OwnVector, PersonalLr, passes
from fedray.types import Floats, Ints, Vector


@dataclass(frozen=True, kw_only=True)
class Interpolate(OwnVector):
    """alpha v_i + (1 - alpha) w, with v_i trained on the client's own samples only.

    v_i goes on from job to job and never hears of the others again.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="interpolate",
        title="A mixture of a local and the global model",
        paper="Mansour et al. 2020, Three Approaches for Personalization with Applications to "
        "Federated Learning, section 5 (arXiv 2002.10619)",
        rule="Beside its job a client goes on with SGD on a model v_i that is nobody else's. It "
        "uses alpha v_i + (1 - alpha) w, with the newest global model w.",
        values={**FEDAVG, "personal": {"kind": "interpolate", "alpha": 0.5}},
        proof="alpha = 0 is the global model and alpha = 1 local training, both to the bit; "
        "equal to an independent reference, full batch, step by step.",
        differs="The paper (MAPPER) mixes predictions, and chooses alpha and v_i together; here "
        "parameters are mixed, by one alpha for all. apfl learns alpha.",
        family="personalisation",
    )
    kind: Literal["interpolate"] = "interpolate"
    alpha: Annotated[Severity, Doc("share of the local model; 0: the global one, 1: local")] = 0.5
    epochs: OwnEpochs = None
    lr: PersonalLr = None

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        return walk if self.epochs is None else passes(self.epochs, sizes)

    def train(self, job: Local, method: Method) -> Outcome:
        trained = method.train(job)
        walked = job.tune(super().own(job), epochs=self.epochs, lr=self.lr)
        return trained._replace(own=walked.w[None])

    def own(self, job: Local) -> Vector:
        return mixed(self.alpha, super().own(job), job.base)


def mixed(alpha: float, v: Vector, w: Vector) -> Vector:
    """alpha v + (1 - alpha) w, exactly v or w at the ends, in their precision."""
    if alpha in (0, 1):
        return v if alpha else w
    share = v.dtype.type(alpha)
    found: Vector = share * v + (1 - share) * w
    return found
