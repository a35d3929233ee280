"""What secure aggregation is: the server learns a sum and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Strict


@dataclass(frozen=True, kw_only=True)
class Secure(Strict):
    """A protocol, and what its messages weigh."""

    kind: str
    ALGORITHM: ClassVar[Algorithm | None] = None
    """How users pick it by name."""

    def bytes_up(self, size: int, dtype: np.dtype[Any], parties: int) -> int:
        """That a client sends in place of its update (P,), of so many clients in a round."""
        return size * dtype.itemsize

    def bytes_down(self, parties: int) -> int:
        """That a client gets besides the model."""
        return 0


@dataclass(frozen=True, kw_only=True)
class NotSecure(Secure):
    """The server gets every update by itself."""

    kind: Literal["none"] = "none"
