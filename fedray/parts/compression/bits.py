"""Whole numbers as bits in bytes, lowest bit first, and figures that are never rounded down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.types import Floats, Ints


def packed_bytes(bits: int, count: int) -> int:
    """Bytes of `count` numbers of so many bits."""
    return -(-bits * count // 8)


def pack(values: NDArray[Any], bits: int) -> bytes:
    """Whole numbers in [0, 2^bits), (n,), one after the other; the last byte is filled with 0."""
    table = (values.astype(np.uint32)[:, None] >> np.arange(bits, dtype=np.uint32)) & 1
    return np.packbits(table.astype(np.uint8), bitorder="little").tobytes()


def unpack(data: bytes, bits: int, count: int) -> Ints:
    """The numbers (count,) that were packed."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=bits * count, bitorder="little")
    table = flat.reshape(count, bits)
    found = np.zeros(count, np.int64)
    for bit in range(bits):
        found |= table[:, bit].astype(np.int64) << bit
    return found


def index_bits(size: int) -> int:
    """Bits of one index below `size`."""
    return max(1, (size - 1).bit_length())


def places_bytes(size: int, count: int) -> int:
    """Bytes of which `count` of `size` coordinates are meant: a list, or a map if that is less."""
    return packed_bytes(min(index_bits(size) * count, size), 1)


def pack_places(places: Ints, size: int) -> bytes:
    """Which coordinates, in increasing order, are meant."""
    if index_bits(size) * len(places) < size:
        return pack(places, index_bits(size))
    marked = np.zeros(size, np.uint8)
    marked[places] = 1
    return np.packbits(marked, bitorder="little").tobytes()


def unpack_places(data: bytes, size: int, count: int) -> Ints:
    """The coordinates that were packed, in increasing order."""
    if index_bits(size) * count < size:
        return unpack(data, index_bits(size), count)
    marked = np.unpackbits(np.frombuffer(data, np.uint8), count=size, bitorder="little")
    return np.flatnonzero(marked).astype(np.int64)


def upwards(values: Floats) -> NDArray[np.float32]:
    """As float32, rounded up: a bound stays a bound."""
    near = values.astype(np.float32)
    return np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)
