"""FedPer and FedRep: the last layers stay with the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, Positive
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.parts.personal.base import FEDAVG, Mask, OwnModels, passes
from fedray.types import Floats, Ints, Model, Vector


@dataclass(frozen=True, kw_only=True)
class OwnLayers(OwnModels):
    """The last `layers` layers of an mlp are the client's own and do not travel."""

    replaces: ClassVar[bool] = True
    shared_model: ClassVar[bool] = False
    layers: Annotated[Count, Doc("so many of the last layers stay with the client")] = 1

    @property
    def state_vectors(self) -> int:
        """A vector of which only the client's own layers are not 0."""
        return 1

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """There have to be layers to share, and a walk that knows of no downloaded head."""
        if config.model.kind != "mlp":
            return "model.kind", f"must be mlp: {config.model.kind} has no layers to share"
        if self.layers > len(config.model.hidden):
            return "personal.layers", (
                f"{self.layers} leaves nothing to share; allowed: 1 to the "
                f"{len(config.model.hidden)} hidden layers (model.hidden)"
            )
        if config.compression.down.kind != "none":
            return "compression.down.kind", "must be none: codes are of all layers, also the own"
        if config.client.prox_mu:
            return "client.prox_mu", "must be 0: its steps are its own"
        return None

    def kept(self, model: Model) -> Mask:
        """Coefficients and intercepts of the last layers, which come last by name."""
        places: Any = np.arange(model.size)
        mask = np.zeros(model.size, bool)
        for place in list(model.named(places).values())[-2 * self.layers :]:
            mask[place.reshape(-1).astype(np.int64)] = True
        return mask

    def own(self, job: Local) -> Vector:
        """The shared layers as downloaded with the client's own ones."""
        return job.base if job.own is None else np.where(job.kept, job.own[0], job.base)


@dataclass(frozen=True, kw_only=True)
class FedPer(OwnLayers):
    """Clients train shared and own layers together; the server averages the shared ones."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fedper",
        title="Personal last layers, trained along",
        paper="Arivazhagan et al. 2019, Federated Learning with Personalization Layers, "
        "algorithms 1 and 2 (arXiv 1912.00818)",
        rule="The last layers of a network stay with the client, the others are averaged. Local "
        "SGD moves both at once, from the downloaded layers and the client's own.",
        values={
            **FEDAVG, "model": {"kind": "mlp"}, "personal": {"kind": "fedper", "layers": 1},
        },
        proof="Equal to an independent reference on f(body, head), full batch, step by step; own "
        "layers never reach the server, whose head stays that of version 0.",
        differs="A client that has no layers yet starts from those of version 0, as all do.",
        family="personalisation",
    )  # fmt: skip
    kind: Literal["fedper"] = "fedper"

    def train(self, job: Local, method: Method) -> Outcome:
        start = self.own(job)
        walked = job.tune(start)
        return Outcome(
            walked.w, walked.steps, start=start, own=np.where(job.kept, walked.w, 0)[None]
        )


@dataclass(frozen=True, kw_only=True)
class FedRep(OwnLayers):
    """Clients train their own layers first, the shared ones fixed, and then those."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="fedrep",
        title="A shared representation under personal heads",
        paper="Collins et al. 2021, Exploiting Shared Representations for Personalized Federated "
        "Learning, algorithm 1 (arXiv 2102.07078)",
        rule="A client first trains its own last layers for head_epochs passes, the downloaded "
        "ones fixed; then it trains those as `client` says, its head fixed, and sends them.",
        values={
            **FEDAVG, "model": {"kind": "mlp"}, "client": {"epochs": 1.0},
            "personal": {"kind": "fedrep", "layers": 1, "head_epochs": 10.0},
        },
        proof="Equal to an independent reference on f(body, head), full batch, step by step, "
        "which a walk of both together is not; own layers never reach the server.",
        differs="The authors' code averages heads too, to score them, and trains heads once more "
        "before the last evaluation.",
        family="personalisation",
    )  # fmt: skip
    kind: Literal["fedrep"] = "fedrep"
    head_epochs: Annotated[Positive, Doc("passes over the shard for the own layers per job")] = 10.0

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        return passes(self.head_epochs, sizes)

    def train(self, job: Local, method: Method) -> Outcome:
        """Algorithm 1, lines 6 to 12."""
        head = job.tune(self.own(job), still=~job.kept, epochs=self.head_epochs)
        body = job.tune(head.w, still=job.kept)
        return Outcome(
            body.w, head.steps + body.steps, start=head.w,
            own=np.where(job.kept, body.w, 0)[None],
        )  # fmt: skip
