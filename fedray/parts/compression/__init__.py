"""Compressors by name: one line each."""

from __future__ import annotations

from fedray.parts.compression.base import Compressor
from fedray.parts.compression.nothing import Nothing
from fedray.parts.compression.quantised import Half, Int8, Qsgd
from fedray.parts.compression.sign import Sign
from fedray.parts.compression.sparse import RandomK, TopK

COMPRESSORS: tuple[type[Compressor], ...] = (
    Nothing,
    TopK,
    RandomK,
    Qsgd,
    Sign,
    Half,
    Int8,
)
