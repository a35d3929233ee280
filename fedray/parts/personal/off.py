"""No models of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedray.parts.personal.base import Personal


@dataclass(frozen=True, kw_only=True)
class Off(Personal):
    """Everybody uses the server's model, and nothing is held out at the clients."""

    kind: Literal["none"] = "none"
