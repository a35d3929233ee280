"""What happens to an update between the client's training and the server: a chain of parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedray import rng
from fedray.parts.fields import Strict
from fedray.types import Matrix, Vector


class Sender(NamedTuple):
    """Whose vector it is, and for which job."""

    client: int
    dispatch: int
    version: int
    """That the client trained from."""
    seed: int
    place: int = 0
    """0: the update; 1, 2, ...: what a method sends besides."""

    def rng(self, stream: rng.Stream) -> np.random.Generator:
        """A generator of the stream for this vector alone."""
        return rng.generator(self.seed, stream, self.client, self.dispatch * 8 + self.place)


@dataclass(frozen=True, kw_only=True)
class Transform(Strict):
    """A pure function of a vector, and of what its sender remembers."""

    @property
    def memory_vectors(self) -> int:
        """Vectors (P,) that a client keeps from job to job for every vector that it sends."""
        return 0

    def apply(self, vector: Vector, memory: Matrix, sender: Sender) -> tuple[Vector, Matrix]:
        """From a vector (P,) and the memory (M, P), zeros at first, to what arrives and the new
        memory. Writes to neither."""
        raise NotImplementedError
