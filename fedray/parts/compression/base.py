"""What a compressor is: a vector as bytes, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from fedray import rng
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.transforms import Sender, Transform
from fedray.types import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Compressor(Transform):
    """An encoder and its decoder. What arrives is decode(encode(v)); its bytes are counted.

    How long a message is follows from the number of parameters alone, so that the time that it
    takes is known before anything is computed.
    """

    kind: str
    ALGORITHM: ClassVar[Algorithm | None] = None
    """How users pick it by name."""
    contracts: ClassVar[bool] = False
    """Whether E |C(v) - v|^2 <= (1 - d) |v|^2 for some d > 0, at the least while it feeds back."""
    keeps: ClassVar[bool] = False
    """Whether what arrives is close to v coordinate by coordinate, as a model must be."""

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """A vector (P,), all of it finite, as a message of `encoded_bytes`."""
        raise NotImplementedError

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        """What a message says (P,)."""
        raise NotImplementedError

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        """Bytes of a message for P = `size` parameters."""
        raise NotImplementedError

    def carry(self, vector: Vector, rng: np.random.Generator) -> Vector:
        """decode(encode(v)); a vector that is not finite travels as it is, to be refused."""
        if not np.isfinite(vector).all():
            return vector
        return self.decode(self.encode(vector, rng), len(vector), vector.dtype)

    def apply(self, vector: Vector, memory: Matrix, sender: Sender) -> tuple[Vector, Matrix]:
        return self.carry(vector, sender.rng(rng.Stream.COMPRESS)), memory


@dataclass(frozen=True, kw_only=True)
class Feedback(Compressor):
    """A compressor whose sender may keep what it left out, and add it to the next vector.

    a = v + e; sent = C(a); e <- a - sent (Seide et al. 2014; Stich et al. 2018): all that was
    sent, and e, add up to all v. An update that the server refuses leaves e as it was.
    """

    error_feedback: Annotated[
        bool, Doc("the client keeps what was left out and adds it to what it sends next")
    ] = True

    @property
    def memory_vectors(self) -> int:
        return int(self.error_feedback)

    def apply(self, vector: Vector, memory: Matrix, sender: Sender) -> tuple[Vector, Matrix]:
        if not self.error_feedback:
            return super().apply(vector, memory, sender)
        whole = vector + memory[0]
        if not np.isfinite(whole).all():
            return whole, memory
        sent = self.carry(whole, sender.rng(rng.Stream.COMPRESS))
        return sent, (whole - sent)[None]
