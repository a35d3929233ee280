"""Counter-based randomness: every draw is a pure function of (seed, stream, indices).

Nothing in fedray asks a shared generator for "the next" number, so results can not
depend on who computes what first. Philox (Salmon et al. 2011) takes the key
(seed, stream) and starts at the counter (0, 0, i, j); the two low words leave room
for 2^128 draws before two index pairs could meet.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """What a draw is for. Numbers are part of every recorded result: never renumber."""

    DATA = 1
    SPLIT = 2
    PARTITION = 3
    SHIFT = 4
    DEVICES = 5
    INIT = 6
    SELECT = 7
    JITTER = 8
    DROPOUT = 9
    TRAIN = 10
    AVAILABILITY = 11
    RESHUFFLE = 12
    POOLED = 13
    TARGET = 14
    WALKS = 15
    SEARCH = 16
    COMPRESS = 21
    COORDINATES = 22
    NOISE = 23
    MASKS = 24
    POISSON = 25
    ATTACKERS = 31
    ATTACK = 32
    BUCKETS = 33
    STRAGGLERS = 34
    CLIENT_SPLIT = 41
    PERSONAL = 42
    QUALITY = 51
    VALIDATION = 52


def generator(seed: int, stream: Stream, i: int = 0, j: int = 0) -> np.random.Generator:
    """A fresh generator for (seed, stream, i, j)."""
    return np.random.Generator(_philox(seed, stream, i, j))


def _philox(seed: int, stream: Stream, i: int, j: int) -> np.random.Philox:
    key = ((seed & _MASK) << 64) | int(stream)
    return np.random.Philox(key=key, counter=((i & _MASK) << 128) | ((j & _MASK) << 192))


class Rewindable:
    """One generator that jumps to (i, j) of its stream; 8x cheaper than a new one.

    `at(i, j)` equals `generator(seed, stream, i, j)` draw by draw. The returned
    generator is shared: use it up before the next call.
    """

    def __init__(self, seed: int, stream: Stream) -> None:
        self._bits = _philox(seed, stream, 0, 0)
        self._state: Any = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, i: int, j: int) -> np.random.Generator:
        counter = self._state["state"]["counter"]
        counter[2], counter[3] = i & _MASK, j & _MASK
        self._bits.state = self._state
        return self._generator


class Uniforms:
    """U[0, 1) numbers of one stream, addressed by index, drawn in blocks.

    `at(i)` is amortised to a list lookup. Indices must be mostly increasing for that.
    """

    _BLOCK = 4096

    def __init__(self, seed: int, stream: Stream) -> None:
        self._seed, self._stream = seed, stream
        self._block = -1
        self._values: list[float] = []

    def at(self, index: int) -> float:
        block, offset = divmod(index, self._BLOCK)
        if block != self._block:
            self._values = generator(self._seed, self._stream, block).random(self._BLOCK).tolist()
            self._block = block
        return self._values[offset]
