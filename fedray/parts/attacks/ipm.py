"""Inner product manipulation: against the mean of the honest updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.attacks.base import ALONE, ByClients
from fedray.parts.fields import Doc, Positive
from fedray.types import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Ipm(ByClients):
    """All malicious clients send -epsilon times the mean of the honest updates (Xie et al. 2020).

    Small, it hides among the honest ones and slows the model down; with m of n updates the mean
    runs backwards from epsilon = (n - m) / m on. Acts at the server, knowing all honest updates.
    """

    PAPER: ClassVar[str] = (
        "Xie et al. 2020, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product "
        "Manipulation, section 4 (arXiv 1903.03936)"
    )
    omniscient: ClassVar[bool] = True
    refuses: ClassVar[Mapping[str, str]] = {"async": ALONE}
    kind: Literal["ipm"] = "ipm"
    epsilon: Annotated[Positive, Doc("times the mean of the honest updates, backwards")] = 0.5

    def collude(self, honest: Matrix, malicious: int) -> Vector:
        return np.asarray(-self.epsilon * honest.mean(axis=0), honest.dtype)
