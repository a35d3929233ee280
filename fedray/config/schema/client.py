"""Local training: `client`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from fedray.parts.fields import Count, Doc, Strict
from fedray.parts.stragglers import Stragglers


@dataclass(frozen=True, kw_only=True)
class Client(Strict):
    """Local training: minibatch SGD from the downloaded model."""

    epochs: Annotated[float, Gt(0), Doc("passes over the client's shard; may be fractional")] = 1.0
    steps: Annotated[Count | None, Doc("number of minibatch steps, instead of epochs")] = None
    batch_size: Annotated[Count | Literal["full"], Doc("samples per step")] = 32
    lr: Annotated[float, Gt(0), Doc("step size")] = 0.1
    lr_decay: Annotated[
        float, Gt(0), Le(1), Doc("step size is lr * lr_decay^version of the downloaded model")
    ] = 1.0
    momentum: Annotated[float, Ge(0), Lt(1), Doc("heavy ball, starts anew with every job")] = 0.0
    weight_decay: Annotated[float, Ge(0), Doc("adds weight_decay * w to every gradient")] = 0.0
    prox_mu: Annotated[
        float, Ge(0), Doc("FedProx: adds prox_mu * (w - w_downloaded) to every gradient")
    ] = 0.0
    stragglers: Stragglers = field(default_factory=Stragglers)
