"""What a kind of differential privacy is: users are bounded, noise is added, losses accounted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt, Lt

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, Positive, Strict

Noise = Annotated[
    Positive | None,
    Doc("z: standard deviation of the noise over the clipping norm; or give target_epsilon"),
]
Target = Annotated[
    Positive | None,
    Doc("solves for the noise that leaves this epsilon after server.rounds versions"),
]
Delta = Annotated[Annotated[float, Gt(0), Lt(1)] | None, Doc("delta; default 1 / clients^1.1")]
Accountant = Annotated[
    Literal["rdp", "pld"],
    Doc("rdp: Renyi divergences; pld: privacy loss distributions, tighter and slower"),
]


@dataclass(frozen=True, kw_only=True)
class Privacy(Strict):
    """Of users: a client's whole data is what the guarantee is about, not one sample."""

    kind: str
    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = ()
    """What it is published as; users pick these by name."""


@dataclass(frozen=True, kw_only=True)
class Noised(Privacy):
    """What central and local noise have in common."""

    noise_multiplier: Noise = None
    target_epsilon: Target = None
    delta: Delta = None
    accountant: Accountant = "rdp"
