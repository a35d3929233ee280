"""Parameters as they are in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.compression.base import Compressor
from fedray.types import Vector


@dataclass(frozen=True, kw_only=True)
class Nothing(Compressor):
    """No compression: every parameter in the model's own precision."""

    contracts: ClassVar[bool] = True
    keeps: ClassVar[bool] = True
    kind: Literal["none"] = "none"

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        return vector.tobytes()

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        return np.frombuffer(data, dtype).copy()

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        return size * dtype.itemsize
