"""Quantisation: all coordinates travel, each in few bits, rounded at random without bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from fedray.parts.cards import Algorithm
from fedray.parts.compression.base import Compressor
from fedray.parts.compression.bits import pack, packed_bytes, unpack, upwards
from fedray.parts.fields import Count, Doc
from fedray.types import Floats, Ints, Vector

_SCALE_BYTES = 4
Rounding = Annotated[
    Literal["stochastic", "nearest"], Doc("stochastic: unbiased; nearest: the smallest error")
]


def blocks(vector: Vector, length: int) -> Floats:
    """In float64, cut into rows of a length; the last one is filled with 0."""
    rows = -(-len(vector) // length)
    found = np.zeros(rows * length)
    found[: len(vector)] = vector
    return found.reshape(rows, length)


def steps(
    rows: Floats, scales: NDArray[np.float32], levels: int, rng: np.random.Generator | None
) -> Ints:
    """Rows / scales * levels as whole numbers in [-levels, levels].

    By stochastic rounding, |x| up with chance |x| - floor |x|; without `rng` to the nearest.
    """
    divisors = np.where(scales > 0, scales, 1).astype(np.float64)[:, None]
    lengths = np.abs(rows) / divisors * levels
    low = np.floor(lengths)
    more = (rng.random(rows.shape) if rng else 0.5) < lengths - low
    return np.asarray(np.sign(rows) * np.minimum(low + more, levels), np.int64)


@dataclass(frozen=True, kw_only=True)
class Qsgd(Compressor):
    """QSGD: |v_j| / |v|_2 on a grid of `levels` steps, by stochastic rounding: E C(v) = v.

    C(v)_j = |v|_2 sign(v_j) xi_j / s, with s |v_j| / |v|_2 rounded up or down to xi_j.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="qsgd",
        title="Quantised updates, unbiased",
        paper="Alistarh et al. 2017, QSGD: Communication-Efficient SGD via Gradient Quantization "
        "and Encoding, section 3.1 (arXiv 1610.02132); with FedAvg: Reisizadeh et al. 2020, "
        "FedPAQ (arXiv 1909.13014)",
        rule="Of every coordinate of the update its sign and s |v_j| / |v| travel, rounded at "
        "random to a whole number so that the mean is right, and |v| once per bucket. s = 15 takes "
        "5 bits per coordinate.",
        values={
            "compression": {"up": {"kind": "qsgd", "levels": 15, "bucket_size": 128}},
            "server": {"optimizer": {"kind": "sgd", "lr": 1.0}},
        },
        proof="Round trip and length of every message; the mean over many seeds is the vector; "
        "the variance is within the paper's bound min(n / s^2, sqrt(n) / s) |v|^2.",
        differs="Coordinates take ceil(log2(2 s + 1)) bits each. The paper's Elias code is "
        "shorter on average, but then a message's length, and so the time it takes, would depend "
        "on what was computed. Norms travel as float32, rounded up.",
        family="communication",
    )
    keeps: ClassVar[bool] = True
    kind: Literal["qsgd"] = "qsgd"
    levels: Annotated[int, Ge(1), Le(1 << 15), Doc("s: steps from 0 to the norm")] = 15
    bucket_size: Annotated[
        Count | None, Doc("coordinates that share a norm; null: all of them, as in the theory")
    ] = 128

    @property
    def bits(self) -> int:
        """Of one coordinate: 2 s + 1 values."""
        return (2 * self.levels).bit_length()

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        rows = blocks(vector, self._bucket(len(vector)))
        norms = upwards(np.sqrt(np.einsum("ij,ij->i", rows, rows)))
        found = steps(rows, norms, self.levels, rng).ravel()[: len(vector)]
        return norms.tobytes() + pack(found + self.levels, self.bits)

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        bucket = self._bucket(size)
        cut = -(-size // bucket) * _SCALE_BYTES
        norms = np.frombuffer(data[:cut], np.float32).astype(np.float64)
        found = unpack(data[cut:], self.bits, size) - self.levels
        return (found * (np.repeat(norms, bucket)[:size] / self.levels)).astype(dtype)

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        buckets = -(-size // self._bucket(size))
        return buckets * _SCALE_BYTES + packed_bytes(self.bits, size)

    def _bucket(self, size: int) -> int:
        return min(size, self.bucket_size or size)


@dataclass(frozen=True, kw_only=True)
class Int8(Compressor):
    """A byte per coordinate: v_j / max |v| on -127..127, the maximum once per block as float32."""

    contracts: ClassVar[bool] = True
    keeps: ClassVar[bool] = True
    kind: Literal["int8"] = "int8"
    block_size: Annotated[Count, Doc("coordinates that share a scale")] = 256
    rounding: Rounding = "stochastic"

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        rows = blocks(vector, self.block_size)
        scales = upwards(np.abs(rows).max(axis=1))
        found = steps(rows, scales, 127, rng if self.rounding == "stochastic" else None)
        return scales.tobytes() + found.ravel()[: len(vector)].astype(np.int8).tobytes()

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        cut = -(-size // self.block_size) * _SCALE_BYTES
        scales = np.frombuffer(data[:cut], np.float32).astype(np.float64)
        found = np.frombuffer(data[cut:], np.int8)
        return (found * (np.repeat(scales, self.block_size)[:size] / 127)).astype(dtype)

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        return -(-size // self.block_size) * _SCALE_BYTES + size


@dataclass(frozen=True, kw_only=True)
class Half(Compressor):
    """Two bytes per coordinate: IEEE float16, or bfloat16, the upper half of a float32.

    What is too large for the format becomes its largest number. Of float64 the nearest float32
    is taken first.
    """

    contracts: ClassVar[bool] = True
    keeps: ClassVar[bool] = True
    kind: Literal["float16", "bfloat16"] = "float16"
    rounding: Rounding = "stochastic"

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        drawn = rng if self.rounding == "stochastic" else None
        rounded = _float16 if self.kind == "float16" else _bfloat16
        return rounded(vector, drawn).tobytes()

    def decode(self, data: bytes, size: int, dtype: np.dtype[Any]) -> Vector:
        if self.kind == "float16":
            return np.frombuffer(data, np.float16).astype(dtype)
        upper = np.frombuffer(data, np.uint16).astype(np.uint32) << np.uint32(16)
        return upper.view(np.float32).astype(dtype)

    def encoded_bytes(self, size: int, dtype: np.dtype[Any]) -> int:
        return 2 * size


def _float32(vector: Vector, largest: float) -> NDArray[np.float32]:
    return np.clip(vector, -largest, largest).astype(np.float32)


def _float16(vector: Vector, rng: np.random.Generator | None) -> NDArray[np.float16]:
    """The nearest, or with chance |error| / gap its neighbour on the other side of the value."""
    exact = _float32(vector, float(np.finfo(np.float16).max)).astype(np.float64)
    near = exact.astype(np.float16)
    if rng is None:
        return near
    error = exact - near
    with np.errstate(over="ignore"):  # the neighbour of the largest, which is not taken
        other = np.nextafter(near, np.copysign(np.float16(np.inf), error).astype(np.float16))
    gap = np.abs(other.astype(np.float64) - near)
    return np.where(rng.random(len(exact)) * gap < np.abs(error), other, near)


def _bfloat16(vector: Vector, rng: np.random.Generator | None) -> NDArray[np.uint16]:
    """The upper half of the bits, after something below their last one was added to the lower."""
    bits = _float32(vector, 3.3895313892515355e38).view(np.uint32)
    if rng is None:  # to the nearest, of two the even one
        more = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    else:
        more = rng.integers(0, 1 << 16, len(bits), np.uint32)
    return ((bits + more) >> np.uint32(16)).astype(np.uint16)
