"""Ways to sum updates without a look at any of them, by name: one line each."""

from __future__ import annotations

from fedray.parts.secure.base import NotSecure, Secure
from fedray.parts.secure.bonawitz import Bonawitz

SECURE: tuple[type[Secure], ...] = (
    NotSecure,
    Bonawitz,
)
