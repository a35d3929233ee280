"""Gaussian noise in place of an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.attacks.base import ByClients
from fedray.parts.fields import Doc, Positive
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class Gaussian(ByClients):
    """Malicious clients send Gaussian noise, about `scale` times as long as their update.

    scale |delta| / sqrt(P) z with z ~ N(0, I). Blanchard et al. 2017 draw from N(0, 200^2 I);
    in lengths of the update the noise suits models and step sizes of any scale.
    """

    PAPER: ClassVar[str] = "Blanchard et al. 2017, section 5 (arXiv 1703.02757)"
    kind: Literal["gaussian"] = "gaussian"
    scale: Annotated[Positive, Doc("length of the noise in lengths of the honest update")] = 10.0

    def update(self, delta: Vector, generator: np.random.Generator) -> Vector:
        noise = generator.standard_normal(len(delta))
        length = float(np.linalg.norm(delta.astype(np.float64)))
        return np.asarray(self.scale * length / np.sqrt(len(delta)) * noise, delta.dtype)
