"""Kinds of differential privacy by name: one line each."""

from __future__ import annotations

from fedray.parts.privacy.base import Privacy
from fedray.parts.privacy.central import Central
from fedray.parts.privacy.local import LocalNoise
from fedray.parts.privacy.none import NoPrivacy

PRIVACIES: tuple[type[Privacy], ...] = (
    NoPrivacy,
    Central,
    LocalNoise,
)
