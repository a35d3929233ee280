"""Sparsification: few coordinates travel, in full precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le

from fedray import rng as streams
from fedray.parts.cards import Algorithm
from fedray.parts.compression.base import Feedback
from fedray.parts.compression.bits import pack_places, places_bytes, unpack_places
from fedray.parts.fields import Doc
from fedray.types import Ints, Vector

_SEED_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Sparse(Feedback):
    """k = fraction P coordinates, at least one."""

    contracts: ClassVar[bool] = True
    fraction: Annotated[float, Gt(0), Le(1), Doc("share of the coordinates that travel")] = 0.01

    def count(self, size: int) -> int:
        """k"""
        return max(1, math.floor(self.fraction * size + 0.5))


@dataclass(frozen=True, kw_only=True)
class TopK(Sparse):
    """The k coordinates of largest absolute value, and where they are."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="topk",
        title="The largest coordinates only, with error feedback",
        paper="Stich et al. 2018, Sparsified SGD with Memory, algorithm 1 (arXiv 1809.07599); "
        "Aji and Heafield 2017 (arXiv 1704.05021)",
        rule="A client sends the k = fraction P coordinates of a = delta + e that are largest in "
        "absolute value, and keeps the rest: e <- a - top_k(a). The server averages what arrives. "
        "A message is k values and k indices of ceil(log2 P) bits, or a map of P bits where that "
        "is shorter.",
        values={
            "compression": {"up": {"kind": "topk", "fraction": 0.01, "error_feedback": True}},
            "server": {"optimizer": {"kind": "sgd", "lr": 1.0}},
        },
        proof="Round trip and length of every message; |v - top_k(v)|^2 <= (1 - k/P) |v|^2; all "
        "that was sent and what is kept add up to all updates; equal to a few-line reference, "
        "step by step.",
        differs="The paper compresses single gradients, here it is the update of a whole job. "
        "Where a client is asked seldom, what it keeps is old when it is sent. A client whose "
        "update is refused (late, stale) keeps what it had before that job.",
        family="communication",
    )
    kind: Literal["topk"] = "topk"

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        places = self._places(vector)
        return vector[places].tobytes() + pack_places(places, len(vector))

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        count = self.count(size)
        cut = count * dtype.itemsize
        found = np.zeros(size, dtype)
        found[unpack_places(data[cut:], size, count)] = np.frombuffer(data[:cut], dtype)
        return found

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        return self.count(size) * dtype.itemsize + places_bytes(size, self.count(size))

    def _places(self, vector: Vector) -> Ints:
        """In increasing order. Of equal ones the first: the same on every processor."""
        count, lengths = self.count(len(vector)), np.abs(vector)
        least = np.partition(lengths, len(vector) - count)[len(vector) - count]
        above = np.flatnonzero(lengths > least)
        equal = np.flatnonzero(lengths == least)[: count - len(above)]
        return np.sort(np.concatenate([above, equal]))


@dataclass(frozen=True, kw_only=True)
class RandomK(Sparse):
    """k coordinates at random. A seed travels in place of where they are.

    Without error feedback the values are scaled by P / k: then E C(v) = v.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="randomk",
        title="Coordinates at random, unbiased",
        paper="Konecny et al. 2016, Federated Learning: Strategies for Improving Communication "
        "Efficiency, section 3 (arXiv 1610.05492); Stich et al. 2018 (arXiv 1809.07599)",
        rule="A client sends k = fraction P coordinates of its update, drawn anew for every "
        "message, times P / k, so that the server's mean is unbiased. With error_feedback the "
        "values are not scaled and the client keeps the rest. A message is a seed of 8 bytes, "
        "from which the receiver draws the same coordinates, and k values.",
        values={
            "compression": {"up": {"kind": "randomk", "fraction": 0.1, "error_feedback": False}},
            "server": {"optimizer": {"kind": "sgd", "lr": 1.0}},
        },
        proof="Round trip and length of every message; the mean over many seeds is the vector; "
        "with error feedback all that was sent and what is kept add up to all updates.",
        differs="Unscaled and without memory, as some code has it, the update shrinks to k / P of "
        "its length; that choice is not offered.",
        family="communication",
    )
    kind: Literal["randomk"] = "randomk"

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        seed = int(rng.integers(1 << 63))
        places = self._places(seed, len(vector))
        scale = 1.0 if self.error_feedback else len(vector) / len(places)
        values = vector[places] * vector.dtype.type(scale)
        return seed.to_bytes(_SEED_BYTES, "little") + values.tobytes()

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        found = np.zeros(size, dtype)
        seed = int.from_bytes(data[:_SEED_BYTES], "little")
        found[self._places(seed, size)] = np.frombuffer(data[_SEED_BYTES:], dtype)
        return found

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        return _SEED_BYTES + self.count(size) * dtype.itemsize

    def _places(self, seed: int, size: int) -> Ints:
        drawn = streams.generator(seed, streams.Stream.COORDINATES)
        return np.sort(drawn.choice(size, self.count(size), replace=False, shuffle=False))
