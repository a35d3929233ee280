"""Qualities by name: one line each."""

from __future__ import annotations

from fedray.parts.quality.base import Quality
from fedray.parts.quality.plain import Alike, Cosine, Loss, Validation
from fedray.parts.quality.shapley import Shapley

QUALITIES: tuple[type[Quality], ...] = (
    Alike,
    Validation,
    Loss,
    Cosine,
    Shapley,
)
