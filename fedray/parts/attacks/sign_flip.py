"""Sign flipping: the update, backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.attacks.base import ByClients
from fedray.parts.fields import Doc, Positive
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class SignFlip(ByClients):
    """Malicious clients train honestly and send -scale times their update (Li et al. 2019).

    With a share m of malicious clients the mean runs backwards from scale = (1 - m) / m on.
    """

    PAPER: ClassVar[str] = (
        "Li et al. 2019, RSA: Byzantine-Robust Stochastic Aggregation Methods (arXiv 1811.03761)"
    )
    kind: Literal["sign_flip"] = "sign_flip"
    scale: Annotated[Positive, Doc("times the length of the honest update")] = 10.0

    def update(self, delta: Vector, generator: np.random.Generator) -> Vector:
        return np.asarray(-self.scale * delta, delta.dtype)
