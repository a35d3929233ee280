"""One bit per coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fedray.parts.cards import Algorithm
from fedray.parts.compression.base import Feedback
from fedray.parts.compression.bits import packed_bytes
from fedray.types import Vector

_SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Sign(Feedback):
    """C(v) = mean |v| sign(v), with sign(0) = 1: a bit per coordinate and one float32."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="efsignsgd",
        title="Signs of the updates, with error feedback",
        paper="Karimireddy et al. 2019, Error Feedback Fixes SignSGD, algorithm 1 "
        "(arXiv 1901.09847)",
        rule="A client sends the signs of a = delta + e and the mean of |a|, a bit per coordinate "
        "and 4 bytes, and keeps e <- a - mean |a| sign(a). The server averages what arrives.",
        values={
            "compression": {"up": {"kind": "sign", "error_feedback": True}},
            "server": {"optimizer": {"kind": "sgd", "lr": 1.0}},
        },
        proof="Round trip and length of every message; |v - C(v)|^2 = |v|^2 - |v|_1^2 / P, the "
        "paper's lemma 8; all that was sent and what is kept add up to all updates.",
        differs="The paper compresses single gradients, here it is the update of a whole job. A "
        "scale per layer, as in the paper's experiments, is not offered.",
        family="communication",
    )
    contracts: ClassVar[bool] = True
    kind: Literal["sign"] = "sign"

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        scale = np.float32(np.mean(np.abs(vector), dtype=np.float64))
        return scale.tobytes() + np.packbits(vector >= 0, bitorder="little").tobytes()

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        scale = np.frombuffer(data[:_SCALE_BYTES], np.float32)[0]
        flat = np.frombuffer(data[_SCALE_BYTES:], np.uint8)
        signs = np.unpackbits(flat, count=size, bitorder="little").astype(dtype)
        return np.asarray((2 * signs - 1) * dtype.type(scale))

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        return _SCALE_BYTES + packed_bytes(1, size)
